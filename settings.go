package arpc

import (
	"context"
	"fmt"
	"log/slog"
	"math"
	"time"

	"github.com/arpc-go/arpc/codec"
	"github.com/arpc-go/arpc/internal/wire"
)

// Forever as the number of attempts of WithReconnect never gives up.
const Forever = math.MaxInt

// settings are the values behind the options and setters of a Handler. A
// connection keeps the ones in force when it was made.
type settings struct {
	codec  codec.Codec
	logger *slog.Logger

	maxBody int

	sendMessages int
	sendBytes    int

	keepaliveInterval time.Duration // 0: off; negative: the default of the side
	keepaliveTimeout  time.Duration

	reconnectBase     time.Duration
	reconnectMax      time.Duration
	reconnectAttempts int

	readTimeout  time.Duration
	writeTimeout time.Duration
	busyPoll     time.Duration // 0: off

	maxConns         int
	maxConnsPerAddr  int
	maxInflight      int
	maxInflightBytes int
	maxStreams       int
	streamMessages   int
	streamBytes      int

	orderedRequests bool

	minVersion   int // of the wire; 0: 1, or 2 with HandleAuth
	maxVersion   int
	helloTimeout time.Duration
	compat       string
	peerName     string
	credentials  func(context.Context) ([]byte, error)
	streamWindow int
	maxMetadata  int
	callTimeout  time.Duration // 0: none
	waitForReady bool
	comeBack     time.Duration
	idleTimeout  time.Duration // 0: off

	decisions decisions
}

// decisions are switches for the benchmarks that justify how the engine works;
// the zero value is what it does.
type decisions struct {
	neverYield  bool // flush at once: BenchmarkYield
	neverInline bool // a goroutine for each message: BenchmarkBaton
	neverReuse  bool // and a new one at that: BenchmarkSlowHandler
	alwaysCopy  bool // large bodies through the output buffer: BenchmarkLargeBody
	neverRaw    bool // sockets through net.Conn: BenchmarkIdleConnection
	neverShare  bool // who pushes a message flushes it: BenchmarkBroadcast, BenchmarkAsync
}

const defaultStreamWindow = 256 << 10

func defaultSettings() settings {
	return settings{
		logger:            slog.New(slog.DiscardHandler),
		maxBody:           wire.DefaultMaxBodyLen,
		sendMessages:      16384,
		sendBytes:         16 << 20,
		keepaliveInterval: -1,
		keepaliveTimeout:  15 * time.Second,
		reconnectBase:     100 * time.Millisecond,
		reconnectMax:      10 * time.Second,
		reconnectAttempts: Forever,
		readTimeout:       30 * time.Second,
		writeTimeout:      10 * time.Second,
		maxInflight:       10000,
		maxInflightBytes:  64 << 20,
		maxStreams:        1000,
		streamMessages:    4096,
		streamBytes:       1 << 20,
		maxVersion:        2,
		helloTimeout:      5 * time.Second,
		streamWindow:      defaultStreamWindow,
		maxMetadata:       16 << 10,
	}
}

// Option is a setting for NewHandler, NewServer or NewClient. A value that
// makes no sense is reported by NewClient, Server.Run and Server.Serve.
type Option struct {
	handler *Handler       // the one to use, from WithHandler
	apply   func(*Handler) // what to change in it
}

// handlerFor returns the handler that opts ask for, changed as they say.
func handlerFor(opts []Option) (*Handler, error) {
	var h *Handler
	for _, opt := range opts {
		if opt.handler != nil {
			h = opt.handler
		}
	}
	if h == nil {
		h = DefaultHandler.Clone()
	}
	h.apply(opts)
	return h, h.optionError()
}

// WithHandler uses h itself instead of a clone of DefaultHandler, so that
// several clients or servers share its routes. Options beside it change h.
func WithHandler(h *Handler) Option {
	return Option{handler: h, apply: func(used *Handler) {
		if h == nil {
			used.set("WithHandler", "must not be nil", false, nil)
		}
	}}
}

// WithCodec sets how values become payloads. Default: codec.DefaultCodec,
// which is JSON. Strings, byte slices, buffers and errors never pass the codec.
func WithCodec(c codec.Codec) Option {
	return Option{apply: func(h *Handler) {
		h.set("WithCodec", "must not be nil", c != nil, func(s *settings) { s.codec = c })
	}}
}

// WithLogger sets where connections that end, panics and refused frames are
// logged. Payloads never are. Default: nowhere.
func WithLogger(l *slog.Logger) Option {
	return Option{apply: func(h *Handler) {
		h.set("WithLogger", "must not be nil", l != nil, func(s *settings) { s.logger = l })
	}}
}

