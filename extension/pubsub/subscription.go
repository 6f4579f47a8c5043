package pubsub

import (
	"context"
	"sync"
	"time"

	"github.com/arpc-go/arpc"
	"github.com/arpc-go/arpc/extension/pubsub/internal/proto"
	"github.com/arpc-go/arpc/extension/pubsub/internal/queue"
	"github.com/arpc-go/arpc/extension/pubsub/subject"
)

// subscription is one of a connection. What is published goes to the connection at once
// while its window and the connection have room, and otherwise waits in the queue: for
// credit, or for the session's pump, which waits for the connection.
type subscription struct {
	// Set when it is made, never changed.
	server  *Server
	session *session
	client  *arpc.Client
	number  uint64 // 0: of the old form
	filter  string
	group   string
	old     bool
	events  bool        // joined and left are wanted
	shown   *Subscriber // nil: not shown among those present
	policy  Policy
	limit   bounds // of the queue
	options GroupOptions

	reading reading // owned by open, then by begin or what it starts

	at   int  // index in fan.subscriptions, guarded by fan.mu
	told bool // it is in slowWatch.told, guarded by slowWatch.mu

	// Guarded by mu, under which nothing of the Broker is called.
	mu       sync.Mutex
	state    subscriptionState
	attached attachment
	pumped   bool // the pump pushes, and nobody else
	window   bounds
	queue    queue.Queue[entry]
	counted  int    // bytes of it in session.queued
	behind   uint64 // live messages up to this offset were replayed
	seen     uint64 // the last live message while it was not live
	holds    bool   // nothing is to be read: live messages are held until it is live
	first    uint64 // the first of those, 0: there was none
	held     []heldMessage
	heldSize int           // bytes in held
	sent     uint64        // messages
	unread   uint64        // messages from history that the peer cannot get
	slow     bool          // since the queue was full, until it is empty
	reserved bounds        // by publishers that wait for the Broker; policy Block
	full     time.Time     // since when it takes nothing while a publisher waits; policy Block
	room     chan struct{} // closed when there may be room; nil: nobody waits
	wake     chan struct{} // has the replay look at the window again, capacity 1; nil: there is none
	member   *member       // of a group, nil otherwise
}

// subscriptionState says what is done with live messages.
type subscriptionState byte

const (
	opening subscriptionState = iota // they wait, or are read from history: holds
	live
	halted // about to end: they are lost
	ended
)

// heldMessage waits until a subscription that reads nothing is live.
type heldMessage struct {
	entry
	key string
}

// entry is what waits for a subscription.
type entry struct {
	msg  *arpc.Message
	size int    // of the payload, for the window
	free bool   // a note for which there is no window
	tag  uint64 // of a group's delivery
}

func (s *subscription) key() filterKey { return filterKey{s.filter, s.group, s.old} }

func (s *subscription) makeQueue() {
	policy, limit := queue.DropOldest, s.limit
	switch s.policy {
	case DropNewest:
		policy = queue.DropNewest
	case KeepLatest:
		policy = queue.KeepLatest
	case Block:
		// What has room is decided before it is published, but for what others servers
		// of the Broker publish.
		policy, limit = queue.DropNewest, bounds{2 * limit.messages, 2 * limit.bytes}
	}
	s.queue = queue.New[entry](policy, limit.messages, limit.bytes)
}

// attachment is what a subscription has of the server and of the Broker.
type attachment struct {
	fan    *fan
	leave  func() // a group
	blocks *subject.Entry[*subscription]
}

// attach has messages delivered from now on, and reads where the subscription begins.
func (s *subscription) attach(ctx context.Context, from Start) error {
	s.holds = from.Kind == StartNew
	a, err := s.join(ctx)
	if err == nil && a.fan != nil && !s.old {
		s.reading, err = s.server.beginReading(ctx, s.filter, from)
		s.beginWithHeld()
	}
	if err == nil {
		err = s.keep(a)
	}
	if err != nil {
		s.detach(a)
	}
	return err
}

// beginWithHeld moves the start before the first message that waits.
func (s *subscription) beginWithHeld() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.first != 0 {
		s.reading.startBefore(s.first)
	}
	if s.holds {
		s.behind = s.reading.page.Next.Offset
	}
}

