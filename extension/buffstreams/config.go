package buffstreams

import (
	"cmp"
	"context"
	"crypto/tls"
	"fmt"
	"log/slog"
	"math"
	"net"
	"time"
)

// Forever as Retry.Attempts never gives up.
const Forever = math.MaxInt

// What settings are when they are 0.
const (
	defaultTimeout   = 10 * time.Second
	defaultSendQueue = 1 << 20
	defaultRetryBase = 100 * time.Millisecond
	defaultRetryMax  = 10 * time.Second
)

// ConnConfig says what a Conn connects to, and how. Both ends must have the same
// MaxMessageSize.
type ConnConfig struct {
	// Address is the TCP address to dial, such as "127.0.0.1:5031".
	Address string
	// MaxMessageSize limits messages, in bytes, both ways; it also decides how long
	// headers are. 0: DefaultMaxMessageSize. At most 1 GiB.
	MaxMessageSize int

	// Logger is told of lost connections and of messages that are given up, never
	// of what is in them. nil: nobody is.
	Logger *slog.Logger
	// EnableLogging logs to slog.Default() if there is no Logger.
	EnableLogging bool

	// TLS encrypts what is dialled at Address. nil: no TLS. Without a ServerName
	// that of Address is used.
	TLS *tls.Config
	// Dial connects instead of Address and TLS, to anything that is a net.Conn. It
	// may be called from any goroutine, one at a time. nil: TCP.
	Dial func(context.Context) (net.Conn, error)
	// DialTimeout limits a dial, with the handshake of TLS. 0: 10 seconds.
	DialTimeout time.Duration

	// WriteTimeout is how long a peer may take nothing before its connection is
	// given up (64 KiB must get through in it), and how long Write and Close wait.
	// 0: 10 seconds.
	WriteTimeout time.Duration
	// SendQueue bounds what was accepted and neither sent nor given up nor handed
	// over to Undelivered, in bytes with headers. A message larger than that passes
	// when there is nothing else. At the bound Send waits for its context, and Write
	// for WriteTimeout. 0: 1 MiB.
	SendQueue int

	// Retry has queued messages sent over further connections.
	Retry Retry
	// Undelivered is handed each message that was accepted and could not be sent,
	// in the order of Send, one at a time, on a goroutine of its own. The message
	// is the callee's. It may call the methods of the Conn. While it is busy other
	// messages wait in the SendQueue. nil: see UndeliveredError.
	Undelivered func(message []byte, cause error)
}

// Retry says what becomes of messages that wait when a connection fails.
//
// Without Attempts they are given up, and the next Send dials; if the peer has just
// closed the connection, they go over a new one, which is dialled once. With Attempts
// they stay in the queue, Send goes on queueing, and connections are dialled in the
// background until all is sent or the attempts are used up. Nothing is ever sent
// twice: what was handed to a connection that failed is not sent again, a message
// cut in two is sent whole.
type Retry struct {
	// Attempts is how many connections in a row may fail before a message was
	// handed to them, until what waits is given up. The next Send begins anew.
	// 0: none. Forever: never given up.
	Attempts int
	// Base and Max bound the pause before an attempt, which is random: up to Base
	// at first, doubling up to Max. Without Attempts a Send that would have to dial
	// in a pause fails with ErrNotConnected instead; the first dial after a failure
	// is always made. 0: 100 ms and 10 s.
	Base, Max time.Duration
}

// settings is what a Conn works with.
type settings struct {
	framing      framing
	logger       *slog.Logger
	dial         func(context.Context) (net.Conn, error) // nil: it cannot be reopened
	dialTimeout  time.Duration
	writeTimeout time.Duration
	sendQueue    int
	retry        Retry
	undelivered  func(message []byte, cause error)
}

