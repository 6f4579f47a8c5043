package pubsub_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/arpc-go/arpc"
	"github.com/arpc-go/arpc/arpctest"
	"github.com/arpc-go/arpc/extension/pubsub"
	"github.com/arpc-go/arpc/extension/pubsub/internal/proto"
	"github.com/stretchr/testify/require"
)

// served is a server over memory, for a test in a synctest bubble.
type served struct {
	*pubsub.Server
	t    testing.TB
	dial arpc.DialerFunc
}

func serveMemory(t testing.TB, opts ...pubsub.Option) *served {
	t.Helper()
	ln := arpctest.ListenMemory()
	opts = append([]pubsub.Option{pubsub.WithLogger(slogErrors(t))}, opts...)
	s := &served{Server: pubsub.NewServer(opts...), t: t, dial: ln.Dial}
	done := make(chan error, 1)
	go func() { done <- s.Serve(ln) }()
	t.Cleanup(func() {
		s.Stop()
		ln.Close()
		if err := <-done; !errors.Is(err, arpc.ErrServerClosed) {
			t.Errorf("serve: %v", err)
		}
	})
	return s
}

func slogErrors(t testing.TB) *slog.Logger { return slog.New(noErrors{slog.DiscardHandler, t}) }

// noErrors fails a test in which errors are logged, as panics are.
type noErrors struct {
	slog.Handler
	t testing.TB
}

func (noErrors) Enabled(_ context.Context, l slog.Level) bool { return l >= slog.LevelError }

func (h noErrors) Handle(_ context.Context, r slog.Record) error {
	text := r.Message
	r.Attrs(func(a slog.Attr) bool {
		text += "\n" + a.String()
		return true
	})
	h.t.Error(text)
	return nil
}

// inBubble runs a test with fake time, in which nothing is left over at the end.
func inBubble(t *testing.T, test func(t *testing.T)) {
	t.Helper()
	synctest.Test(t, test)
}

// peer speaks to a server as clients do, and keeps all that it gets.
type peer struct {
	*arpc.Client
	t  testing.TB
	nc net.Conn // the newest connection

	mu  sync.Mutex
	got []string // what came, in order
}

func (s *served) peer(opts ...arpc.Option) *peer {
	s.t.Helper()
	return s.peerWith(func(*arpc.Handler) {}, opts...)
}

func (s *served) peerWith(setup func(*arpc.Handler), opts ...arpc.Option) *peer {
	s.t.Helper()
	p := &peer{t: s.t}
	h := arpc.NewHandler()
	setup(h)
	h.Handle(proto.Message, p.onMessage)
	h.Handle(proto.Note, p.onNote)
	h.Handle(proto.Publish, p.onOld)
	dial := func() (net.Conn, error) {
		nc, err := s.dial()
		p.nc = nc
		return nc, err
	}
	opts = append([]arpc.Option{arpc.WithReconnect(0, 0, 0)}, opts...)
	c, err := arpc.NewClient(dial, append(opts, arpc.WithHandler(h))...)
	require.NoError(s.t, err)
	p.Client = c
	s.t.Cleanup(c.Stop)
	return p
}

func (p *peer) add(format string, args ...any) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.got = append(p.got, fmt.Sprintf(format, args...))
}

