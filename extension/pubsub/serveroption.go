package pubsub

import (
	"context"
	"log/slog"
	"math"
	"time"

	"github.com/arpc-go/arpc"
	"github.com/arpc-go/arpc/extension/pubsub/internal/proto"
)

// bounds limit messages that wait, in number and in bytes.
type bounds struct{ messages, bytes int }

// atMost returns what was asked for as far as the limit goes, and otherwise where
// nothing was.
func (b bounds) atMost(limit, otherwise bounds) bounds {
	if b.messages <= 0 {
		b.messages = otherwise.messages
	}
	if b.bytes <= 0 {
		b.bytes = otherwise.bytes
	}
	return bounds{min(b.messages, limit.messages), min(b.bytes, limit.bytes)}
}

// serverSettings is what a server is set to.
type serverSettings struct {
	password     string
	passwordSet  bool
	engine       []arpc.Option
	logger       *slog.Logger // WithLogger
	broker       Broker
	authenticate AuthenticatorFunc
	access       AccessFunc

	authTimeout  time.Duration
	blockTimeout time.Duration
	deadAfter    time.Duration // WithPresenceTimeout

	maxSubscriptions int
	maxTopic         int
	maxInfo          int
	maxWill          int
	maxPresent       int
	queue            bounds // of a subscription that does not say
	maxQueue         bounds
	maxQueued        int64 // bytes
	maxWindow        bounds

	err error // what the first option had to complain of
}

func newServerSettings(opts []Option) serverSettings {
	s := serverSettings{
		authTimeout:      10 * time.Second,
		blockTimeout:     5 * time.Second,
		deadAfter:        15 * time.Second,
		maxSubscriptions: 10_000,
		maxTopic:         proto.MaxTopicLen,
		maxInfo:          1 << 10,
		maxWill:          64 << 10,
		maxPresent:       10_000,
		queue:            bounds{1024, 1 << 20},
		maxQueue:         bounds{64 << 10, 64 << 20},
		maxQueued:        64 << 20,
		maxWindow:        bounds{64 << 10, 16 << 20},
	}
	for _, opt := range opts {
		if opt.server == nil {
			s.complain("%s is an option of clients", opt.name)
			continue
		}
		opt.server(&s)
	}
	return s
}

func (s *serverSettings) complain(format string, args ...any) {
	if s.err == nil {
		s.err = arpc.Errorf(arpc.CodeInvalidArgument, "pubsub: NewServer: "+format, args...)
	}
}

// within complains unless all of n are from 1 to max.
func (s *serverSettings) within(option string, max int, n ...int) {
	for _, n := range n {
		if n < 1 || n > max {
			s.complain("%s: %d is not from 1 to %d", option, n, max)
		}
	}
}

func serverOption(name string, set func(*serverSettings)) Option {
	return Option{name: name, server: set}
}

// WithServerOptions passes options to the arpc.Server of a server, such as
// arpc.WithMaxConns. Routes of an arpc.WithHandler that are there before NewServer are
// not behind its authentication: with one they are an error of Run and Serve.
func WithServerOptions(opts ...arpc.Option) Option {
	return serverOption("WithServerOptions", func(s *serverSettings) { s.engine = append(s.engine, opts...) })
}

// WithBroker sets what messages go through. Who made it closes it, behind the server.
// Default: a memory broker without history, of the server's own.
func WithBroker(b Broker) Option {
	return serverOption("WithBroker", func(s *serverSettings) {
		if b == nil {
			s.complain("WithBroker: the broker is nil")
		}
		s.broker = b
	})
}

// AuthenticatorFunc decides who is let in, by the bytes that the client sent: its
// password, its token. They are nil of a connection that has sent none, which may be
// known by its certificate (arpc.TLSIdentityOf); the client may send some later. The
// identity, if it is not nil, is stored by Client.SetIdentity. An error without a code
// gets Unauthenticated; its text reaches the client. It is called by many goroutines at
// the same time; ctx ends when nobody waits any more.
type AuthenticatorFunc func(ctx context.Context, c *arpc.Client, credentials []byte) (identity any, err error)

// WithAuthenticator has clients authenticate by fn, in the place of a password.
func WithAuthenticator(fn AuthenticatorFunc) Option {
	return serverOption("WithAuthenticator", func(s *serverSettings) { s.authenticate = fn })
}

// WithAccess has fn decide what clients may do, for each message published, each
// subscription when it is opened, and each look at who is present. It is not asked for
// what the server itself does. Default: everything, to everybody who is let in.
func WithAccess(fn AccessFunc) Option {
	return serverOption("WithAccess", func(s *serverSettings) { s.access = fn })
}

