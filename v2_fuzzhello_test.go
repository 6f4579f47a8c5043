package arpc_test

import (
	"context"
	"errors"
	"net"
	"runtime"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/arpc-go/arpc"
	"github.com/arpc-go/arpc/internal/memconn"
	"github.com/arpc-go/arpc/internal/wire"
)

// A hostile peer answers the hello, or says it, as it likes, with whatever it sends
// behind. Neither end crashes or hangs, nothing is handled that was not let in, and
// what both allocate is bounded by what they received.
func FuzzHelloExchange(f *testing.F) {
	for _, record := range v2Records() {
		f.Add(record, true, uint8(0))
		f.Add(record, true, uint8(5))
	}
	for _, frames := range v2FirstFrames() {
		f.Add(frames, false, uint8(0))
		f.Add(frames, false, uint8(9))
	}
	f.Fuzz(func(t *testing.T, data []byte, isRecord bool, split uint8) {
		asked, said := data, data
		if isRecord {
			said = wire.AppendFrame(nil, wire.Header{Cmd: wire.CmdPing}, "", data)
			asked = wire.AppendFrame(nil, wire.Header{Cmd: wire.CmdPong}, "", data)
		}
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		hostileHello(t, said, int(split))
		hostileGuest(t, said, int(split))
		hostileHost(t, asked, int(split))
		runtime.ReadMemStats(&after)
		if spent := after.TotalAlloc - before.TotalAlloc; spent > uint64(6<<20+96*len(data)) {
			t.Fatalf("%d bytes made the process allocate %d", len(data), spent)
		}
	})
}

// v2Records are hello records: good ones, refusals, later ones and broken ones.
func v2Records() [][]byte {
	full := wire.Hello{
		Features: v2Features, MaxBody: 1000, MaxInflight: 1, MaxStreams: 1, Window: 100, MaxMetadata: 64, Codec: "json",
		Compat: "a", Credentials: []byte("let me in"), Session: []byte("session"), Name: "name", Software: "software",
	}
	refusal := wire.Hello{Code: uint32(arpc.CodePermissionDenied), Message: "no"}
	records := [][]byte{
		full.Append(nil, true), refusal.Append(nil, false), nil, []byte("ARPC"), []byte("ARPC\x01"), []byte("ARPC\x02"),
		append([]byte("ARPC\x09"), full.Append(nil, false)[5:]...),
		append(full.Append(nil, true), 99, 1, 0), append(full.Append(nil, true), 1, 200),
		append(full.Append(nil, true), 2, 11, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f),
	}
	other := wire.Hello{Features: v2Features, Codec: "gob"}
	return append(records, other.Append(nil, false), full.Append(nil, true)[:20])
}

// v2FirstFrames are what a connection may begin with.
func v2FirstFrames() [][]byte {
	hello := wire.Hello{Features: v2Features, Credentials: []byte("let me in"), MaxInflight: 1, Window: 1}
	var all [][]byte
	for _, cmd := range []byte{wire.CmdPing, wire.CmdPong} {
		greeted := wire.AppendFrame(nil, wire.Header{Cmd: cmd}, "", hello.Append(nil, true))
		all = append(all, greeted, append(greeted[:len(greeted):len(greeted)], greeted...))
		section := wire.AppendTimeout(wire.AppendPair(nil, "k", "v"), 1000)
		for later := wire.CmdRequest; later <= wire.CmdGoAway+1; later++ {
			frame := wire.AppendFrame(greeted[:len(greeted):len(greeted)], wire.Header{Cmd: later, Seq: 1}, "/echo", "x")
			frame = wire.AppendFrameMeta(frame, wire.Header{Cmd: later | wire.StreamOpener, Flag: wire.FlagOpen, Seq: 2}, "/stream", section, "")
			all = append(all, frame, frame[len(greeted):])
		}
	}
	return append(all, []byte("SSH-2.0-OpenSSH_9.6\r\n"), []byte("HTTP/1.1 400 Bad Request\r\n\r\n"), []byte("* OK Dovecot ready.\r\n"))
}

// hostileHello is a guest of a server that lets everybody in.
func hostileHello(t *testing.T, data []byte, split int) {
	ln := memconn.Listen(memconn.WithSplit(split))
	s := arpc.NewServer(arpc.WithMaxInflight(100), arpc.WithMaxStreams(10), arpc.WithCompat("a"))
	fuzzRoutes(s.Handler)
	s.Handler.HandleConnected(func(c *arpc.Client) { c.Notify("/n", c.Peer().Name, arpc.TimeZero) })
	v2Visit(t, s, ln, data)
}

// hostileGuest is one of a server that lets in whom it knows.
func hostileGuest(t *testing.T, data []byte, split int) {
	ln := memconn.Listen(memconn.WithSplit(split))
	s := arpc.NewServer(arpc.WithMaxInflight(100), arpc.WithMaxStreams(10))
	var known, intruders atomic.Int64
	s.Handler.HandleAuth(func(_ context.Context, c *arpc.Client, credentials []byte) error {
		if string(credentials) != "let me in" {
			return errors.New("who are you")
		}
		known.Add(1)
		return nil
	})
	intruded := func() {
		if known.Load() == 0 {
			intruders.Add(1)
		}
	}
	s.Handler.Use(func(*arpc.Context) { intruded() })
	s.Handler.HandleConnected(func(*arpc.Client) { intruded() })
	s.Handler.HandleDisconnected(func(*arpc.Client) { intruded() })
	s.Handler.HandleNotFound(func(*arpc.Context) { intruded() })
	fuzzRoutes(s.Handler)
	v2Visit(t, s, ln, data)
	require.Zero(t, intruders.Load(), "handled without authentication")
}

func v2Visit(t *testing.T, s *arpc.Server, ln *memconn.Listener, data []byte) {
	go s.Serve(ln)
	defer s.Stop()
	nc, err := ln.Dial()
	require.NoError(t, err)
	hostile(nc, data)
}

// hostileHost is one that a client dials.
func hostileHost(t *testing.T, data []byte, split int) {
	near, far := memconn.Pipe(memconn.WithSplit(split))
	h := arpc.NewHandler(arpc.WithReconnect(0, 0, 0))
	fuzzRoutes(h)
	h.HandleConnected(func(c *arpc.Client) { c.Notify("/n", c.Peer().Name, arpc.TimeZero) })
	gone := make(chan struct{})
	go func() {
		defer close(gone)
		hostile(far, data)
	}()
	defer func() { <-gone }()
	c, err := arpc.NewClient(func() (net.Conn, error) { return near, nil }, arpc.WithHandler(h))
	if err != nil {
		require.Nil(t, c)
		return
	}
	defer c.Stop()
	c.Call("/echo", "x", nil, time.Minute)
	if st, err := c.OpenStream(t.Context(), "/stream"); err == nil {
		st.Send("x")
		for st.Recv(nil) == nil {
		}
	}
	<-c.Done()
}
