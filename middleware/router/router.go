// Package router has middleware for arpc.Handler.Use: Recover, Logger and
// Graceful. It works for requests and notifications; streams and the callbacks
// of CallAsync have no middleware.
//
// Middleware runs before the handlers of routes that are registered later, and
// the functions here are of use only there: call Use before Handle.
//
//	handler.Use(router.Logger())
//	handler.Use(router.Recover())
//	handler.Use(graceful.Handler())
//	handler.Handle("/echo", echo)
package router

import (
	"log/slog"

	"github.com/arpc-go/arpc"
)

// settings are what the options of Recover and Logger set.
type settings struct {
	logger *slog.Logger // nil: slog.Default
	level  slog.Level
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

func newSettings(level slog.Level, opts []Option) settings {
	s := settings{level: level}
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
