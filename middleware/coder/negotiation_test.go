package coder_test

import (
	"bytes"
	"encoding/binary"
	"io"
	"net"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/arpc-go/arpc"
	"github.com/arpc-go/arpc/arpctest"
	"github.com/arpc-go/arpc/middleware/coder/internal/codertest"
	"github.com/arpc-go/arpc/middleware/coder/s2"
	"github.com/arpc-go/arpc/middleware/coder/zstd"
)

// counted counts what is written to a connection and read from it.
type counted struct {
	net.Conn
	sent, received *atomic.Int64
}

func (c counted) Write(b []byte) (int, error) {
	c.sent.Add(int64(len(b)))
	return c.Conn.Write(b)
}

func (c counted) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	c.received.Add(int64(n))
	return n, err
}

// traffic connects a client and a server with coders, and returns by how much an
// echo got shorter in each direction.
func traffic(t *testing.T, world arpctest.World, server, client []arpc.MessageCoder, payload []byte) (sent, received float64) {
	t.Helper()
	var count counted
	count.sent, count.received = new(atomic.Int64), new(atomic.Int64)
	listen := world.Listen
	world.Listen = func(t testing.TB) (net.Listener, arpc.DialerFunc) {
		ln, dial := listen(t)
		return ln, func() (net.Conn, error) {
			nc, err := dial()
			return counted{nc, count.sent, count.received}, err
		}
	}
	p := arpctest.New(t, world, arpctest.Setup(func(s *arpc.Server, h *arpc.Handler) {
		use(s.Handler, server)
		use(h, client)
		s.Handler.Handle("/echo", func(ctx *arpc.Context) { ctx.Write(ctx.Body()) })
	}))
	count.sent.Store(0)
	count.received.Store(0)
	var rsp []byte
	require.NoError(t, p.Client.Call("/echo", payload, &rsp, wait))
	require.True(t, bytes.Equal(payload, rsp))
	return float64(count.sent.Load()) / float64(len(payload)), float64(count.received.Load()) / float64(len(payload))
}

func use(h *arpc.Handler, coders []arpc.MessageCoder) {
	for _, coder := range coders {
		h.UseCoder(coder)
	}
}

// A coder with a name is used where both ends have it, and else left out.
func TestNegotiation(t *testing.T) {
	words, others := zstd.New(zstd.WithDictionary([]byte("some words"))), zstd.New(zstd.WithDictionary([]byte("other words")))
	list := func(coders ...arpc.MessageCoder) []arpc.MessageCoder { return coders }
	v2, v1 := arpctest.Memory(), arpctest.OldServer(arpctest.Memory())
	for name, c := range map[string]struct {
		world          arpctest.World
		server, client []arpc.MessageCoder
		used           bool
	}{
		"both have zstd":                     {v2, list(zstd.New()), list(zstd.New()), true},
		"both have s2":                       {v2, list(s2.New()), list(s2.New()), true},
		"of two the server has one":          {v2, list(s2.New()), list(zstd.New(), s2.New()), true},
		"of two the client has one":          {v2, list(s2.New(), zstd.New()), list(zstd.New()), true},
		"in another order":                   {v2, list(s2.New(), zstd.New()), list(zstd.New(), s2.New()), true},
		"the same dictionary":                {v2, list(words), list(words), true},
		"another dictionary":                 {v2, list(words), list(others), false},
		"a dictionary at one end":            {v2, list(words), list(zstd.New()), false},
		"the server has none":                {v2, nil, list(zstd.New()), false},
		"the client has none":                {v2, list(zstd.New()), nil, false},
		"one has zstd, the other s2":         {v2, list(zstd.New()), list(s2.New()), false},
		"the server is of version 1":         {v1, list(zstd.New()), list(zstd.New()), false},
		"other levels and thresholds":        {v2, list(zstd.New(zstd.WithLevel(9))), list(zstd.New(zstd.WithThreshold(9))), true},
		"the server is of version 1 as well": {v1, list(s2.New()), list(s2.New()), false},
	} {
		t.Run(name, func(t *testing.T) {
			sent, received := traffic(t, c.world, c.server, c.client, codertest.Orders(50<<10))
			if c.used {
				require.Less(t, sent, 0.7)
				require.Less(t, received, 0.7)
			} else {
				require.Greater(t, sent, 1.0)
				require.Greater(t, received, 1.0)
			}
		})
	}
}

// A frame that a coder cannot decode is answered with an error, and the connection
// goes on.
func TestUndecodableIsAnswered(t *testing.T) {
	for name, c := range map[string]struct {
		coder arpc.MessageCoder
		bit   int
	}{
		"zstd":              {zstd.New(), 6},
		"s2":                {s2.New(), 5},
		"aead":              {newAEAD(), 4},
		"no such coder":     {zstd.New(), 3},
		"s2, but only zstd": {zstd.New(), 5},
	} {
		t.Run(name, func(t *testing.T) {
			p := arpctest.New(t, arpctest.TCP(), arpctest.Setup(func(s *arpc.Server, h *arpc.Handler) {
				s.Handler.UseCoder(c.coder)
				s.Handler.Handle(codertest.Method, func(ctx *arpc.Context) { t.Error("the handler ran") })
			}))
			nc, err := p.Dialer()()
			require.NoError(t, err)
			defer nc.Close()
			require.NoError(t, nc.SetDeadline(time.Now().Add(wait)))
			for range 3 {
				_, err = nc.Write(codertest.Rewritten(c.bit, codertest.Noise(100)))
				require.NoError(t, err)
				head := make([]byte, arpc.HeadLen)
				_, err = io.ReadFull(nc, head)
				require.NoError(t, err)
				rsp := arpc.Message{Buffer: append(head, make([]byte, binary.LittleEndian.Uint32(head))...)}
				_, err = io.ReadFull(nc, rsp.Buffer[arpc.HeadLen:])
				require.NoError(t, err)
				require.Equal(t, byte(arpc.CmdResponse), rsp.Cmd())
				require.True(t, rsp.IsError())
			}
		})
	}
}