// onMessage notes a message as "topic data", with what is there besides: the
// subscription's filter or number, the offset, the attempt.
func (p *peer) onMessage(ctx *arpc.Context) {
	d, err := proto.ParseDelivered(ctx.Body())
	if err != nil {
		p.add("%v", err)
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	text := fmt.Sprintf("%s %s", d.Topic, d.Data)
	if len(d.Filter) > 0 {
		text += fmt.Sprintf(" for %s", d.Filter)
	}
	if d.Number > 0 {
		text += fmt.Sprintf(" for %d", d.Number)
	}
	if d.Offset > 0 {
		text += fmt.Sprintf(" at %d", d.Offset)
	}
	if d.Tag > 0 {
		text += fmt.Sprintf(" tag %d", d.Tag)
	}
	if d.Attempt > 0 {
		text += fmt.Sprintf(" attempt %d", d.Attempt)
	}
	p.got = append(p.got, text)
}

var noteNames = map[int]string{
	proto.NoteStarted: "started", proto.NoteGap: "gap", proto.NoteInterrupted: "interrupted", proto.NoteResumed: "resumed",
	proto.NoteJoined: "joined", proto.NoteLeft: "left", proto.NoteEnded: "ended", proto.NoteLive: "live",
}

// onNote notes "started recovered at 3", "gap 2" and the like.
func (p *peer) onNote(ctx *arpc.Context) {
	n, err := proto.ParseNoted(ctx.Body())
	if err != nil {
		p.add("%v", err)
		return
	}
	text := noteNames[n.Kind]
	switch n.Kind {
	case proto.NoteStarted:
		if !n.Recovered {
			text += " anew"
		}
		if n.Offset > 0 {
			text += fmt.Sprintf(" at %d", n.Offset)
		}
	case proto.NoteGap:
		text += fmt.Sprintf(" %d", n.Count)
	case proto.NoteLive:
		text += fmt.Sprintf(" %d", n.Offset)
	case proto.NoteJoined, proto.NoteLeft:
		text += fmt.Sprintf(" %s %s of %s", n.Member.ID, n.Member.Info, n.Member.Filter)
	case proto.NoteEnded, proto.NoteInterrupted:
		text += fmt.Sprintf(" %v", arpc.Code(n.Code))
	}
	p.add("%s", text)
}

func (p *peer) onOld(ctx *arpc.Context) {
	t, err := proto.ParseTopic(ctx.Body())
	if err != nil {
		p.add("%v", err)
		return
	}
	p.add("old %s %s", t.Name, t.Data)
}

// take returns what has come since the last time, when nothing moves any more.
func (p *peer) take() []string {
	synctest.Wait()
	p.mu.Lock()
	defer p.mu.Unlock()
	got := p.got
	p.got = nil
	return got
}

// wide is a window that is never full.
const wide = 1 << 20

// open opens a subscription with a wide window unless it has one.
func (p *peer) open(o proto.Opening) (proto.Opened, error) {
	if o.WindowMessages == 0 && o.WindowBytes == 0 {
		o.WindowMessages, o.WindowBytes = wide, wide
	}
	var body []byte
	if err := p.Call(proto.Open, o.Append(nil), &body, time.Minute); err != nil {
		return proto.Opened{}, err
	}
	opened, err := proto.ParseOpened(body)
	require.NoError(p.t, err)
	return opened, nil
}

// subscribe opens a subscription and swallows the note that it has started.
func (p *peer) subscribe(number uint64, filter string) {
	p.t.Helper()
	p.mustOpen(proto.Opening{Number: number, Filter: filter})
	require.Len(p.t, p.take(), 1)
}

func (p *peer) mustOpen(o proto.Opening) {
	p.t.Helper()
	_, err := p.open(o)
	require.NoError(p.t, err)
}

func (p *peer) close(number uint64) {
	p.t.Helper()
	require.NoError(p.t, p.Call(proto.Close, proto.AppendNumber(nil, number), nil, time.Minute))
}

// consume gives room for messages, and for any number of bytes.
func (p *peer) consume(number, messages uint64) {
	p.t.Helper()
	c := proto.Consumed{Number: number, Messages: messages, Bytes: wide}
	require.NoError(p.t, p.Notify(proto.Credit, c.Append(nil), time.Minute))
}

func (p *peer) settle(number, tag uint64, acknowledged bool) {
	p.t.Helper()
	c := proto.Settled{Number: number, Tag: tag, Acknowledged: acknowledged}
	require.NoError(p.t, p.Notify(proto.Settle, c.Append(nil), time.Minute))
}

func (p *peer) publish(topic, data string) error {
	return p.publishWith(context.Background(), proto.Publication[string]{Topic: topic, Data: []byte(data)})
}

func (p *peer) publishWith(ctx context.Context, m proto.Publication[string]) error {
	m.Time = time.Now().UnixNano()
	return p.CallWith(ctx, proto.Send, m.Append(nil), nil)
}

// oldTopic is the body of a request of the old form.
func oldTopic(name, data string) []byte {
	t := proto.Topic[string]{Name: name, Data: []byte(data), Time: 1}
	return t.Append(nil)
}

func (p *peer) old(method, name, data string) error {
	return p.Call(method, oldTopic(name, data), nil, time.Minute)
}

// mustPublish has the server publish texts to a topic.
func (s *served) mustPublish(topic string, data ...string) {
	s.t.Helper()
	for _, d := range data {
		require.NoError(s.t, s.Publish(topic, d))
	}
}

// oldPeer is of version 1 of the wire.
func (s *served) oldPeer() *peer { return s.peer(arpc.WithVersions(1, 1)) }
