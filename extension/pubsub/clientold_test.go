package pubsub_test

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"io"
	"net"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/arpc-go/arpc"
	"github.com/arpc-go/arpc/arpctest"
	"github.com/arpc-go/arpc/extension/pubsub"
	"github.com/arpc-go/arpc/extension/pubsub/internal/proto"
	"github.com/arpc-go/arpc/internal/wire"
)

// oldServer is a server of version 1 of the wire.
type oldServer struct {
	t      *testing.T
	ln     *arpctest.MemoryListener
	server *arpc.Server

	mu         sync.Mutex
	password   string
	letIn      map[*arpc.Client]bool
	subscribed map[string][]*arpc.Client
	log        []string
}

func newOldServer(t *testing.T, password string) *oldServer {
	s := &oldServer{
		t: t, ln: arpctest.ListenMemory(), server: arpc.NewServer(arpc.WithVersions(1, 1)), password: password,
		letIn: make(map[*arpc.Client]bool), subscribed: make(map[string][]*arpc.Client),
	}
	h := s.server.Handler
	h.Handle(proto.Authenticate, func(ctx *arpc.Context) {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.log = append(s.log, "login "+string(ctx.Body()))
		if string(ctx.Body()) != s.password {
			ctx.Error("invalid password")
			return
		}
		s.letIn[ctx.Client] = true
		ctx.Write(nil)
	})
	for method, what := range map[string]string{
		proto.Subscribe: "subscribe", proto.Unsubscribe: "unsubscribe", proto.Publish: "publish", proto.PublishToOne: "publish to one",
	} {
		h.Handle(method, func(ctx *arpc.Context) { s.handle(ctx, what) }, false)
	}
	h.HandleDisconnected(s.forget)
	go s.server.Serve(s.ln)
	t.Cleanup(s.server.Stop)
	return s
}

func (s *oldServer) handle(ctx *arpc.Context, what string) {
	topic, err := proto.ParseTopic(ctx.Body())
	if err != nil {
		ctx.Error(err)
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	name := string(topic.Name)
	s.log = append(s.log, what+" "+name+"="+string(topic.Data))
	if s.password != "" && !s.letIn[ctx.Client] {
		return // as old servers do
	}
	ctx.Write(nil)
	to := s.subscribed[name]
	switch what {
	case "subscribe":
		s.subscribed[name] = append(to, ctx.Client)
		return
	case "unsubscribe":
		s.subscribed[name] = slices.DeleteFunc(to, func(c *arpc.Client) bool { return c == ctx.Client })
		return
	case "publish to one":
		to = to[:min(len(to), 1)]
	}
	for _, c := range to {
		push(c, proto.Publish, slices.Clone(ctx.Body()))
	}
}

func (s *oldServer) forget(c *arpc.Client) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for name, all := range s.subscribed {
		s.subscribed[name] = slices.DeleteFunc(all, func(other *arpc.Client) bool { return other == c })
	}
}

func (s *oldServer) took() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	log := s.log
	s.log = nil
	return log
}

func (s *oldServer) client(opts ...pubsub.Option) *pubsub.Client {
	c, err := pubsub.NewClient(s.ln.Dial, opts...)
	require.NoError(s.t, err)
	s.t.Cleanup(c.Stop)
	return c
}

func TestClientOfAnOldServer(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s := newOldServer(t, "secret")
		c := s.client()
		c.Password = "wrong"
		require.Equal(t, arpc.CodeUnauthenticated, arpc.CodeOf(c.Authenticate()))
		c.Password = "secret"
		require.NoError(t, c.Authenticate())
		var d diary
		_, err := c.SubscribeWith(within(t), "t", d.message, pubsub.OnEvent(d.event), pubsub.WithWindow(100, 1000))
		require.NoError(t, err)
		require.NoError(t, c.Publish("t", "to all", time.Second))
		require.NoError(t, c.PublishToOne("t", "to one", time.Second))
		_, err = c.PublishWith(within(t), "t", "not acknowledged", pubsub.NoAck())
		require.NoError(t, err)
		require.Equal(t, []string{"started true", "to all", "to one", "not acknowledged"}, d.take())
		require.Equal(t, []string{"login wrong", "login secret", "subscribe t=", "publish t=to all", "publish to one t=to one", "publish t=not acknowledged"}, s.took())

		s.server.Clients()[0].Stop()
		time.Sleep(2 * time.Second)
		require.NoError(t, c.Publish("t", "again", time.Second))
		require.Equal(t, []string{"interrupted", "started false", "again"}, d.take())
		require.Equal(t, []string{"login secret", "subscribe t=", "publish t=again"}, s.took())
		require.NoError(t, c.Unsubscribe("t", time.Second))
		require.NoError(t, c.Publish("t", "to nobody", time.Second))
		require.Empty(t, d.take())
	})
}

