package pubsub_test

import (
	"context"
	"errors"
	"fmt"
	"net"
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
)

// patience is how long a test waits for what must happen.
const patience = 30 * time.Second

// script is a server that does what a test tells it, and writes down what clients ask.
// It accepts every subscription, and has no history.
type script struct {
	t  *testing.T
	ln *arpctest.MemoryListener

	// May be set before clients connect.
	onOpen  func(o proto.Opening) (proto.Opened, error)
	onNote  func(o proto.Opening) *proto.Noted    // nil: no note
	opened  func(c *arpc.Client, o proto.Opening) // behind the answer, in the place of onNote
	onSend  func(p proto.Publication[[]byte]) (proto.Position[string], error)
	onLogin func(password string) error

	server *arpc.Server

	mu       sync.Mutex
	peers    []*arpc.Client
	openings []proto.Opening
	closed   []uint64
	credits  []proto.Consumed
	settled  []proto.Settled
	sent     []string // topic=data
	wills    []string // topic=data, or nothing
	logins   []string
}

func newScript(t *testing.T, opts ...arpc.Option) *script {
	s := &script{t: t, ln: arpctest.ListenMemory(), server: arpc.NewServer(opts...)}
	h := s.server.Handler
	h.HandleConnected(func(c *arpc.Client) { s.note(func() { s.peers = append(s.peers, c) }) })
	h.Handle(proto.Open, s.open, false)
	h.Handle(proto.Close, func(ctx *arpc.Context) {
		number, err := proto.ParseNumber(ctx.Body())
		s.check(err)
		s.note(func() { s.closed = append(s.closed, number) })
		ctx.Write(nil)
	}, false)
	h.Handle(proto.Credit, func(ctx *arpc.Context) {
		r, err := proto.ParseConsumed(ctx.Body())
		s.check(err)
		s.note(func() { s.credits = append(s.credits, r) })
	})
	h.Handle(proto.Settle, func(ctx *arpc.Context) {
		r, err := proto.ParseSettled(ctx.Body())
		s.check(err)
		s.note(func() { s.settled = append(s.settled, r) })
	})
	h.Handle(proto.Send, s.send, false)
	h.Handle(proto.Will, s.will, false)
	h.Handle(proto.Authenticate, s.login)
	go s.server.Serve(s.ln)
	t.Cleanup(s.server.Stop)
	return s
}

// note changes what is written down.
func (s *script) note(f func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	f()
}

// look returns what was written down.
func look[T any](s *script, list *[]T) []T {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(*list)
}

func (s *script) check(err error) {
	if err != nil {
		s.t.Error(err)
	}
}

func (s *script) open(ctx *arpc.Context) {
	o, err := proto.ParseOpening(ctx.Body())
	s.check(err)
	s.note(func() { s.openings = append(s.openings, o) })
	var answer proto.Opened
	if s.onOpen != nil {
		if answer, err = s.onOpen(o); err != nil {
			ctx.Error(err)
			return
		}
	}
	ctx.Write(answer.Append(nil))
	if s.opened != nil {
		s.opened(ctx.Client, o)
		return
	}
	n := &proto.Noted{Kind: proto.NoteStarted, Recovered: true}
	if s.onNote != nil {
		n = s.onNote(o)
	}
	if n != nil {
		n.Number = o.Number
		push(ctx.Client, proto.Note, n.Append(nil))
	}
}

func push(c *arpc.Client, method string, body []byte) error {
	return c.PushMsg(c.NewMessage(arpc.CmdNotify, method, body), time.Second)
}

func (s *script) send(ctx *arpc.Context) {
	p, err := proto.ParsePublication(ctx.Body())
	s.check(err)
	s.note(func() { s.sent = append(s.sent, fmt.Sprintf("%s=%s", p.Topic, p.Data)) })
	var at proto.Position[string]
	if s.onSend != nil {
		if at, err = s.onSend(p); err != nil {
			ctx.Error(err)
			return
		}
	}
	ctx.Write(at.Append(nil))
}

func (s *script) will(ctx *arpc.Context) {
	text := ""
	if len(ctx.Body()) > 0 {
		p, err := proto.ParsePublication(ctx.Body())
		s.check(err)
		text = fmt.Sprintf("%s=%s", p.Topic, p.Data)
	}
	s.note(func() { s.wills = append(s.wills, text) })
	ctx.Write(nil)
}