func (s *subscription) join(ctx context.Context) (a attachment, err error) {
	if s.member != nil {
		leave, err := s.server.broker.Join(s.filter, s.group, s.options, s)
		if err == nil {
			a.leave = leave
		}
		return a, err
	}
	if a.fan, err = s.server.fanOf(ctx, s.filter); err != nil {
		return a, err
	}
	a.fan.add(s)
	if s.policy == Block {
		a.blocks, _ = s.server.blockers.Add(s.filter, s) // the filter was checked
	}
	return a, nil
}

// keep leaves detaching to end, unless that is over.
func (s *subscription) keep(a attachment) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.state == ended {
		return errLeaving
	}
	s.attached = a
	return nil
}

func (s *subscription) detach(a attachment) {
	if a.fan != nil {
		a.fan.remove(s)
		s.server.releaseFan(a.fan)
	}
	if a.leave != nil {
		a.leave()
	}
	if a.blocks != nil {
		s.server.blockers.Remove(a.blocks)
	}
}

func (s *subscription) hasEnded() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.state == ended
}

// deliver takes a live message. It does not wait.
func (s *subscription) deliver(f *forms) {
	frame := f.of(s.old)
	s.mu.Lock()
	defer s.mu.Unlock()
	offset := f.message.Offset
	switch {
	case s.state == live && offset != 0 && offset <= s.behind:
		// It was replayed.
	case s.state == opening && offset != 0 && !s.old:
		s.seen = offset // it will be read, unless it is held
		if s.holds && offset > s.behind {
			s.hold(offset, frame, keyOf(f.message))
		}
	case s.takes():
		s.send(frame, keyOf(f.message))
	}
}

// hold has a message wait until the subscription is live. When there are more than its
// window takes at once all are read from history instead. Guarded by mu.
func (s *subscription) hold(offset uint64, e entry, key string) {
	if s.first == 0 {
		s.first = offset
	}
	s.held, s.heldSize = append(s.held, heldMessage{e, key}), s.heldSize+e.size
	messages, bytes := s.queue.Messages()
	if messages+len(s.held) > s.window.messages || bytes+s.heldSize > s.window.bytes {
		s.holds, s.held = false, nil
	}
}

// takes reports whether messages are for the subscription at all. Guarded by mu.
func (s *subscription) takes() bool { return s.state == opening || s.state == live }

// hasRoom reports whether a message would not be dropped. Guarded by mu.
func (s *subscription) hasRoom() bool { return s.takes() && s.queue.HasRoom(1, 0) }

// deliverAlone takes a message for this subscription alone if it is ready, which ready
// is called with mu held to say.
func (s *subscription) deliverAlone(m *Message, ready func(*subscription) bool) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !ready(s) {
		return false
	}
	s.send(s.alone(m, 0, 0), keyOf(m))
	return true
}

// note makes a note for this subscription.
func (s *subscription) note(n *proto.Noted) entry {
	n.Number = s.number
	return s.server.noteEntry(n, true)
}

// tellNote has a note in its place among the messages. Who has the old form gets none.
func (s *subscription) tellNote(e entry) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.state == ended || s.old:
	case s.queue.Notes() == maxNotes:
		s.queue.Skip(1) // a gap is all it hears of
	default:
		s.queue.PushNote(e)
		s.drain()
	}
}

// maxNotes is how many notes wait for a subscription.
const maxNotes = 8

// end ends the subscription. The peer is told why, unless because is nil.
func (s *subscription) end(because error) {
	s.mu.Lock()
	if s.state == ended {
		s.mu.Unlock()
		return
	}
	s.state = ended
	s.wakeReplay()
	s.queue.Clear(nil)
	s.account()
	pending := s.member.takeAll()
	s.madeRoom()
	attached := s.attached
	s.mu.Unlock()

	if because != nil && !s.old {
		e := s.note(&proto.Noted{Kind: proto.NoteEnded, Code: uint32(arpc.CodeOf(because)), Text: because.Error()})
		s.client.TryPush(e.msg) // a connection that is full ends without
	}
	s.detach(attached)
	finish(pending, false)
	s.server.presence.left(s)
	s.server.retire(s)
}

// endWith ends the subscription because of err, which the peer is told.
func (s *subscription) endWith(err error) {
	s.session.forget(s)
	s.end(err)
}

// halt has the subscription take nothing more until it is ended.
func (s *subscription) halt() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.state != ended {
		s.state = halted
	}
}

// startOver forgets about offsets, which may mean something else now.
func (s *subscription) startOver() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.behind = 0
}
