package pubsub

import (
	"context"
	"sync"

	"github.com/arpc-go/arpc"
	"github.com/arpc-go/arpc/extension/pubsub/internal/proto"
	"github.com/arpc-go/arpc/extension/pubsub/subject"
	"github.com/arpc-go/arpc/internal/transient"
)

// fan is the Watcher of one filter: it tells all subscriptions of the server to it that
// belong to no group.
type fan struct {
	// Set by fanOf, never changed.
	server  *Server
	filter  string
	literal bool // the filter is the name of a topic

	ready chan struct{} // closed when it is known whether it is watched
	stop  func()        // set before ready is closed, as err is
	err   error

	users int // those that attach or are attached; guarded by Server.mu

	mu            sync.Mutex
	subscriptions []*subscription
	next          int   // whose turn it is to be the one
	interrupted   error // the Broker is out of reach
}

// fanOf returns the fan of a filter, which is watched by then.
func (s *Server) fanOf(ctx context.Context, filter string) (*fan, error) {
	f, first := s.useFan(filter)
	if first {
		f.stop, f.err = s.broker.Watch(filter, f)
		close(f.ready)
	}
	err := f.wait(ctx)
	if err != nil {
		s.releaseFan(f)
		return nil, err
	}
	return f, nil
}

func (s *Server) useFan(filter string) (f *fan, first bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	f = s.fans[filter]
	if first = f == nil; first {
		f = &fan{server: s, filter: filter, literal: subject.IsLiteral(filter), ready: make(chan struct{})}
		s.fans[filter] = f
	}
	f.users++
	return f, first
}

func (f *fan) wait(ctx context.Context) error {
	select {
	case <-f.ready:
		return f.err
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// releaseFan gives back what fanOf returned. The first user has waited for the Broker,
// so the last one to go knows what came of it.
func (s *Server) releaseFan(f *fan) {
	if s.forgetFan(f) && f.stop != nil {
		f.stop()
	}
}

func (s *Server) forgetFan(f *fan) (last bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	f.users--
	last = f.users == 0
	if s.fans[f.filter] == f && (last || f.failed()) {
		delete(s.fans, f.filter)
	}
	return last
}

// failed reports whether the filter could not be watched.
func (f *fan) failed() bool {
	select {
	case <-f.ready:
		return f.err != nil
	default:
		return false
	}
}

func (f *fan) add(s *subscription) {
	f.mu.Lock()
	defer f.mu.Unlock()
	s.at = len(f.subscriptions)
	f.subscriptions = append(f.subscriptions, s)
	if f.interrupted != nil {
		s.tellNote(s.interruption(f.interrupted))
	}
}

func (f *fan) remove(s *subscription) {
	f.mu.Lock()
	defer f.mu.Unlock()
	last := len(f.subscriptions) - 1
	f.subscriptions[s.at] = f.subscriptions[last]
	f.subscriptions[s.at].at = s.at
	f.subscriptions[last] = nil
	f.subscriptions = f.subscriptions[:last]
}

// Deliver is called by the Broker.
func (f *fan) Deliver(m *Message) {
	forms := forms{fan: f, message: m}
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, s := range f.subscriptions {
		s.deliver(&forms)
	}
}

// DeliverToOne is called by the Broker. The subscriptions get it in turn, but for those
// that have no room.
func (f *fan) DeliverToOne(m *Message) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	n := len(f.subscriptions)
	for _, ready := range []func(*subscription) bool{(*subscription).direct, (*subscription).hasRoom, (*subscription).takes} {
		for i := range n {
			at := (f.next + i) % n
			if f.subscriptions[at].deliverAlone(m, ready) {
				f.next = at + 1
				return true
			}
		}
	}
	return false
}

// Size is called by the Broker.
func (f *fan) Size() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return len(f.subscriptions)
}

// Interrupted is called by the Broker.
func (f *fan) Interrupted(err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.interrupted != nil {
		return
	}
	f.interrupted = err
	for _, s := range f.subscriptions {
		s.tellNote(s.interruption(err))
	}
}

func (s *subscription) interruption(err error) entry {
	return s.note(&proto.Noted{Kind: proto.NoteInterrupted, Code: uint32(arpc.CodeOf(err)), Text: err.Error()})
}

// Resumed is called by the Broker. When something was lost the subscriptions are ended
// so that their clients open them again, and recover what can be, or know that it cannot.
func (f *fan) Resumed(complete bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.interrupted = nil
	for _, s := range f.subscriptions {
		switch {
		case complete:
			s.tellNote(s.note(&proto.Noted{Kind: proto.NoteResumed, Recovered: true}))
		case s.old:
			s.startOver()
		default:
			s.halt()
			f.server.start(func() { s.endWith(errLostBehind) })
		}
	}
}

var errLostBehind = arpc.NewError(arpc.CodeUnavailable, "pubsub: messages were lost while the broker was out of reach")

// forms is a message in the forms in which it goes to many, each made when the first
// subscription needs it. Guarded by fan.mu.
type forms struct {
	fan         *fan
	message     *Message
	old, recent entry
}

func (f *forms) of(old bool) entry {
	if old {
		if f.old.msg == nil {
			f.old = f.fan.server.oldEntry(f.message)
		}
		return f.old
	}
	if f.recent.msg == nil {
		f.recent = f.fan.entry(f.message)
	}
	return f.recent
}

// entry is the form for all subscriptions to the filter.
func (f *fan) entry(m *Message) entry {
	d := proto.Delivered[string]{Offset: m.Offset, Key: m.Key, Topic: m.Topic, Time: m.Time.UnixNano(), Data: m.Data}
	if !f.literal {
		d.Filter = f.filter
	}
	return f.server.entryOf(&d)
}

// alone makes a message for this subscription alone.
func (s *subscription) alone(m *Message, tag uint64, attempt int) entry {
	if s.old {
		return s.server.oldEntry(m)
	}
	d := proto.Delivered[string]{Number: s.number, Offset: m.Offset, Key: m.Key, Topic: m.Topic, Time: m.Time.UnixNano(), Data: m.Data}
	if attempt > 1 {
		d.Attempt = uint64(attempt)
	}
	if s.options.Ack {
		d.Tag = tag
	}
	e := s.server.entryOf(&d)
	e.tag = tag
	return e
}

// scratch is memory to make payloads in.
var scratch = sync.Pool{New: func() any { return new([]byte) }}

// maxScratch is the capacity in bytes of what goes back to scratch.
const maxScratch = 64 << 10

func (s *Server) entryOf(d *proto.Delivered[string]) entry {
	return s.encoded(proto.Message, d.Append)
}

func (s *Server) oldEntry(m *Message) entry {
	t := proto.Topic[string]{Name: m.Topic, Data: m.Data, Time: m.Time.UnixNano()}
	return s.encoded(proto.Publish, t.Append)
}

// encoded makes a message to push from a payload.
func (s *Server) encoded(method string, appendTo func([]byte) []byte) entry {
	s.counts.encoded.Add(1)
	buf := scratch.Get().(*[]byte)
	*buf = appendTo((*buf)[:0])
	e := entry{msg: s.NewMessage(arpc.CmdNotify, method, *buf), size: len(*buf)}
	transient.Lend(e.msg)
	if cap(*buf) <= maxScratch {
		scratch.Put(buf)
	}
	return e
}

// noteEntry makes a note to push. It is free, or counts as a message.
func (s *Server) noteEntry(n *proto.Noted, free bool) entry {
	body := n.Append(nil)
	return entry{msg: s.NewMessage(arpc.CmdNotify, proto.Note, body), size: len(body), free: free}
}
