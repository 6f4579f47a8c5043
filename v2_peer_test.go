package arpc_test

import (
	"io"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/arpc-go/arpc"
	"github.com/arpc-go/arpc/arpctest"
	"github.com/arpc-go/arpc/internal/memconn"
	"github.com/arpc-go/arpc/internal/wire"
)

const v2Features = wire.FeatureMetadata | wire.FeatureCancel | wire.FeatureWindows | wire.FeatureGoAway

// v2Patience is how long a scripted peer waits, on the fake clock of the tests that
// use one.
const v2Patience = 24 * time.Hour

// v2Peer is a scripted end of a connection. It does nothing by itself.
type v2Peer struct {
	t  testing.TB
	nc net.Conn
}

// String is what a frame is to a test that does not care for more.
func (f rowFrame) String() string { return f.method + " " + f.payload }

// next returns the next frame that the other end sends.
func (p *v2Peer) next() rowFrame {
	p.t.Helper()
	p.nc.SetReadDeadline(time.Now().Add(v2Patience))
	f, err := rowReadFrame(p.nc)
	require.NoError(p.t, err)
	return f
}

// ends requires that nothing comes but the end.
func (p *v2Peer) ends() {
	p.t.Helper()
	p.nc.SetReadDeadline(time.Now().Add(v2Patience))
	rest, err := io.ReadAll(p.nc)
	require.NoError(p.t, err)
	require.Empty(p.t, rest)
}

// hello returns the hello that comes next, of either end.
func (p *v2Peer) hello(cmd byte) wire.Hello {
	p.t.Helper()
	f := p.next()
	require.Equal(p.t, wire.Header{BodyLen: uint32(len(f.payload)), Cmd: cmd}, f.Header)
	h, err := wire.ParseHello([]byte(f.payload))
	require.NoError(p.t, err)
	return h
}

func (p *v2Peer) write(h wire.Header, method, payload string) {
	p.t.Helper()
	_, err := p.nc.Write(wire.AppendFrame(nil, h, method, payload))
	require.NoError(p.t, err)
}

// sayHello sends a hello: as a Ping to a server, as a Pong to a client.
func (p *v2Peer) sayHello(cmd byte, h wire.Hello) {
	p.t.Helper()
	p.write(wire.Header{Cmd: cmd}, "", string(h.Append(nil, cmd == wire.CmdPing)))
}

// welcome takes the hello of a client and answers it.
func (p *v2Peer) welcome(h wire.Hello) {
	p.t.Helper()
	p.hello(wire.CmdPing)
	h.Features = v2Features
	p.sayHello(wire.CmdPong, h)
}

func (p *v2Peer) answer(f rowFrame, payload string) {
	p.t.Helper()
	p.write(wire.Header{Cmd: wire.CmdResponse, Flag: f.Flag & wire.FlagAsync, Seq: f.Seq}, f.method, payload)
}

func (p *v2Peer) notify(method, payload string) {
	p.t.Helper()
	p.write(wire.Header{Cmd: wire.CmdNotify}, method, payload)
}

// v2Caller dials a server as a scripted client.
func v2Caller(t testing.TB, ln *memconn.Listener) *v2Peer {
	t.Helper()
	nc, err := ln.Dial()
	require.NoError(t, err)
	t.Cleanup(func() { nc.Close() })
	return &v2Peer{t: t, nc: nc}
}

// v2Dialling is a client on its way. Its connections lead to scripted peers.
type v2Dialling struct {
	t     testing.TB
	peers chan *v2Peer
	done  chan struct{} // closed when NewClient has returned

	// Set before done is closed.
	client *arpc.Client
	err    error
}

// v2Dial dials a scripted peer.
func v2Dial(t testing.TB, opts ...arpc.Option) *v2Dialling {
	d := &v2Dialling{t: t, peers: make(chan *v2Peer, 16), done: make(chan struct{})}
	go func() {
		defer close(d.done)
		d.client, d.err = arpc.NewClient(d.dial, opts...)
	}()
	t.Cleanup(func() {
		<-d.done
		if d.client != nil {
			d.client.Stop()
		}
	})
	return d
}

func (d *v2Dialling) dial() (net.Conn, error) {
	near, far := arpctest.Pipe()
	d.t.Cleanup(func() { far.Close() })
	d.peers <- &v2Peer{t: d.t, nc: far}
	return near, nil
}

// connected returns the client, which has to be connected.
func (d *v2Dialling) connected() *arpc.Client {
	d.t.Helper()
	<-d.done
	require.NoError(d.t, d.err)
	return d.client
}

// failed returns why there is no client.
func (d *v2Dialling) failed() error {
	d.t.Helper()
	<-d.done
	require.Error(d.t, d.err)
	require.Nil(d.t, d.client)
	return d.err
}

// v2Connect returns a client and its scripted peer, which has said h.
func v2Connect(t testing.TB, h wire.Hello, opts ...arpc.Option) (*arpc.Client, *v2Peer, *v2Dialling) {
	t.Helper()
	d := v2Dial(t, opts...)
	p := <-d.peers
	p.welcome(h)
	return d.connected(), p, d
}

// v2Log keeps what happened, in order. Any goroutine may add to it.
type v2Log struct {
	mu   sync.Mutex
	list []string
}

func (l *v2Log) add(what string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.list = append(l.list, what)
}

func (l *v2Log) all() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return append([]string(nil), l.list...)
}

// v2Worlds runs body over the worlds in which both ends speak version 2, for tests
// that connect by themselves.
func v2Worlds(t *testing.T, body func(t *testing.T, world arpctest.World)) {
	t.Helper()
	for _, world := range arpctest.Worlds() {
		t.Run(world.Name, func(t *testing.T) { body(t, world) })
	}
}

// v2Each is arpctest.Each over the worlds in which both ends speak version 2.
func v2Each(t *testing.T, body func(t *testing.T, p *arpctest.Pair), opts ...arpctest.Option) {
	t.Helper()
	arpctest.Each(t, body, append(opts, arpctest.Over(arpctest.Worlds()...))...)
}
