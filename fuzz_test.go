package arpc_test

import (
	"encoding/hex"
	"encoding/json"
	"net"
	"os"
	"runtime"
	"slices"
	"testing"
	"time"

	"github.com/arpc-go/arpc"
	"github.com/arpc-go/arpc/internal/memconn"
	"github.com/arpc-go/arpc/internal/wire"
	"github.com/stretchr/testify/require"
)

// capturedFrames returns the frames of docs/vectors.
func capturedFrames(t testing.TB) [][]byte {
	t.Helper()
	var frames [][]byte
	for _, name := range []string{"arpc-v1.json", "arpc-v2.json"} {
		text, err := os.ReadFile("docs/vectors/" + name)
		require.NoError(t, err)
		var scenarios []struct {
			Frames []struct {
				Hex string `json:"frame_hex"`
			}
		}
		require.NoError(t, json.Unmarshal(text, &scenarios))
		for _, s := range scenarios {
			for _, f := range s.Frames {
				frame, err := hex.DecodeString(f.Hex)
				require.NoError(t, err)
				frames = append(frames, frame)
			}
		}
	}
	return frames
}

// A hostile peer sends whatever it likes, to a server and to a client with calls
// and streams in flight, as a peer of version 1 or 2 or from its first byte on.
// Neither crashes or hangs, both end when the peer does, and what they allocate is
// bounded by what they received.
func FuzzConnection(f *testing.F) {
	for _, frame := range capturedFrames(f) {
		for how := range uint8(len(fuzzGreetings)) {
			f.Add(frame, how, uint8(0))
			f.Add(append(frame, frame...), how, uint8(3+len(frame)/10))
		}
	}
	for how := range uint8(len(fuzzGreetings)) {
		f.Add([]byte{0xff, 0xff, 0xff, 0x03}, how, uint8(1))
		f.Add([]byte("HTTP/1.1 400 Bad Request\r\n\r\n"), how, uint8(7))
	}
	f.Fuzz(func(t *testing.T, data []byte, how, split uint8) {
		greeting := fuzzGreetings[int(how)%len(fuzzGreetings)]
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		hostileToServer(t, greeting, data, int(split))
		hostileToClient(t, greeting, data, int(split))
		runtime.ReadMemStats(&after)
		if spent := after.TotalAlloc - before.TotalAlloc; spent > uint64(fuzzSlack+64*len(data)) {
			t.Fatalf("%d bytes made the process allocate %d", len(data), spent)
		}
	})
}

// fuzzGreeting is what a peer sends first, in good order.
type fuzzGreeting struct{ asClient, asServer []byte }

var fuzzGreetings = []fuzzGreeting{
	{nil, oldPong},
	{fuzzHello(wire.CmdPing), fuzzHello(wire.CmdPong)},
	{nil, nil},
}

// fuzzHello is the hello of a peer that speaks all of version 2.
func fuzzHello(cmd byte) []byte {
	hello := wire.Hello{Features: wire.FeatureMetadata | wire.FeatureCancel | wire.FeatureWindows | wire.FeatureGoAway}
	return wire.AppendFrame(nil, wire.Header{Cmd: cmd}, "", hello.Append(nil, cmd == wire.CmdPing))
}

func fuzzRoutes(h *arpc.Handler) {
	h.Handle("/echo", func(ctx *arpc.Context) { ctx.WriteBytes(ctx.Body()) })
	h.Handle("/ordered", func(ctx *arpc.Context) { ctx.Client.Notify("/n", ctx.Body(), arpc.TimeZero) }, false)
	h.Handle("/n", func(*arpc.Context) {})
	h.HandleStream("/stream", func(s *arpc.Stream) {
		for data, err := range s.RecvSeq() {
			if err != nil || s.Send(data) != nil {
				return
			}
		}
	})
}

func hostileToServer(t *testing.T, greeting fuzzGreeting, data []byte, split int) {
	ln := memconn.Listen(memconn.WithSplit(split))
	s := arpc.NewServer(arpc.WithMaxInflight(100), arpc.WithMaxStreams(10))
	fuzzRoutes(s.Handler)
	go s.Serve(ln)
	defer s.Stop()
	nc, err := ln.Dial()
	require.NoError(t, err)
	hostile(nc, slices.Concat(greeting.asClient, data))
}

func hostileToClient(t *testing.T, greeting fuzzGreeting, data []byte, split int) {
	near, far := memconn.Pipe(memconn.WithSplit(split))
	h := arpc.NewHandler(arpc.WithReconnect(0, 0, 0))
	fuzzRoutes(h)
	if greeting.asServer == nil {
		go hostile(far, data)
	} else {
		far.Write(greeting.asServer)
	}
	c, err := arpc.NewClient(func() (net.Conn, error) { return near, nil }, arpc.WithHandler(h))
	if greeting.asServer == nil && err != nil {
		return
	}
	require.NoError(t, err)
	defer c.Stop()
	answers := make(chan error, 10)
	for range cap(answers) {
		err := c.CallAsync("/echo", "x", func(ctx *arpc.Context) { answers <- ctx.Bind(nil) }, time.Minute)
		if err != nil {
			answers <- err // the connection has ended
		}
	}
	st, err := c.OpenStream(t.Context(), "/stream")
	if err == nil {
		st.Send("x")
	}
	if greeting.asServer != nil {
		require.NoError(t, err)
		hostile(far, data)
	}
	for range cap(answers) {
		<-answers
	}
	for err == nil {
		err = st.Recv(new([]byte))
	}
	<-c.Done()
}

// hostile writes data, reads what comes back for as long as something does, and
// waits for the other end to close.
func hostile(nc net.Conn, data []byte) {
	defer nc.Close()
	go func() {
		nc.Write(data)
		nc.(interface{ CloseWrite() error }).CloseWrite()
	}()
	buf := make([]byte, 4096)
	for {
		if _, err := nc.Read(buf); err != nil {
			return
		}
	}
}
