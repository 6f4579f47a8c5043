package arpc_test

import (
	"bufio"
	"io"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/arpc-go/arpc/internal/wire"
)

// rowFrame is a frame as it travels.
type rowFrame struct {
	wire.Header
	method, payload string
}

// rowPeer is a scripted end of a connection. What it receives waits in frames;
// pings it answers by itself.
type rowPeer struct {
	t      testing.TB
	nc     net.Conn
	frames chan rowFrame // closed behind the last

	mu sync.Mutex // one frame is written at a time
}

func newRowPeer(t testing.TB, nc net.Conn) *rowPeer {
	p := &rowPeer{t: t, nc: nc, frames: make(chan rowFrame, 4096)}
	gone := make(chan struct{})
	go func() { defer close(gone); p.receive() }()
	t.Cleanup(func() {
		nc.Close()
		for range p.frames {
			continue
		}
		<-gone
	})
	return p
}

// rowScript accepts scripted peers.
func rowScript(t testing.TB, ln net.Listener) <-chan *rowPeer {
	peers := make(chan *rowPeer, 16)
	gone := make(chan struct{})
	go func() {
		defer close(gone)
		for {
			nc, err := ln.Accept()
			if err != nil {
				return
			}
			peers <- newRowPeer(t, nc)
		}
	}()
	t.Cleanup(func() { ln.Close(); <-gone })
	return peers
}

// rowCaller dials a server as a scripted client.
func rowCaller(t testing.TB, ln rowNet) *rowPeer {
	t.Helper()
	nc, err := ln.Dial()
	require.NoError(t, err)
	return newRowPeer(t, nc)
}

func (p *rowPeer) receive() {
	defer close(p.frames)
	r := bufio.NewReader(p.nc)
	for {
		f, err := rowReadFrame(r)
		if err != nil {
			return
		}
		if f.Command() == wire.CmdPing {
			p.write(wire.Header{Cmd: wire.CmdPong}, "", "")
			continue
		}
		p.frames <- f
	}
}

func rowReadFrame(r io.Reader) (f rowFrame, err error) {
	head := make([]byte, wire.HeaderLen)
	if _, err := io.ReadFull(r, head); err != nil {
		return f, err
	}
	f.Header = wire.ParseHeader(head)
	body := make([]byte, f.BodyLen)
	_, err = io.ReadFull(r, body)
	if err == nil {
		f.method, f.payload = string(body[:f.MethodLen]), string(body[f.MethodLen:])
	}
	return f, err
}

// next returns the next frame that the peer receives.
func (p *rowPeer) next() rowFrame {
	p.t.Helper()
	timer := time.NewTimer(rowGuard)
	defer timer.Stop()
	select {
	case f, ok := <-p.frames:
		require.True(p.t, ok, "the connection ended")
		return f
	case <-timer.C:
		require.FailNow(p.t, "no frame has come")
	}
	return rowFrame{}
}

// ended waits until the other end has closed the connection.
func (p *rowPeer) ended() {
	p.t.Helper()
	rowSoon(p.t, "the connection ends", func() {
		for range p.frames {
			continue
		}
	})
}

func (p *rowPeer) write(h wire.Header, method, payload string) error {
	return p.writeRaw(wire.AppendFrame(nil, h, method, payload))
}

func (p *rowPeer) writeRaw(b []byte) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	_, err := p.nc.Write(b)
	return err
}

// answer sends a response to a request.
func (p *rowPeer) answer(f rowFrame, payload string) error {
	return p.write(wire.Header{Cmd: wire.CmdResponse, Flag: f.Flag & wire.FlagAsync, Seq: f.Seq}, f.method, payload)
}

// request sends one.
func (p *rowPeer) request(seq uint64, method, payload string) error {
	return p.write(wire.Header{Cmd: wire.CmdRequest, Seq: seq}, method, payload)
}

// rowSilent accepts connections whose peer reads no more than one header.
func rowSilent(t testing.TB, ln net.Listener) <-chan net.Conn {
	conns := make(chan net.Conn, 16)
	gone := make(chan struct{})
	go func() {
		defer close(gone)
		for {
			nc, err := ln.Accept()
			if err != nil {
				return
			}
			t.Cleanup(func() { nc.Close() })
			conns <- nc
			go func() {
				head := make([]byte, wire.HeaderLen)
				if _, err := io.ReadFull(nc, head); err == nil && wire.ParseHeader(head).Command() == wire.CmdPing {
					nc.Write(wire.AppendFrame(nil, wire.Header{Cmd: wire.CmdPong}, "", ""))
				}
			}()
		}
	}()
	t.Cleanup(func() { ln.Close(); <-gone })
	return conns
}
