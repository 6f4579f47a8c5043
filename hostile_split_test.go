package arpc_test

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"net"
	"os"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/arpc-go/arpc"
	"github.com/arpc-go/arpc/internal/memconn"
	"github.com/arpc-go/arpc/internal/wire"
	"github.com/stretchr/testify/require"
)

// hostileCaptured is one captured conversation between deployed peers.
type hostileCaptured struct {
	Name   string
	Frames []struct {
		Dir string
		Hex string `json:"frame_hex"`
	}
}

// hostileConversation returns what a deployed client sent in the captured
// scenarios that need nothing special, in one piece, and the frames that its
// server answered.
func hostileConversation(t *testing.T) (sent []byte, answers [][]byte) {
	data, err := os.ReadFile("docs/vectors/arpc-v1.json")
	require.NoError(t, err)
	var scenarios []hostileCaptured
	require.NoError(t, json.Unmarshal(data, &scenarios))
	plain := []string{"call-string", "call-bytes", "call-struct", "call-nil", "call-error", "call-error-string", "call-not-found", "call-async", "notify", "ping", "stream"}
	for _, s := range scenarios {
		if !slices.Contains(plain, s.Name) {
			continue
		}
		for _, f := range s.Frames {
			frame, err := hex.DecodeString(f.Hex)
			require.NoError(t, err)
			if f.Dir == "client->server" {
				sent = append(sent, frame...)
			} else {
				answers = append(answers, frame)
			}
		}
	}
	require.NotEmpty(t, sent)
	return sent, answers
}

// hostileCapturedHandler has the routes that the conversation was captured
// with. Their handlers take as long as pause does.
func hostileCapturedHandler(notified chan<- struct{}, pause func()) *arpc.Handler {
	h := arpc.NewHandler()
	h.Use(func(*arpc.Context) { pause() })
	echo := func(ctx *arpc.Context) { ctx.Write(ctx.Body()) }
	h.Handle("/echo", echo)
	h.Handle("/bytes", echo)
	h.Handle("/struct", echo)
	h.Handle("/nil", func(ctx *arpc.Context) { ctx.Write(nil) })
	h.Handle("/err", func(ctx *arpc.Context) { ctx.Error(arpc.NewError(arpc.CodeUnknown, "boom")) })
	h.Handle("/errstr", func(ctx *arpc.Context) { ctx.Error("boom string") })
	h.Handle("/n", func(*arpc.Context) { notified <- struct{}{} })
	h.HandleStream("/stream", func(st *arpc.Stream) {
		for data := ""; st.Recv(&data) == nil; {
			st.Send("re:" + data)
		}
	})
	return h
}

// hostileSplitWorlds are kinds of connections whose reading differs. Each
// returns both ends and a function that waits until what was written at the
// second has been read at the first.
var hostileSplitWorlds = map[string]func(t *testing.T, h *arpc.Handler) func() (nc net.Conn, read func()){
	"memory": func(t *testing.T, h *arpc.Handler) func() (net.Conn, func()) {
		ln := memconn.Listen()
		s := arpc.NewServer(arpc.WithHandler(h))
		ends := make(chan *memconn.Conn, 1)
		go s.Serve(hostileListener{ln, ends})
		t.Cleanup(s.Stop)
		return func() (net.Conn, func()) {
			nc, err := ln.Dial()
			require.NoError(t, err)
			theirs := hostileTake(t, ends)
			return nc, func() {
				require.Eventually(t, func() bool { return theirs.BytesRead() == nc.(*memconn.Conn).BytesWritten() }, hostileWait, 10*time.Microsecond)
			}
		}
	},
	"socket": func(t *testing.T, h *arpc.Handler) func() (net.Conn, func()) {
		ln, err := net.Listen("tcp", "127.0.0.1:0")
		require.NoError(t, err)
		s := arpc.NewServer(arpc.WithHandler(h))
		reads := make(chan struct{}, 1<<20)
		h.BeforeRecv(func(net.Conn) error {
			reads <- struct{}{}
			return nil
		})
		go s.Serve(ln)
		t.Cleanup(s.Stop)
		return func() (net.Conn, func()) {
			for len(reads) > 0 {
				<-reads // of the connection before
			}
			nc, err := net.Dial("tcp", ln.Addr().String())
			require.NoError(t, err)
			hostileTake(t, reads)
			return nc, func() { hostileTake(t, reads) }
		}
	},
}

// hostileListener tells of the connections that it accepts.
type hostileListener struct {
	*memconn.Listener
	accepted chan<- *memconn.Conn
}

func (l hostileListener) Accept() (net.Conn, error) {
	nc, err := l.Listener.Accept()
	if err == nil {
		l.accepted <- nc.(*memconn.Conn)
	}
	return nc, err
}

