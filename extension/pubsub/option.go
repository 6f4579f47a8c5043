package pubsub

import (
	"cmp"
	"log/slog"
	"time"

	"github.com/arpc-go/arpc"
	"github.com/arpc-go/arpc/extension/pubsub/internal/proto"
)

// Option is a setting for NewServer or NewClient. Where it makes no sense is an
// error, of NewClient or of the server's Run and Serve.
type Option struct {
	name   string
	client func(*clientSettings) // nil: it is none of a client
	server func(*serverSettings) // nil: it is none of a server
}

// forClient applies the option to the settings of a client.
func (o Option) forClient(s *clientSettings) error {
	if o.client == nil {
		return arpc.Errorf(arpc.CodeInvalidArgument, "pubsub: NewClient: %s is an option of servers", o.name)
	}
	o.client(s)
	return nil
}

// WithPassword sets the password: on a server the one that clients have to know,
// on a client the one that it authenticates with, from the first byte on. Default:
// none.
func WithPassword(password string) Option {
	return Option{
		name:   "WithPassword",
		client: func(s *clientSettings) { s.password, s.passwordSet = password, true },
		server: func(s *serverSettings) { s.password, s.passwordSet = password, true },
	}
}

// WithLogger sets where panics of callbacks and messages that make no sense are logged,
// and what arpc.WithLogger logs. Data never is. Default: nowhere.
func WithLogger(l *slog.Logger) Option {
	return Option{
		name:   "WithLogger",
		client: func(s *clientSettings) { s.logger = l },
		server: func(s *serverSettings) { s.logger, s.engine = l, append(s.engine, arpc.WithLogger(l)) },
	}
}

// Policy says what happens when a subscription's queue on the server is full,
// because the subscriber is slower than the publishers.
type Policy int

// The policies.
const (
	// DropOldest drops the oldest message in the queue. It is the default.
	DropOldest Policy = proto.PolicyDropOldest
	// DropNewest drops the message that there is no room for.
	DropNewest Policy = proto.PolicyDropNewest
	// KeepLatest keeps the latest message of each key, and where there is no key of
	// each topic; beyond that it is DropOldest.
	KeepLatest Policy = proto.PolicyKeepLatest
	// Block has publishers wait before the message is published to anybody.
	Block Policy = proto.PolicyBlock
	// Disconnect ends the connection of the subscriber.
	Disconnect Policy = proto.PolicyDisconnect
)

var policyNames = map[Policy]string{
	0: "default", DropOldest: "drop oldest", DropNewest: "drop newest", KeepLatest: "keep latest", Block: "block", Disconnect: "disconnect",
}

// String returns the policy's name, such as "drop oldest".
func (p Policy) String() string {
	if name, ok := policyNames[p]; ok {
		return name
	}
	return "unknown policy"
}

// PublishOption says something about one message.
type PublishOption struct{ publication }

// publication is what a message is published with.
type publication struct {
	key   string
	id    string
	noAck bool
}

func newPublication(opts []PublishOption) (p publication, err error) {
	for i := range opts {
		p.key = cmp.Or(opts[i].key, p.key)
		p.id = cmp.Or(opts[i].id, p.id)
		p.noAck = p.noAck || opts[i].noAck
	}
	switch {
	case len(p.key) > proto.MaxKeyLen:
		return p, tooLong("key", len(p.key), proto.MaxKeyLen, "WithKey")
	case len(p.id) > proto.MaxIDLen:
		return p, tooLong("id", len(p.id), proto.MaxIDLen, "WithMessageID")
	}
	return p, nil
}

func tooLong(what string, length, limit int, option string) error {
	return arpc.Unsent(arpc.Errorf(arpc.CodeInvalidArgument, "pubsub: a %s of %d bytes is longer than the limit of %d (%s)", what, length, limit, option))
}

// WithKey sets what KeepLatest keeps the latest message of. Default: none, which
// stands for the topic. At most 256 bytes.
func WithKey(key string) PublishOption { return PublishOption{publication{key: key}} }