// What an old server cannot do is refused, before anything is sent.
func TestClientOfAnOldServerSaysWhatThatCannotDo(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s := newOldServer(t, "")
		c := s.client()
		subscribe := func(filter string, opt pubsub.SubscribeOption) func() error {
			return func() error { _, err := c.SubscribeWith(within(t), filter, nothing, opt); return err }
		}
		for says, f := range map[string]func() error{
			"a filter with wildcards": subscribe("a.*", pubsub.WithWindow(1, 1)),
			"WithGroup":               subscribe("a", pubsub.WithGroup("g")),
			"WithPolicy":              subscribe("a", pubsub.WithPolicy(pubsub.Block)),
			"WithQueue":               subscribe("a", pubsub.WithQueue(1, 1)),
			"WithStart":               subscribe("a", pubsub.StartAtTime(time.Now())),
			"WithPresence":            subscribe("a", pubsub.WithPresence()),
			"WithMember":              subscribe("a", pubsub.WithMember("m", nil)),
			"WithKey":                 func() error { return c.PublishToOneWith(within(t), "a", "x", pubsub.WithKey("k")) },
			"WithMessageID":           func() error { return c.PublishToOneWith(within(t), "a", "x", pubsub.WithMessageID("k")) },
			"Presence":                func() error { _, err := c.Presence(within(t), "a"); return err },
			"SetWill":                 func() error { return c.SetWill(within(t), "a", "x") },
		} {
			err := f()
			require.Equal(t, arpc.CodeFailedPrecondition, arpc.CodeOf(err), says)
			require.ErrorContains(t, err, says+": the server speaks version 1 of the wire")
			require.True(t, arpc.SafeToRetry(err), says)
		}
		require.Empty(t, s.took())
		require.Empty(t, c.Statistics().Subscriptions)
	})
}

// A slow callback of an old server's messages, which knows no windows, loses the oldest
// ones and is told, and holds nobody up.
func TestClientOfAnOldServerBoundsItsQueue(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s := newOldServer(t, "")
		c := s.client()
		var d diary
		step := make(chan struct{})
		_, err := c.SubscribeWith(within(t), "t", func(m *pubsub.Topic) {
			d.message(m)
			<-step
		}, pubsub.OnEvent(d.event), pubsub.WithWindow(2, 1000))
		require.NoError(t, err)
		for _, text := range []string{"1", "2", "3", "4", "5"} {
			require.NoError(t, c.Publish("t", text, time.Second))
			synctest.Wait()
		}
		close(step)
		require.Equal(t, []string{"started true", "1", "gap 3", "5"}, d.take())
	})
}

// A server that was replaced by an older one ends what that cannot do.
func TestClientWhoseServerBecomesAnOldOne(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s, old := newScript(t), newOldServer(t, "")
		at := &site{ln: s.ln}
		c, err := pubsub.NewClient(at.dial)
		require.NoError(t, err)
		defer c.Stop()
		var plain, wild diary
		_, err = c.SubscribeWith(within(t), "t", plain.message, pubsub.OnEvent(plain.event))
		require.NoError(t, err)
		sub, err := c.SubscribeWith(within(t), "a.*", wild.message, pubsub.OnEvent(wild.event))
		require.NoError(t, err)
		synctest.Wait()
		at.set(old.ln)
		s.peer().Stop()
		<-sub.Done()
		require.Equal(t, []string{"started true", "interrupted", "ended FailedPrecondition"}, wild.take())
		require.NoError(t, c.Publish("t", "x", time.Second))
		require.Equal(t, []string{"started true", "interrupted", "started false", "x"}, plain.take())

		at.set(s.ln)
		old.server.Clients()[0].Stop()
		time.Sleep(2 * time.Second)
		s.deliver(message("t", "y"))
		require.Equal(t, []string{"interrupted", "started false", "y"}, plain.take())
	})
}