func (cfg *ConnConfig) settings() (*settings, error) {
	framing, err := newFraming(cfg.MaxMessageSize)
	if err != nil {
		return nil, err
	}
	s := &settings{
		framing:      framing,
		logger:       loggerFor(cfg.Logger, cfg.EnableLogging),
		dial:         cfg.Dial,
		dialTimeout:  cmp.Or(cfg.DialTimeout, defaultTimeout),
		writeTimeout: cmp.Or(cfg.WriteTimeout, defaultTimeout),
		sendQueue:    cmp.Or(cfg.SendQueue, defaultSendQueue),
		retry: Retry{
			Attempts: cfg.Retry.Attempts,
			Base:     cmp.Or(cfg.Retry.Base, defaultRetryBase),
			Max:      cmp.Or(cfg.Retry.Max, defaultRetryMax),
		},
		undelivered: cfg.Undelivered,
	}
	if s.dial == nil && cfg.Address != "" {
		s.dial = dialer(cfg.Address, cfg.TLS)
	}
	if s.dialTimeout < 0 || s.writeTimeout < 0 || s.sendQueue < 0 || s.retry.Attempts < 0 || s.retry.Base < 0 || s.retry.Max < 0 {
		return nil, fmt.Errorf("buffstreams: no setting may be negative: %v, %v, %d, %+v", s.dialTimeout, s.writeTimeout, s.sendQueue, s.retry)
	}
	return s, nil
}

func dialer(addr string, config *tls.Config) func(context.Context) (net.Conn, error) {
	if config == nil {
		return func(ctx context.Context) (net.Conn, error) {
			var d net.Dialer
			return d.DialContext(ctx, "tcp", addr)
		}
	}
	return func(ctx context.Context) (net.Conn, error) {
		d := tls.Dialer{Config: config}
		return d.DialContext(ctx, "tcp", addr)
	}
}

func loggerFor(l *slog.Logger, enabled bool) *slog.Logger {
	switch {
	case l != nil:
		return l
	case enabled:
		return slog.Default()
	}
	return slog.New(slog.DiscardHandler)
}

// ListenerConfig says what a Listener does with connections and messages. Both ends
// must have the same MaxMessageSize.
type ListenerConfig struct {
	// Address is the TCP address to listen on, such as ":5031".
	Address string
	// MaxMessageSize limits messages, in bytes, both ways; it also decides how long
	// headers are. 0: DefaultMaxMessageSize. At most 1 GiB.
	MaxMessageSize int

	// Callback is called with each message, those of a connection one after the
	// other, those of several at the same time. The message is valid until it
	// returns. An error, or a panic, is logged, and the connection goes on.
	Callback ListenCallback
	// Handler is a Callback that can answer. Set one of the two, or none and use
	// Messages.
	Handler Handler

	// Logger is told of connections that fail and of what callbacks return, never
	// of what is in messages. nil: nobody is.
	Logger *slog.Logger
	// EnableLogging logs to slog.Default() if there is no Logger.
	EnableLogging bool

	// TLS encrypts the connections, whose handshakes may take 10 seconds. nil: no
	// TLS.
	TLS *tls.Config
	// MaxConns limits the connections there are at a time: what comes beyond is
	// closed at once, and counted. 0: no limit.
	MaxConns int
	// IdleTimeout closes connections on which no message was completed for so long,
	// or up to an eighth longer. 0: none.
	IdleTimeout time.Duration
	// WriteTimeout is how long a peer may take no answers before its connection is
	// given up (64 KiB must get through in it), and how long Conn.Write and
	// Conn.Close wait. 0: 10 seconds.
	WriteTimeout time.Duration
	// SendQueue bounds the answers that wait on a connection, in bytes with headers.
	// One larger than that passes when there is nothing else. At the bound Conn.Send
	// waits for its context, and Conn.Write for WriteTimeout. 0: 1 MiB.
	SendQueue int
}

// ListenCallback is called with a message. See ListenerConfig.Callback.
type ListenCallback func(message []byte) error

// Handler is called with a message and the connection that it came on, to answer
// with c.Send, also later and from other goroutines. ctx ends with the connection.
// See ListenerConfig.Callback for the rest.
type Handler func(ctx context.Context, c *Conn, message []byte) error

func (cfg *ListenerConfig) settings() (*settings, error) {
	if cfg.MaxConns < 0 || cfg.IdleTimeout < 0 {
		return nil, fmt.Errorf("buffstreams: no setting may be negative: %d, %v", cfg.MaxConns, cfg.IdleTimeout)
	}
	conns := ConnConfig{
		MaxMessageSize: cfg.MaxMessageSize,
		Logger:         cfg.Logger,
		EnableLogging:  cfg.EnableLogging,
		WriteTimeout:   cfg.WriteTimeout,
		SendQueue:      cfg.SendQueue,
	}
	return conns.settings()
}
