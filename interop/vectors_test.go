package interop

import (
	"errors"
	"io"
	"net"
	"testing"
	"time"

	"github.com/arpc-go/arpc"
	"github.com/arpc-go/arpc/middleware/coder/gzip"
	"github.com/stretchr/testify/require"
)

// letters is the struct of the captures.
type letters struct {
	A string
	B int
}

// vectorRoutes handles what is called in the captures, by client and server.
// What cannot be seen on the wire is told to seen.
func vectorRoutes(h *arpc.Handler, seen chan<- string) {
	h.Handle("/echo", echoBody)
	h.Handle("/bytes", echoBody)
	h.Handle("/struct", func(ctx *arpc.Context) { echo[letters](ctx, nil) })
	h.Handle("/nil", func(ctx *arpc.Context) { ctx.Write(nil) })
	h.Handle("/err", func(ctx *arpc.Context) { ctx.Error(errBoom) })
	h.Handle("/errstr", func(ctx *arpc.Context) { ctx.Error("boom string") })
	h.Handle("/n", func(ctx *arpc.Context) { seen <- string(ctx.Body()) })
	h.Handle("/clin", func(ctx *arpc.Context) { seen <- string(ctx.Body()) })
	h.HandleStream("/stream", func(st *arpc.Stream) { echoStream(ourStream{st}) })
	h.Handle("/cli", func(ctx *arpc.Context) {
		seen <- string(ctx.Body())
		ctx.Write("from client")
	})
	h.Handle("/back", func(ctx *arpc.Context) {
		ctx.Write("ok")
		var reply string
		if ctx.Client.Call("/cli", "from server", &reply, patience) == nil {
			seen <- reply
			ctx.Client.Notify("/clin", "note", patience)
		}
	})
}

func echoBody(ctx *arpc.Context) { ctx.Write(ctx.Body()) }

// scenarios are the captures that our side can be one of the two in. Those of
// coders and of pub/sub are not among them.
var scenarios = map[string]struct {
	drive      func(*testing.T, *arpc.Client) // what our client does
	clientSees []string
	serverSees []string
}{
	"call-string":       {drive: calls("/echo", "hello", "hello")},
	"call-bytes":        {drive: calls("/bytes", []byte{0, 1, 2, 0xff}, []byte{0, 1, 2, 0xff})},
	"call-struct":       {drive: calls("/struct", letters{"x", 7}, letters{"x", 7})},
	"call-nil":          {drive: calls("/nil", nil, "")},
	"call-error":        {drive: fails("/err", "boom", arpc.CodeUnknown)},
	"call-error-string": {drive: fails("/errstr", "boom string", arpc.CodeUnknown)},
	"call-not-found":    {drive: fails("/nope", "method not found", arpc.CodeUnimplemented)},
	"ping":              {drive: func(*testing.T, *arpc.Client) {}},
	"server-calls-client": {
		drive:      calls("/back", nil, "ok"),
		clientSees: []string{"from server", "note"},
		serverSees: []string{"from client"},
	},
	"notify": {
		drive:      func(t *testing.T, c *arpc.Client) { require.NoError(t, c.Notify("/n", "note", patience)) },
		serverSees: []string{"note"},
	},
	"call-async": {drive: func(t *testing.T, c *arpc.Client) {
		replies := make(chan string, 2)
		require.NoError(t, ourEnd{c}.callAsync("/echo", "async", func(reply string, _ error) { replies <- reply }))
		require.Equal(t, "async", receive(t, replies))
	}},
	"stream": {drive: func(t *testing.T, c *arpc.Client) {
		st := open(t, ourEnd{c}, "/stream")
		for _, msg := range []string{"one", "two"} {
			require.NoError(t, st.send(msg))
			requireRecv(t, st, "re:"+msg)
		}
		st.closeSend()
		requireEnd(t, st)
	}},
}

func calls[T any](method string, req any, want T) func(*testing.T, *arpc.Client) {
	return func(t *testing.T, c *arpc.Client) { requireReply(t, ourEnd{c}, method, req, want) }
}

func fails(method, text string, code arpc.Code) func(*testing.T, *arpc.Client) {
	return func(t *testing.T, c *arpc.Client) {
		requireRemote(t, ourEnd{c}, c.Call(method, "x", nil, patience), text, code)
	}
}

func TestEveryCaptureIsReplayed(t *testing.T) {
	elsewhere := []string{"coder-gzip", "coder-msgpack-values", "pubsub"}
	for name := range captures(t) {
		if _, ok := scenarios[name]; !ok {
			require.Contains(t, elsewhere, name)
		}
	}
}