// A frame may come in any pieces: the captured conversation, cut in two at each
// place and byte by byte, is answered as the deployed server answered it.
func TestHostileSplits(t *testing.T) {
	sent, answers := hostileConversation(t)
	for name, world := range hostileSplitWorlds {
		t.Run(name, func(t *testing.T) {
			notified := make(chan struct{}, 10)
			h := hostileCapturedHandler(notified, func() {})
			ended := make(chan error, 1)
			h.HandleDisconnected(func(c *arpc.Client) { ended <- c.Err() })
			connect := world(t, h)
			converse := func(pieces ...[]byte) {
				nc, read := connect()
				p := newHostilePeer(t, nc)
				for _, piece := range pieces {
					p.send(piece)
					read()
				}
				hostileConversed(t, p, answers)
				hostileTake(t, notified)
				require.Empty(t, notified)
				nc.Close()
				hostileTake(t, ended)
			}
			for at := 1; at < len(sent); at++ {
				converse(sent[:at], sent[at:])
			}
			converse(hostileBytes(sent)...)
		})
	}
}

func hostileBytes(b []byte) (pieces [][]byte) {
	for i := range b {
		pieces = append(pieces, b[i:i+1])
	}
	return pieces
}

// hostileConversed requires that the answers come. Those of calls may overtake
// each other and those of the stream.
func hostileConversed(t *testing.T, p *hostilePeer, want [][]byte) {
	t.Helper()
	var got [][]byte
	for range want {
		got = append(got, p.mustReceive().frame())
	}
	require.Equal(t, hostileKind(want, true), hostileKind(got, true))
	calls := hostileKind(got, false)
	expected := hostileKind(want, false)
	slices.SortFunc(calls, bytes.Compare)
	slices.SortFunc(expected, bytes.Compare)
	require.Equal(t, expected, calls)
}

// hostileKind returns the frames that are of streams, or those that are not.
func hostileKind(frames [][]byte, streams bool) (kind [][]byte) {
	for _, b := range frames {
		if (wire.ParseHeader(b).Command() == wire.CmdStream) == streams {
			kind = append(kind, b)
		}
	}
	return kind
}

// The same behind handlers that are slow, so that the connection changes hands
// in the middle of the frames that follow.
func TestHostileSplitsBehindSlowHandlers(t *testing.T) {
	sent, answers := hostileConversation(t)
	for at := 1; at < len(sent); at++ {
		synctest.Test(t, func(t *testing.T) {
			notified := make(chan struct{}, 10)
			h := hostileCapturedHandler(notified, func() { time.Sleep(10 * time.Millisecond) }) // of the fake clock
			ln := memconn.Listen()
			s := arpc.NewServer(arpc.WithHandler(h))
			go s.Serve(ln)
			defer s.Stop()
			nc, err := ln.Dial()
			require.NoError(t, err)
			p := newHostilePeer(t, nc)
			p.send(sent[:at])
			synctest.Wait()
			p.send(sent[at:])
			hostileConversed(t, p, answers)
			<-notified
			require.Empty(t, notified)
		})
	}
}

// Responses that come in pieces reach the calls they are for.
func TestHostileSplitResponses(t *testing.T) {
	ln := memconn.Listen()
	defer ln.Close()
	dialled := hostileDial(t, ln.Dial)
	nc, err := ln.Accept()
	require.NoError(t, err)
	answerHello(t, nc)
	c := hostileTake(t, dialled)
	ours := c.Conn().(*memconn.Conn)
	p := newHostilePeer(t, nc)
	read := func() {
		require.Eventually(t, func() bool { return ours.BytesRead() == nc.(*memconn.Conn).BytesWritten() }, hostileWait, 10*time.Microsecond)
	}
	answer := func(split func(answer []byte) [][]byte) {
		first, second := hostileCalls["Call"](c), hostileCalls["CallAsync"](c)
		answers := append(hostileFine(p.request()), hostileMsg{cmd: wire.CmdPing}.frame()...)
		answers = append(answers, hostileFine(p.request())...)
		for _, piece := range split(answers) {
			p.send(piece)
			read()
		}
		require.NoError(t, hostileTake(t, first))
		require.NoError(t, hostileTake(t, second))
		require.Equal(t, hostileMsg{cmd: wire.CmdPong}, p.mustReceive())
	}
	length := 2*len(hostileFine(hostileMsg{method: "/theirs"})) + wire.HeaderLen
	for at := 1; at < length; at++ {
		answer(func(b []byte) [][]byte { return [][]byte{b[:at], b[at:]} })
	}
	answer(hostileBytes)
}

// A large frame in small pieces, and many small frames in one piece.
func TestHostilePieces(t *testing.T) {
	hostileOnEach(t, nil, func(t *testing.T, target *hostileTarget) {
		p := target.connect(t)
		large := strings.Repeat("0123456789abcdef", 20<<10)
		go func() {
			for piece := range slices.Chunk(hostileMsg{1, 0, 7, "/echo", large}.frame(), 7001) {
				p.send(piece)
			}
		}()
		require.Equal(t, hostileMsg{2, 0, 7, "/echo", large}, p.mustReceive())

		many := bytes.Repeat(hostileMsg{1, 0, 7, "/echo", "x"}.frame(), 10000)
		go p.send(many)
		for range 10000 {
			require.Equal(t, hostileMsg{2, 0, 7, "/echo", "x"}, p.mustReceive())
		}
	})
}