// WithMessageID makes publishing safe to repeat: of several messages with the same
// id to a topic only the first is delivered, if they come within the time that the
// Broker remembers ids. A client then repeats by itself what lost its connection,
// once. At most 256 bytes.
func WithMessageID(id string) PublishOption { return PublishOption{publication{id: id}} }

// NoAck has a client not wait for the server: no error then means that the message
// is on its way, with others that are published at the same time. There is no
// position. ClientStatistics.Unsent counts those whose connection was lost just then.
func NoAck() PublishOption { return PublishOption{publication{noAck: true}} }

// SubscribeOption says something about one subscription.
type SubscribeOption func(*subscribing)

// subscribing is what a subscription is made with.
type subscribing struct {
	group          string
	groupOptions   GroupOptions
	manualAck      bool
	windowMessages int
	windowBytes    int
	policy         Policy
	queueMessages  int
	queueBytes     int
	start          Start
	onEvent        func(Event)
	presence       bool
	memberID       string
	memberInfo     []byte
	inline         bool
}

// WithGroup makes the subscription a member of a queue group: each message goes to
// one member only. The name has at most 256 bytes.
func WithGroup(name string) SubscribeOption { return func(s *subscribing) { s.group = name } }

// WithGroupAck makes it a member of a group whose messages are delivered until a
// member acknowledges them: see GroupOptions, whose Ack need not be set. They are
// acknowledged when the callback returns; one that panics gives its message back.
// Topic.Ack and Topic.Nak are for doing it earlier.
func WithGroupAck(name string, options GroupOptions) SubscribeOption {
	return func(s *subscribing) {
		options.Ack = true
		s.group, s.groupOptions = name, options
	}
}

// WithManualAck leaves acknowledging a group's messages to the program, by
// Topic.Ack and Topic.Nak, also after the callback has returned.
func WithManualAck() SubscribeOption { return func(s *subscribing) { s.manualAck = true } }

// WithWindow sets how much the server may have sent that the callback is not done
// with: so much of memory the subscription takes in this process. A single message
// may be larger. Default: 1024 messages and 1 MiB.
func WithWindow(messages, bytes int) SubscribeOption {
	return func(s *subscribing) { s.windowMessages, s.windowBytes = messages, bytes }
}

// WithPolicy sets what happens when the subscription's queue on the server is full.
// Default: DropOldest.
func WithPolicy(p Policy) SubscribeOption { return func(s *subscribing) { s.policy = p } }

// WithQueue bounds the subscription's queue on the server, in which messages wait
// that the window has no room for. Default: what the server says.
func WithQueue(messages, bytes int) SubscribeOption {
	return func(s *subscribing) { s.queueMessages, s.queueBytes = messages, bytes }
}

// WithStart sets where in the history the subscription begins. Default: with new
// messages.
func WithStart(start Start) SubscribeOption { return func(s *subscribing) { s.start = start } }

// StartAt is WithStart for one behind a position, such as Topic.Position, that was
// kept from a subscription of a process before.
func StartAt(behind Position) SubscribeOption {
	return WithStart(Start{Kind: StartAfter, Position: behind})
}

// StartAtTime is WithStart for one at a time.
func StartAtTime(since time.Time) SubscribeOption {
	return WithStart(Start{Kind: StartSince, Time: since})
}

// OnEvent has fn told what happens to the subscription, in its place among the
// messages and never at the same time as the callback runs.
func OnEvent(fn func(Event)) SubscribeOption { return func(s *subscribing) { s.onEvent = fn } }

// WithPresence has OnEvent told of subscribers that join and leave.
func WithPresence() SubscribeOption { return func(s *subscribing) { s.presence = true } }

// WithMember shows the subscription among those that are present, under an id of
// at most 256 bytes, with info of at most 4 KiB.
func WithMember(id string, info []byte) SubscribeOption {
	return func(s *subscribing) { s.memberID, s.memberInfo = id, info }
}

// WithInline has the callback run where messages are read, without a copy and a
// goroutine in between: for callbacks that are quick, where there are very many
// messages. The Topic and its Data are the callback's until it returns only. While it
// runs no other message is handled that comes over the client's connection in order, so
// that it must not wait for one.
func WithInline() SubscribeOption { return func(s *subscribing) { s.inline = true } }