// frameOfOld is a frame between deployed peers.
type frameOfOld struct {
	Dir      string `json:"dir"`
	Method   string `json:"method"`
	Cmd      byte   `json:"cmd"`
	FrameHex string `json:"frame_hex"`
}

func capturedPubsub(t *testing.T) []frameOfOld {
	data, err := os.ReadFile(filepath.Join("..", "..", "docs", "vectors", "arpc-v1.json"))
	require.NoError(t, err)
	var scenarios []struct {
		Name   string       `json:"name"`
		Frames []frameOfOld `json:"frames"`
	}
	require.NoError(t, json.Unmarshal(data, &scenarios))
	for _, s := range scenarios {
		if s.Name == "pubsub" {
			return s.Frames
		}
	}
	t.Fatal("no scenario pubsub")
	return nil
}

// The client sends what deployed clients send, byte for byte but for numbers and times,
// and takes what deployed servers send.
func TestClientSpeaksAsTheCapturedFrames(t *testing.T) {
	bubble(t, func(t *testing.T) {
		frames := capturedPubsub(t)
		find := func(dir, method, data string) []byte {
			for _, f := range frames {
				if frame := unhex(t, f.FrameHex); f.Dir == dir && f.Method == method && bytes.Contains(frame, []byte(data)) {
					return frame
				}
			}
			t.Fatal("no frame", dir, method, data)
			return nil
		}
		ours, theirs := arpctest.Pipe()
		defer theirs.Close()
		expect := func(method, data string) {
			want, got := find("client->server", method, data), readFrame(t, theirs)
			clear(want[8:16]) // seq
			seq := append([]byte(nil), got[8:16]...)
			clear(got[8:16])
			if method != proto.Authenticate {
				clear(want[len(want)-8:]) // the time of publishing
				clear(got[len(got)-8:])
			}
			require.Equal(t, want, got)
			answer := find("server->client", method, "")
			for _, f := range frames {
				if f.Cmd == wire.CmdResponse && f.Method == method {
					answer = unhex(t, f.FrameHex)
					break
				}
			}
			copy(answer[8:16], seq)
			_, err := theirs.Write(answer)
			require.NoError(t, err)
		}
		go func() {
			readFrame(t, theirs)                                                              // the hello
			theirs.Write(wire.AppendFrame(nil, wire.Header{Cmd: wire.CmdPong}, "", []byte{})) // of an old server
		}()
		c, err := pubsub.NewClient(func() (net.Conn, error) { return ours, nil }, pubsub.WithClientOptions(arpc.WithReconnect(1, 1, 0)))
		require.NoError(t, err)
		defer c.Stop()
		during := func(f func() error, method, data string) {
			failed := make(chan error, 1)
			go func() { failed <- f() }()
			expect(method, data)
			require.NoError(t, <-failed)
		}
		var d diary
		c.Password = "123qwe"
		during(c.Authenticate, proto.Authenticate, "123qwe")
		during(func() error { return c.Subscribe("Broadcast", d.message, time.Second) }, proto.Subscribe, "Broadcast")
		during(func() error { return c.Publish("Broadcast", "to all", time.Second) }, proto.Publish, "to all")
		during(func() error { return c.PublishToOne("Broadcast", "to one", time.Second) }, proto.PublishToOne, "to one")
		for _, text := range []string{"to all", "to one", "from server"} {
			theirs.Write(find("server->client", proto.Publish, text))
		}
		require.Equal(t, []string{"to all", "to one", "from server"}, d.take())
		during(func() error { return c.Unsubscribe("Broadcast", time.Second) }, proto.Unsubscribe, "Broadcast")
	})
}

func unhex(t *testing.T, s string) []byte {
	b, err := hex.DecodeString(s)
	require.NoError(t, err)
	return b
}

func readFrame(t *testing.T, nc net.Conn) []byte {
	frame := make([]byte, wire.HeaderLen)
	_, err := io.ReadFull(nc, frame)
	require.NoError(t, err)
	body := make([]byte, wire.ParseHeader(frame).BodyLen)
	_, err = io.ReadFull(nc, body)
	require.NoError(t, err)
	return append(frame, body...)
}