// WithAuthTimeout limits how long a connection may take to authenticate, if it has to.
// Default: 10 s.
func WithAuthTimeout(d time.Duration) Option {
	return serverOption("WithAuthTimeout", func(s *serverSettings) {
		if d <= 0 {
			s.complain("WithAuthTimeout: %v is not positive", d)
		}
		s.authTimeout = d
	})
}

// WithBlockTimeout limits how long a subscription with the policy Block that takes
// nothing holds publishers up: then they fail with ResourceExhausted, at once from then
// on, until it takes something. Default: 5 s.
func WithBlockTimeout(d time.Duration) Option {
	return serverOption("WithBlockTimeout", func(s *serverSettings) {
		if d <= 0 {
			s.complain("WithBlockTimeout: %v is not positive", d)
		}
		s.blockTimeout = d
	})
}

// WithPresenceTimeout sets after how long another server of the same Broker that says
// nothing is taken for gone, with those who are present at it. A server with such
// subscribers says three times as often that it is there; all servers of a Broker should
// have the same. Default: 15 s.
func WithPresenceTimeout(d time.Duration) Option {
	return serverOption("WithPresenceTimeout", func(s *serverSettings) {
		if d < time.Millisecond {
			s.complain("WithPresenceTimeout: %v is less than a millisecond", d)
		}
		s.deadAfter = d
	})
}

// WithMaxSubscriptions limits the subscriptions of one connection. Default: 10,000.
func WithMaxSubscriptions(n int) Option {
	return serverOption("WithMaxSubscriptions", func(s *serverSettings) {
		s.within("WithMaxSubscriptions", math.MaxInt32, n)
		s.maxSubscriptions = n
	})
}

// WithMaxTopicLength limits topics and filters, in bytes. Default: 1024, which is the
// most there is.
func WithMaxTopicLength(n int) Option {
	return serverOption("WithMaxTopicLength", func(s *serverSettings) {
		s.within("WithMaxTopicLength", proto.MaxTopicLen, n)
		s.maxTopic = n
	})
}

// WithDefaultQueue bounds the queues of subscriptions that do not say how long theirs
// is to be. Default: 1024 messages, 1 MiB.
func WithDefaultQueue(messages, bytes int) Option {
	return serverOption("WithDefaultQueue", func(s *serverSettings) {
		s.within("WithDefaultQueue", math.MaxInt32, messages, bytes)
		s.queue = bounds{messages, bytes}
	})
}

// WithMaxQueue limits what a subscription may ask for as its queue; it gets no more.
// Default: 65,536 messages, 64 MiB.
func WithMaxQueue(messages, bytes int) Option {
	return serverOption("WithMaxQueue", func(s *serverSettings) {
		s.within("WithMaxQueue", math.MaxInt32, messages, bytes)
		s.maxQueue = bounds{messages, bytes}
	})
}

// WithMaxQueued limits what waits in the queues of all subscriptions of one connection,
// in bytes. What has no room is dropped, as by DropNewest, whatever the policy is.
// Default: 64 MiB.
func WithMaxQueued(bytes int) Option {
	return serverOption("WithMaxQueued", func(s *serverSettings) {
		s.within("WithMaxQueued", math.MaxInt, bytes)
		s.maxQueued = int64(bytes)
	})
}

// WithMaxWindow limits what a subscription may ask for as its window; it gets no more.
// Default: 65,536 messages, 16 MiB.
func WithMaxWindow(messages, bytes int) Option {
	return serverOption("WithMaxWindow", func(s *serverSettings) {
		s.within("WithMaxWindow", math.MaxInt32, messages, bytes)
		s.maxWindow = bounds{messages, bytes}
	})
}

// WithMaxMemberInfo limits what subscribers say of themselves to those who look who is
// present, in bytes. Default: 1 KiB. At most 4 KiB.
func WithMaxMemberInfo(bytes int) Option {
	return serverOption("WithMaxMemberInfo", func(s *serverSettings) {
		s.within("WithMaxMemberInfo", proto.MaxInfoLen, bytes)
		s.maxInfo = bytes
	})
}

// WithMaxWill limits the data of a client's will, in bytes. Default: 64 KiB.
func WithMaxWill(bytes int) Option {
	return serverOption("WithMaxWill", func(s *serverSettings) {
		s.within("WithMaxWill", math.MaxInt32, bytes)
		s.maxWill = bytes
	})
}

// WithMaxPresent limits how many subscribers an answer to Client.Presence has: if there
// are more it fails with ResourceExhausted. Default: 10,000.
func WithMaxPresent(n int) Option {
	return serverOption("WithMaxPresent", func(s *serverSettings) {
		s.within("WithMaxPresent", math.MaxInt32, n)
		s.maxPresent = n
	})
}
