package pubsub

import (
	"context"
	"time"

	"github.com/arpc-go/arpc"
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

// ErrBrokerClosed is what the methods of a Broker return after Close.
var ErrBrokerClosed = arpc.NewError(arpc.CodeUnavailable, "pubsub: the broker is closed")

// Broker is what messages go through, and where their history is kept. The server's
// own is in memory (NewMemoryBroker). A
// server uses one Broker; a Broker in one process may serve several servers. Brokers
// that are connected, and what is behind them, are a cluster; a Broker in memory is
// one by itself.
//
// All methods may be called concurrently, but not from a Watcher or a Member while it
// is called. arpctest.Broker tests what is said here.
//
// A topic or filter that package subject refuses is an error of CodeInvalidArgument,
// and a Broker that is out of reach one of CodeUnavailable. Where the context has ended
// already nothing is done, and its error is returned.
type Broker interface {
	// Publish hands over a message, with the bytes of it, and returns when it is
	// accepted, with its position if the topic has history. Messages to one topic
	// that one goroutine publishes one after the other arrive everywhere in that
	// order. Offset is set by the Broker, in a copy, and so is Time if it is zero and
	// the topic has history.
	//
	// One whose ID was seen lately on the same topic is accepted and not delivered
	// again; the position is that of the first. For a topic without history that
	// holds for what is published to the same Broker, with history for the cluster.
	//
	// After an error of CodeUnavailable the message may have been accepted.
	Publish(ctx context.Context, m *Message) (Position, error)

	// PublishToOne is Publish to one of the subscribers of all Watchers whose filters
	// match: a Watcher gets it by DeliverToOne, as often as its Size says. If that one
	// has nobody any more another is asked, of the same Broker at least. It goes into
	// no history. Where nobody watches it is lost.
	PublishToOne(ctx context.Context, m *Message) error

	// Watch has w told of all messages to topics that filter matches and that are
	// published after it has returned, anywhere in the cluster: those of one publisher
	// to one topic in their order, and all with an offset in the order of offsets. stop
	// returns when w is not called any more; it must not be called from w, and may be
	// called again.
	Watch(filter string, w Watcher) (stop func(), err error)

	// Read returns messages from history, oldest first, at most max of them, which is
	// 1 or more. What was accepted before Read is called is among them, or Lost says that
	// it may not be, such as when it is removed while Read is at it.
	Read(ctx context.Context, filter string, from Start, max int) (Page, error)

	// Join makes the caller a member of a queue group. Each message to a topic that
	// filter matches, published after it has returned, goes to one member of each
	// group, and what a member gets the first time it gets in the order of Watch, but for
	// what had to wait for room at another Broker, which may come late. A
	// group is known by its filter and its name, in the whole cluster. leave returns
	// when m is not called any more; what m has is given to others at once if the group
	// is one with acknowledgement. leave must not be called from m, and may be called
	// again.
	//
	// An error of CodeFailedPrecondition says that the group has members with other
	// options.
	Join(filter, group string, o GroupOptions, m Member) (leave func(), err error)

	// Announce has data received by all who Hear in the cluster when it is called,
	// the caller too, in order per sender; an answer may be heard before what it
	// answers, by others than who gave it. Nobody changes data afterwards. It is for
	// what need not be kept: presence. fn is called one at a time, and may use the
	// Broker. stop returns when fn is not called any more; it must not be called from
	// fn, and may be called again.
	Announce(ctx context.Context, data []byte) error
	Hear(fn func(data []byte)) (stop func(), err error)

	// Close ends all watching, membership and hearing of this Broker, with nothing
	// delivered after it has returned. It may be called again. What is still called is
	// stop, leave and Done, which do nothing; all else returns ErrBrokerClosed.
	Close() error
}

// Watcher is told of messages. Its methods are called one at a time for one Watch,
// with locks held that others wait for: they do not block, and do not use the Broker.
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
	StartNew   StartKind = iota // no history: an empty Page that says where the end is
	StartAfter                  // behind Start.Position
	StartSince                  // with what was published at Start.Time or later, by the publishers' clocks
	StartLast                   // with the last message of each topic
	StartAll                    // with the oldest there is
)

// Start is where reading begins.
type Start struct {
	Kind StartKind
	// Position is what StartAfter needs. With the other kinds what is not behind it is
	// left out: so one goes on behind a Page. An Offset of another epoch is none, and
	// so is one that has not been reached: what is read is all that there is.
	Position Position
	Time     time.Time
}

// Page is a piece of history.
type Page struct {
	Messages []*Message
	// Next is the position behind the page: where reading goes on, with the same
	// Start but for its Position, and where what is watched goes on if More is false.
	// More says that max was reached.
	Next Position
	More bool
	// Lost says that history was not long enough: something was kept and is not any
	// more that was published behind Start.Position, for StartSince at that time or
	// later, for StartLast as the last message of a topic, for StartAll ever. It is
	// true as well if Start.Position, where it matters or is not zero, is of another
	// epoch than the Broker, and may be where the Broker cannot know.
	Lost bool
	// Complete says that nothing is missing: Lost is false, and filter matches no
	// topic without history.
	Complete bool
}

// GroupOptions are options of a queue group. All members have the same.
type GroupOptions struct {
	// Ack has each message delivered until a member acknowledges it. The group then
	// outlives its members and misses nothing that is within the history limits; it
	// starts with what is published after it was first joined. Only topics with
	// history count. Without it a message is delivered once, at most, to one who is there.
	Ack bool
	// AckWait is how long a member may take before another gets the message, or the
	// same again if there is no other. Default: 30 s.
	AckWait time.Duration
	// MaxPending is how many messages a member has at a time without having
	// acknowledged or returned them and without AckWait being over. Default: 256.
	MaxPending int
	// MaxWaiting is, without Ack, how many messages wait while no member has room;
	// further ones are dropped and counted. Default: 1024.
	MaxWaiting int
}

// Defaults of GroupOptions.
const (
	defaultAckWait    = 30 * time.Second
	defaultMaxPending = 256
	defaultMaxWaiting = 1024
)

// WithDefaults returns o with defaults in the place of what is zero or less.
func (o GroupOptions) WithDefaults() GroupOptions {
	if o.AckWait <= 0 {
		o.AckWait = defaultAckWait
	}
	if o.MaxPending <= 0 {
		o.MaxPending = defaultMaxPending
	}
	if o.MaxWaiting <= 0 {
		o.MaxWaiting = defaultMaxWaiting
	}
	return o
}

// Member takes messages of a queue group. Take is called for one message at a time
// and does not block. Done of the delivery must be called once for each, from any
// goroutine, from Take too.
type Member interface {
	Take(d Delivery)
}

// Delivery is a message for one member of a group.
type Delivery struct {
	*Message
	Attempt int // 1 the first time
	// Done ends it: acknowledged, or given back so that another member gets it,
	// soon. Without GroupOptions.Ack it does nothing but make room. An
	// acknowledgement that comes when AckWait is over counts, though the message may
	// be with another member by then.
	Done func(acknowledged bool)
}