// WithMaxBodyLen limits the body of a message, method and payload, in bytes,
// both ways. Default: 64 MiB less 16 bytes. A larger message is an error to
// its sender; it is neither sent nor kept, and the connection goes on.
func WithMaxBodyLen(n int) Option {
	return Option{apply: func(h *Handler) {
		ok := n > 0 && int64(n) <= math.MaxUint32
		h.set("WithMaxBodyLen", fmt.Sprintf("must be 1 to %d, not %d", uint32(math.MaxUint32), n), ok, func(s *settings) { s.maxBody = n })
	}}
}

// WithSendQueue bounds what waits to be written on a connection, in messages
// and in bytes. Default: 16384 messages, 16 MiB. A single message larger than
// the bound passes when nothing else waits. When the queue is full a sender
// waits for its context; with TimeZero it fails with ErrOverstock.
func WithSendQueue(messages, bytes int) Option {
	return Option{apply: func(h *Handler) {
		h.set("WithSendQueue", fmt.Sprintf("both bounds must be positive, not %d and %d", messages, bytes), messages > 0 && bytes > 0, func(s *settings) {
			s.sendMessages, s.sendBytes = messages, bytes
		})
	}}
}

// WithKeepalive sends a ping when nothing came from the peer for interval, and
// ends the connection with ErrKeepalive when nothing comes for timeout after
// it. An interval of 0 turns it off. Default: 30 s and 15 s on the dialling
// side, off on the accepting one.
func WithKeepalive(interval, timeout time.Duration) Option {
	return Option{apply: func(h *Handler) {
		ok := interval >= 0 && timeout >= 0 && (interval == 0 || timeout > 0)
		h.set("WithKeepalive", fmt.Sprintf("needs an interval of 0 or more and a positive timeout, not %v and %v", interval, timeout), ok, func(s *settings) {
			s.keepaliveInterval, s.keepaliveTimeout = interval, timeout
		})
	}}
}

// WithBusyPoll has the reader of a TCP or Unix socket look for more bytes for so
// long before it sleeps, which spares waking it: a single caller's round trip takes
// half of the time or less. It costs up to a core for each connection with traffic,
// so it is for few connections on machines with cores to spare; 20 to 200
// microseconds make sense, on both ends. At most a second. Default: 0, off.
func WithBusyPoll(d time.Duration) Option {
	return Option{apply: func(h *Handler) {
		h.set("WithBusyPoll", fmt.Sprintf("must be 0 to %v, not %v", maxBusyPoll, d), d >= 0 && d <= maxBusyPoll, func(s *settings) {
			s.busyPoll = d
		})
	}}
}

// maxBusyPoll is the longest time of WithBusyPoll.
const maxBusyPoll = time.Second

// WithReconnect sets how a dialled client comes back after its connection
// ended: the wait before attempt n is random between 0 and the smaller of max
// and base times 2 to the n ("full jitter"). After so many failed attempts in
// a row the client closes; 0 attempts turn reconnecting off, Forever never
// gives up. Default: 100 ms, 10 s, Forever.
func WithReconnect(base, max time.Duration, attempts int) Option {
	return Option{apply: func(h *Handler) {
		ok := attempts == 0 || attempts > 0 && base > 0 && max >= base
		h.set("WithReconnect", fmt.Sprintf("needs 0 < base <= max and attempts of 0 or more, not %v, %v and %d", base, max, attempts), ok, func(s *settings) {
			s.reconnectBase, s.reconnectMax, s.reconnectAttempts = base, max, attempts
		})
	}}
}

// WithReadTimeout limits how long a frame may take to arrive once its first
// byte is in; each further 64 KiB of it starts the time anew. An idle
// connection is not affected. 0 turns it off. Default: 30 s.
func WithReadTimeout(d time.Duration) Option {
	return Option{apply: func(h *Handler) {
		h.set("WithReadTimeout", fmt.Sprintf("must not be negative: %v", d), d >= 0, func(s *settings) { s.readTimeout = d })
	}}
}

// WithWriteTimeout ends a connection whose peer takes no byte for so long
// while something waits to be written. 0 turns it off. Default: 10 s.
func WithWriteTimeout(d time.Duration) Option {
	return Option{apply: func(h *Handler) {
		h.set("WithWriteTimeout", fmt.Sprintf("must not be negative: %v", d), d >= 0, func(s *settings) { s.writeTimeout = d })
	}}
}

// WithMaxConns limits the connections of a server; more are closed at once and
// counted. 0 is no limit. Default: 0.
func WithMaxConns(n int) Option {
	return Option{apply: func(h *Handler) {
		h.set("WithMaxConns", fmt.Sprintf("must not be negative: %d", n), n >= 0, func(s *settings) { s.maxConns = n })
	}}
}