func (s *script) login(ctx *arpc.Context) {
	password := string(ctx.Body())
	s.note(func() { s.logins = append(s.logins, password) })
	if s.onLogin != nil {
		if err := s.onLogin(password); err != nil {
			ctx.Error(err)
			return
		}
	}
	ctx.Write(nil)
}

// client returns a client of the script, which is stopped at the end.
func (s *script) client(opts ...pubsub.Option) *pubsub.Client {
	s.t.Helper()
	c, err := pubsub.NewClient(s.ln.Dial, opts...)
	require.NoError(s.t, err)
	s.t.Cleanup(c.Stop)
	return c
}

// peer returns the script's end of the newest connection.
func (s *script) peer() *arpc.Client {
	if len(look(s, &s.peers)) == 0 {
		synctest.Wait()
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.peers[len(s.peers)-1]
}

// opening returns the newest one.
func (s *script) opening() proto.Opening {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.openings[len(s.openings)-1]
}

// asked returns all openings, and forgets them.
func (s *script) asked() (all []proto.Opening) {
	s.note(func() { all, s.openings = s.openings, nil })
	return all
}

// deliver sends messages over the newest connection.
func (s *script) deliver(all ...proto.Delivered[string]) {
	s.t.Helper()
	for _, d := range all {
		require.NoError(s.t, push(s.peer(), proto.Message, d.Append(nil)))
	}
}

// tell sends a note to a subscription over the newest connection.
func (s *script) tell(n proto.Noted) {
	s.t.Helper()
	require.NoError(s.t, push(s.peer(), proto.Note, n.Append(nil)))
}

// message is one to a topic without history.
func message(topic, data string) proto.Delivered[string] {
	return proto.Delivered[string]{Topic: topic, Data: []byte(data)}
}

// numbered is one to a topic with history.
func numbered(topic string, offset uint64) proto.Delivered[string] {
	return proto.Delivered[string]{Topic: topic, Offset: offset, Data: fmt.Append(nil, offset)}
}

// cut ends the newest connection, and returns when the client has another one and has
// done what it then does.
func (s *script) cut() {
	synctest.Wait()
	s.peer().Stop()
	time.Sleep(2 * time.Second) // of a bubble's clock
	synctest.Wait()
}

// diary is what a subscription has told, in order.
type diary struct {
	mu    sync.Mutex
	lines []string
}

func (d *diary) add(format string, args ...any) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.lines = append(d.lines, fmt.Sprintf(format, args...))
}

// message is for a callback.
func (d *diary) message(t *pubsub.Topic) { d.add("%s", t.Data) }

// event is for OnEvent.
func (d *diary) event(e pubsub.Event) {
	switch e.Kind {
	case pubsub.EventStarted, pubsub.EventResumed:
		d.add("%v %v", e.Kind, e.Recovered)
	case pubsub.EventGap:
		d.add("gap %d", e.Missed)
	case pubsub.EventJoined, pubsub.EventLeft:
		d.add("%s %v", e.Subscriber.ID, e.Kind)
	case pubsub.EventEnded:
		d.add("ended %v", arpc.CodeOf(e.Err))
	default:
		d.add("%v", e.Kind)
	}
}

// take returns what was written down, and forgets it. It is for bubbles.
func (d *diary) take() []string {
	synctest.Wait()
	d.mu.Lock()
	defer d.mu.Unlock()
	lines := d.lines
	d.lines = nil
	return lines
}

func nothing(*pubsub.Topic) {}

// site is an address at which servers come and go.
type site struct {
	mu sync.Mutex
	ln *arpctest.MemoryListener // nil: nobody is there
}

func (s *site) set(ln *arpctest.MemoryListener) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.ln = ln
}

func (s *site) dial() (net.Conn, error) {
	s.mu.Lock()
	ln := s.ln
	s.mu.Unlock()
	if ln == nil {
		return nil, errors.New("nobody is there")
	}
	return ln.Dial()
}

// bubble runs a test in fake time.
func bubble(t *testing.T, f func(t *testing.T)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) { f(t) })
}

// within is a context that is long enough for what must happen.
func within(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	t.Cleanup(cancel)
	return ctx
}
