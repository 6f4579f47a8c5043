package pubsub

import (
	"context"
	"time"
)

// Message is one published message, as a Broker carries it. Nothing of it changes
// once it is published: it is shared by all that it goes to.
type Message struct {
	Topic  string
	Data   []byte
	Time   time.Time // when it was published, by its publisher's clock
	Offset uint64    // its place in the Broker's history; 0: the topic has none
	Key    string    // what KeepLatest keeps the latest of; may be empty
	ID     string    // of the publisher, against doubles: Publish says; may be empty
}

// Position is a place in a Broker's history. Offsets grow over all topics, with
// gaps, and mean nothing in another epoch. The zero Position is before everything
// and of no epoch.
type Position struct {
	Epoch  string
	Offset uint64
}

// Broker is what messages go through, and where their history is kept. The server's
// own is in memory (NewMemoryBroker); extension/nats has one for many servers. A
// server uses one Broker; a Broker in one process may serve several servers.
// All methods may be called concurrently. arpctest.Broker tests what is said here.
type Broker interface {
	// Publish hands over a message and returns when it is accepted, with its position
	// if the topic has history. Messages to one topic that one goroutine publishes
	// one after the other arrive everywhere in that order. One whose ID was seen
	// lately on the same topic is accepted and not delivered again. Offset is set by the Broker, in a copy.
	// The error of a Broker that is out of reach has the code Unavailable: the
	// message may have been accepted.
	Publish(ctx context.Context, m *Message) (Position, error)

	// PublishToOne is Publish to one Watcher of all that match, which has Deliver
	// called by DeliverToOne. It goes into no history. Where nobody watches it is lost.
	PublishToOne(ctx context.Context, m *Message) error

	// Watch has w told of all messages to topics that filter matches and that are
	// published after it has returned, in the order of their topic and, for topics with
	// history, of their offsets, whatever the topic. stop returns when w is not called any more; it must not be
	// called from w.
	Watch(filter string, w Watcher) (stop func(), err error)

	// Read returns messages from history, oldest first, at most max of them.
	Read(ctx context.Context, filter string, from Start, max int) (Page, error)

	// Join makes the caller a member of a queue group. Each message to a topic that
	// filter matches goes to one member of each group.
	Join(filter, group string, o GroupOptions, m Member) (leave func(), err error)

	// Announce sends data to all other servers of the Broker, and Hear has it
	// received, in order per sender. It is for what need not be kept: presence.
	Announce(ctx context.Context, data []byte) error
	Hear(fn func(data []byte)) (stop func(), err error)

	// Close ends all watching, with nothing delivered afterwards.
	Close() error
}

// Watcher is told of messages. Its methods are called one at a time for one Watch,
// and do not block.
type Watcher interface {
	Deliver(m *Message)
	// DeliverToOne has one subscriber get it, and reports whether there was one.
	DeliverToOne(m *Message) bool
	// Size is how many subscribers there are behind it.
	Size() int
	// Interrupted says that nothing arrives for a while, since the Broker is out of
	// reach. Resumed ends that; complete says that nothing was lost meanwhile.
	Interrupted(err error)
	Resumed(complete bool)
}

// StartKind is where reading begins.
type StartKind int

// Kinds of starts.
const (
	StartNew   StartKind = iota // no history
	StartAfter                  // behind Start.Position
	StartSince                  // at Start.Time, by the publishers' clocks
	StartLast                   // with the last message of each topic
	StartAll                    // with the oldest there is
)

// Start is where reading begins.
type Start struct {
	Kind     StartKind
	Position Position
	Time     time.Time
}

// Page is a piece of history.
type Page struct {
	Messages []*Message
	// Next is the position behind the page: where reading goes on with StartAfter,
	// and where what is watched goes on if More is false. More says that max was
	// reached.
	Next Position
	More bool
	// Complete says that nothing published behind the start is missing: history was
	// long enough, and the start's epoch is that of the Broker. It is false for
	// filters that match a topic without history.
	Complete bool
}

// GroupOptions are options of a queue group. All members have the same.
type GroupOptions struct {
	// Ack has each message delivered until a member acknowledges it. The group then
	// outlives its members and misses nothing that is within the history limits; it
	// starts with what is published after it was first joined. Only topics with
	// history count. Without it a message is delivered once, at most, to one who is there.
	Ack bool
	// AckWait is how long a member may take before another gets the message.
	AckWait time.Duration
	// MaxPending is how many messages a member has at a time without having
	// acknowledged or returned them.
	MaxPending int
}

// Member takes messages of a queue group. Take does not block; Done of the delivery
// must be called once for each, from any goroutine.
type Member interface {
	Take(d Delivery)
}

// Delivery is a message for one member of a group.
type Delivery struct {
	*Message
	Attempt int // 1 the first time
	// Done ends it: acknowledged, or given back so that another member gets it,
	// soon. Without GroupOptions.Ack it does nothing but make room.
	Done func(acknowledged bool)
}
