package arpc

import (
	"bytes"
	"io"
	"net"
	"testing"
	"time"

	"github.com/arpc-go/arpc/internal/wire"
	"github.com/stretchr/testify/require"
)

// hasty answers requests when it has seen their headers, before it reads the rest.
func hasty(nc net.Conn, answer []byte) {
	defer nc.Close()
	for {
		var b [wire.HeaderLen]byte
		if _, err := io.ReadFull(nc, b[:]); err != nil {
			return
		}
		h := wire.ParseHeader(b[:])
		switch h.Command() {
		case wire.CmdPing:
			nc.Write(appendFrame(nil, wire.Header{Cmd: wire.CmdPong}, "", payload{}))
		case wire.CmdRequest:
			nc.Write(appendFrame(nil, wire.Header{Cmd: wire.CmdResponse, Seq: h.Seq}, "/x", payload{b: answer}))
		}
		if _, err := io.CopyN(io.Discard, nc, int64(h.BodyLen)); err != nil {
			return
		}
	}
}

// A request is read from its buffer until it is written, though the response that is
// for the same buffer has come.
func TestARequestAndItsResponseMayShareABuffer(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer ln.Close()
	answer := bytes.Repeat([]byte("answer"), 200)
	go func() {
		for {
			nc, err := ln.Accept()
			if err != nil {
				return
			}
			go hasty(nc, answer)
		}
	}()
	c, err := NewClient(func() (net.Conn, error) { return net.Dial("tcp", ln.Addr().String()) })
	require.NoError(t, err)
	defer c.Stop()
	for range 20 {
		buf := bytes.NewBuffer(make([]byte, 4<<20))
		require.NoError(t, c.Call("/x", buf, buf, time.Minute))
		require.Equal(t, answer, buf.Bytes())
		read := bytes.NewBuffer(make([]byte, 4<<20))
		part := read.Next(3 << 20)
		require.NoError(t, c.Call("/x", part, read, time.Minute))
		require.Equal(t, answer, read.Bytes())
	}
}

func TestSharedMemoryIsFound(t *testing.T) {
	memory := make([]byte, 300)
	buf := bytes.NewBuffer(memory[100:200:250])
	buf.Next(50)
	for from, want := range map[[2]int]bool{{0, 100}: false, {0, 101}: true, {120, 130}: true, {160, 300}: true, {249, 250}: true, {250, 300}: false} {
		require.Equal(t, want, sharesMemory(buf, memory[from[0]:from[1]]), from)
	}
	require.False(t, sharesMemory(&memory, memory))
	require.False(t, sharesMemory(new(bytes.Buffer), memory))
}