// WithMaxConnsPerAddress limits the connections of a server that come from one IP
// address, or from one /64 of IPv6, which is what a single customer gets; more are
// closed at once and counted. Behind a proxy all have one address. 0 is no limit.
// Default: 0.
func WithMaxConnsPerAddress(n int) Option {
	return Option{apply: func(h *Handler) {
		h.set("WithMaxConnsPerAddress", fmt.Sprintf("must not be negative: %d", n), n >= 0, func(s *settings) { s.maxConnsPerAddr = n })
	}}
}

// WithMaxInflight limits the requests and notifications of one connection that
// handlers have in hand at the same time. At the limit the connection is not
// read, so that the peer's sends wait; while calls of our own are in flight on
// it, further requests are refused with CodeResourceExhausted instead.
// Default: 10000.
func WithMaxInflight(n int) Option {
	return Option{apply: func(h *Handler) {
		h.set("WithMaxInflight", fmt.Sprintf("must be positive: %d", n), n > 0, func(s *settings) { s.maxInflight = n })
	}}
}

// WithMaxInflightBytes is WithMaxInflight in bytes of messages held by
// handlers that do not run on the reader and of queued notifications. A single
// message larger than the limit passes when nothing else is held. As much again
// may wait on all streams of the connection together that have no windows, or of
// messages larger than the window (WithStreamWindow); a stream that goes beyond is
// dropped with ErrStreamOverrun. Default: 64 MiB.
func WithMaxInflightBytes(n int) Option {
	return Option{apply: func(h *Handler) {
		h.set("WithMaxInflightBytes", fmt.Sprintf("must be positive: %d", n), n > 0, func(s *settings) { s.maxInflightBytes = n })
	}}
}

// WithMaxStreams limits the streams that are open on one connection, both
// sides' together. A peer can have a connection hold up to two windows
// (WithStreamWindow) of each. Default: 1000.
func WithMaxStreams(n int) Option {
	return Option{apply: func(h *Handler) {
		h.set("WithMaxStreams", fmt.Sprintf("must be positive: %d", n), n > 0, func(s *settings) { s.maxStreams = n })
	}}
}

// WithStreamQueue bounds what one stream has received and nobody has taken
// yet. A stream whose queue overruns is dropped with ErrStreamOverrun; the
// connection and its other streams go on. Default: 4096 messages, 1 MiB.
func WithStreamQueue(messages, bytes int) Option {
	return Option{apply: func(h *Handler) {
		h.set("WithStreamQueue", fmt.Sprintf("both bounds must be positive, not %d and %d", messages, bytes), messages > 0 && bytes > 0, func(s *settings) {
			s.streamMessages, s.streamBytes = messages, bytes
		})
	}}
}

// WithVersions limits the versions of the wire that are spoken. A max of 1 sends
// no hello and answers none. A min of 2 refuses peers of version 1, which know
// no deadlines, cancellation, codes, flow control or authentication. Default: 1
// and 2, and 2 and 2 on the accepting side of a handler with HandleAuth.
func WithVersions(min, max int) Option {
	return Option{apply: func(h *Handler) {
		ok := 1 <= min && min <= max && max <= 2
		h.set("WithVersions", fmt.Sprintf("needs 1 <= min <= max <= 2, not %d and %d", min, max), ok, func(s *settings) {
			s.minVersion, s.maxVersion = min, max
		})
	}}
}

// WithHelloTimeout limits how long a dialled connection may take until the peer
// has answered the hello, TLS and credentials included, and on the accepting side
// of a handler with HandleAuth how long a peer may take until it is let in.
// Default: 5 s.
func WithHelloTimeout(d time.Duration) Option {
	return Option{apply: func(h *Handler) {
		h.set("WithHelloTimeout", fmt.Sprintf("must be positive: %v", d), d > 0, func(s *settings) { s.helloTimeout = d })
	}}
}

// maxHelloText is the longest of the texts in a hello in bytes.
const maxHelloText = 1 << 10

// WithCompat has connections to peers refused whose compatibility string is
// another one: "which application, which version of it". Both ends check, each
// if it has one. Default: none. A peer of version 1 has none and is not checked.
func WithCompat(compat string) Option {
	return Option{apply: func(h *Handler) {
		h.set("WithCompat", fmt.Sprintf("must have at most %d bytes", maxHelloText), len(compat) <= maxHelloText, func(s *settings) { s.compat = compat })
	}}
}

// WithPeerName sets a name that the other end gets, for people: see PeerInfo.
func WithPeerName(name string) Option {
	return Option{apply: func(h *Handler) {
		h.set("WithPeerName", fmt.Sprintf("must have at most %d bytes", maxHelloText), len(name) <= maxHelloText, func(s *settings) { s.peerName = name })
	}}
}