// What the old client sent makes our server answer bit for bit as the old one
// did, and with nothing else.
func TestCapturesAgainstOurServer(t *testing.T) {
	all := captures(t)
	for name, test := range scenarios {
		t.Run(name, func(t *testing.T) {
			seen := make(chan string, 10)
			server := serveOurs(t, setup{})
			vectorRoutes(server.Handler, seen)
			nc, err := server.dial()
			require.NoError(t, err)
			defer nc.Close()
			require.NoError(t, newPlayer(nc).play(t, all[name], fromClient))
			for _, want := range test.serverSees {
				require.Equal(t, want, receive(t, seen))
			}
			require.NoError(t, nc.(*net.TCPConn).CloseWrite())
			rest, err := io.ReadAll(nc)
			require.NoError(t, err)
			require.Empty(t, rest)
		})
	}
}

// playServer accepts a connection and plays the server on it. It stays open
// until the test ends.
func playServer(t *testing.T, play func(*player) error) (dial arpc.DialerFunc, result <-chan error) {
	var where address
	ln := listen(t)
	where.set(ln)
	done := make(chan error, 1)
	go func() {
		defer ln.Close()
		nc, err := ln.Accept()
		if err != nil {
			done <- err
			return
		}
		defer nc.Close()
		done <- play(newPlayer(nc))
		<-t.Context().Done()
	}()
	t.Cleanup(func() { ln.Close() })
	return where.dial, done
}

// Our client sends bit for bit what the old one did, but for the numbers of its
// calls, and understands what the old server answered.
func TestCapturesAgainstOurClient(t *testing.T) {
	all := captures(t)
	for name, test := range scenarios {
		t.Run(name, func(t *testing.T) {
			seen := make(chan string, 10)
			dial, result := playServer(t, func(p *player) error { return p.play(t, all[name], "server->client") })
			h := arpc.NewHandler()
			if name == "ping" {
				h = arpc.NewHandler(arpc.WithKeepalive(5*time.Millisecond, patience))
			}
			vectorRoutes(h, seen)
			client, err := arpc.NewClient(dial, arpc.WithHandler(h))
			require.NoError(t, err)
			defer client.Stop()
			test.drive(t, client)
			require.NoError(t, receive(t, result))
			for _, want := range test.clientSees {
				require.Equal(t, want, receive(t, seen))
			}
			require.Equal(t, arpc.StateConnected, client.State())
		})
	}
}

var errNotCompressed = errors.New("the request was not compressed")

// compressing returns a handler that compresses from 100 bytes on, as the peers
// of the capture did.
func compressing() *arpc.Handler {
	h := arpc.NewHandler()
	h.UseCoder(gzip.New(gzip.WithThreshold(100)))
	return h
}

// gzipCapture returns the captured request and response, as they were sent and
// decoded, and the payload of both.
func gzipCapture(t *testing.T) (sent, decoded [2][]byte, payload []byte) {
	for i, f := range captures(t)["coder-gzip"].Frames {
		var err error
		sent[i] = f.bytes(t)
		decoded[i], err = inflate(sent[i])
		require.NoError(t, err)
	}
	return sent, decoded, decoded[0][arpc.HeadLen+len("/echo"):]
}

// Other compressors make other bytes, so answers are compared decoded.
func TestGzipCaptureAgainstOurServer(t *testing.T) {
	sent, decoded, payload := gzipCapture(t)
	bodies := make(chan string, 1)
	h := compressing()
	h.Handle("/echo", func(ctx *arpc.Context) {
		bodies <- string(ctx.Body())
		ctx.Write(ctx.Body())
	})
	server := serveOurs(t, setup{ours: []arpc.Option{arpc.WithHandler(h)}})
	nc, err := server.dial()
	require.NoError(t, err)
	defer nc.Close()
	p := newPlayer(nc)
	_, err = p.Write(sent[0])
	require.NoError(t, err)
	require.Equal(t, string(payload), receive(t, bodies))
	require.NoError(t, p.expect(decoded[1]))
	require.Equal(t, 1, p.compressed)
}

func TestGzipCaptureAgainstOurClient(t *testing.T) {
	_, decoded, payload := gzipCapture(t)
	dial, result := playServer(t, func(p *player) error {
		if err := p.expect(decoded[0]); err != nil {
			return err
		}
		if p.compressed != 1 {
			return errNotCompressed
		}
		setSeq(decoded[1], seq(decoded[0]))
		_, err := p.Write(deflate(decoded[1]))
		return err
	})
	client, err := arpc.NewClient(dial, arpc.WithHandler(compressing()))
	require.NoError(t, err)
	defer client.Stop()
	requireReply(t, ourEnd{client}, "/echo", payload, payload)
	require.NoError(t, receive(t, result))
}
