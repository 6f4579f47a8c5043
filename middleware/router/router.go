// Package router has middleware for arpc.Handler.Use: Recover, Logger, Graceful,
// Timeout, RateLimit, Bulkhead, Adaptive, Auth and Validate. It works for requests
// and notifications, of both versions of the wire.
//
// Middleware runs before the handlers of routes that are registered later, and
// the functions here are of use only there: call Use before Handle. What comes
// first is the outermost. An order that makes sense is
//
//	handler.Use(router.Logger())
//	handler.Use(router.Recover())
//	handler.Use(graceful.Handler())
//	handler.Use(auth.Handler())
//	handler.Use(rateLimit.Handler())
//	handler.Use(timeout.Handler())
//	handler.Use(adaptive.Handler())
//	handler.Use(router.Validate())
//	handler.Handle("/echo", echo)
//
// A request that is turned away is answered with an error, and its handler does
// not run. A notification cannot be answered: it is dropped and counted. Only
// limits middleware to some of the routes.
//
// Streams pass the middleware of arpc.Handler.UseStream alone, for which Graceful,
// RateLimit, Bulkhead and Auth have a method Stream. The callbacks of CallAsync pass
// none.
package router

import (
	"log/slog"

	"github.com/arpc-go/arpc"
)

// settings are what the options of Recover and Logger set.
type settings struct {
	logger *slog.Logger // nil: slog.Default
	level  slog.Level

	well, badly int // of so many messages one is logged
}

// Option is a setting for Recover or Logger.
type Option func(*settings)

// WithLogger sets where to log. Default: slog.Default, as it is when something
// is logged; nil is the default too.
func WithLogger(l *slog.Logger) Option {
	return func(s *settings) { s.logger = l }
}

// WithLevel sets the level to log with. Default: slog.LevelError for Recover,
// slog.LevelInfo for Logger.
func WithLevel(level slog.Level) Option {
	return func(s *settings) { s.level = level }
}

// WithSampling has Logger log one in so many messages: of those that went well,
// and of those that did not, which are requests answered with an error or not at
// all, and panics. The first of each is logged; 0 logs none. Default: 1 and 1, all
// of them. Recover logs every panic.
func WithSampling(well, badly int) Option {
	return func(s *settings) { s.well, s.badly = well, badly }
}

func newSettings(level slog.Level, opts []Option) settings {
	s := settings{level: level, well: 1, badly: 1}
	for _, opt := range opts {
		opt(&s)
	}
	return s
}

func (s settings) log() *slog.Logger {
	if s.logger != nil {
		return s.logger
	}
	return slog.Default()
}

// source returns the attributes that say where a message comes from.
func source(ctx *arpc.Context) []slog.Attr {
	peer := ""
	if addr := ctx.Client.Conn().RemoteAddr(); addr != nil {
		peer = addr.String()
	}
	kind := "request"
	if ctx.Message.Cmd() == arpc.CmdNotify {
		kind = "notify"
	}
	return []slog.Attr{
		slog.String("kind", kind),
		slog.String("method", ctx.Message.Method()),
		slog.String("peer", peer),
	}
}