// WithCredentials has a dialled client authenticate: fn is asked for each
// connection anew, and its bytes, at most 32 KiB, reach the server's HandleAuth
// hook before anything else. An error of it is an error to connect. The context
// ends with the hello timeout.
func WithCredentials(fn func(context.Context) ([]byte, error)) Option {
	return Option{apply: func(h *Handler) {
		h.set("WithCredentials", "must not be nil", fn != nil, func(s *settings) { s.credentials = fn })
	}}
}

// WithStreamWindow sets how many bytes a stream may receive before its reader has
// taken some, with 16 added for each message. The peer's sends wait then. A larger
// single message passes when it is the first. Default: 256 KiB.
func WithStreamWindow(bytes int) Option {
	return Option{apply: func(h *Handler) {
		ok := bytes >= 1024 && int64(bytes) <= math.MaxUint32
		h.set("WithStreamWindow", fmt.Sprintf("must be 1024 to %d bytes, not %d", uint32(math.MaxUint32), bytes), ok, func(s *settings) { s.streamWindow = bytes })
	}}
}

// WithMaxMetadata limits the metadata of a message that is accepted, in bytes as
// they travel; error details count too. Default: 16 KiB.
func WithMaxMetadata(bytes int) Option {
	return Option{apply: func(h *Handler) {
		ok := bytes >= 64 && int64(bytes) <= math.MaxUint32
		h.set("WithMaxMetadata", fmt.Sprintf("must be 64 to %d bytes, not %d", uint32(math.MaxUint32), bytes), ok, func(s *settings) { s.maxMetadata = bytes })
	}}
}

// WithCallTimeout limits calls whose context has no deadline. 0 is no limit.
// Default: 0.
func WithCallTimeout(d time.Duration) Option {
	return Option{apply: func(h *Handler) {
		h.set("WithCallTimeout", fmt.Sprintf("must not be negative: %v", d), d >= 0, func(s *settings) { s.callTimeout = d })
	}}
}

// WithWaitForReady has calls, notifications and streams of a dialled client wait
// for a connection when there is none, until their context or timeout ends, rather
// than fail at once with ErrDisconnected. ContextWithWaitForReady says otherwise
// for a single one. Default: false.
func WithWaitForReady(wait bool) Option {
	return Option{apply: func(h *Handler) {
		h.set("WithWaitForReady", "", true, func(s *settings) { s.waitForReady = wait })
	}}
}

// WithComeBackAfter is what Shutdown tells peers: how long they are to wait before
// they dial again, up to a fifth longer so that they do not come at once. Default:
// 0, at once, which suits a server beside others behind one name.
func WithComeBackAfter(d time.Duration) Option {
	return Option{apply: func(h *Handler) {
		h.set("WithComeBackAfter", fmt.Sprintf("must not be negative: %v", d), d >= 0, func(s *settings) { s.comeBack = d })
	}}
}

// WithIdleTimeout ends connections from which nothing has come for so long, not
// even a ping, with ErrIdle. Peers that ping keep theirs: see WithKeepalive. 0
// turns it off. Default: 0.
func WithIdleTimeout(d time.Duration) Option {
	return Option{apply: func(h *Handler) {
		h.set("WithIdleTimeout", fmt.Sprintf("must not be negative: %v", d), d >= 0, func(s *settings) { s.idleTimeout = d })
	}}
}

// set changes one setting, or keeps the first complaint for whoever starts.
func (h *Handler) set(name, complaint string, ok bool, change func(*settings)) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if !ok {
		if h.err == nil {
			h.err = Errorf(CodeInvalidArgument, "arpc: %s: %s", name, complaint)
		}
		return
	}
	change(&h.settings)
	h.published.Store(nil)
}

// SetMaxBodyLen is WithMaxBodyLen.
func (h *Handler) SetMaxBodyLen(n int) { WithMaxBodyLen(n).apply(h) }

// MaxBodyLen returns the limit that WithMaxBodyLen set, so that a coder can stop
// before it makes a message that is refused.
func (h *Handler) MaxBodyLen() int { return h.snapshot().settings.maxBody }

// SetSendQueueSize is WithSendQueue for the number of messages alone.
func (h *Handler) SetSendQueueSize(messages int) {
	h.set("SetSendQueueSize", fmt.Sprintf("must be positive: %d", messages), messages > 0, func(s *settings) { s.sendMessages = messages })
}

// SetReadTimeout is WithReadTimeout.
func (h *Handler) SetReadTimeout(d time.Duration) { WithReadTimeout(d).apply(h) }

// SetWriteTimeout is WithWriteTimeout.
func (h *Handler) SetWriteTimeout(d time.Duration) { WithWriteTimeout(d).apply(h) }

// SetAsyncResponse sets the mode of requests registered without one from now
// on: concurrent with true, the default, or ordered with false. See Handle.
func (h *Handler) SetAsyncResponse(async bool) {
	h.set("SetAsyncResponse", "", true, func(s *settings) { s.orderedRequests = !async })
}
