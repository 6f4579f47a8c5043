package router

import (
	"log/slog"
	"time"

	"github.com/arpc-go/arpc"
)

// Logger returns middleware that logs one line for each message, after what
// runs behind it has returned. The attributes are
//
//   - kind: "request" or "notify",
//   - method and peer, the address,
//   - duration,
//   - bytes: the length of the message as its handler gets it, header included,
//   - outcome: of a request "answered", which includes detached, "error" when it
//     was answered with one, or "unanswered"; of a notification "handled"; of
//     both "panicked" when the handler did, or ended its goroutine.
//
// Payloads are never logged. Nothing is measured when the level is not enabled.
func Logger(opts ...Option) arpc.HandlerFunc {
	s := newSettings(slog.LevelInfo, opts)
	return func(ctx *arpc.Context) {
		if l := s.log(); l.Enabled(ctx, s.level) {
			observe(ctx, l, s.level)
		}
	}
}

func observe(ctx *arpc.Context, l *slog.Logger, level slog.Level) {
	attrs := source(ctx)
	bytes := ctx.Message.Len()
	start := time.Now()
	returned := false
	defer func() {
		l.LogAttrs(ctx, level, "arpc: message", append(attrs,
			slog.Duration("duration", time.Since(start)),
			slog.Int("bytes", bytes),
			slog.String("outcome", outcome(ctx, returned)),
		)...)
	}()
	ctx.Next()
	returned = true
}

func outcome(ctx *arpc.Context, returned bool) string {
	answered, failed := ctx.Answered()
	switch {
	case !returned:
		return "panicked"
	case ctx.Message.Cmd() == arpc.CmdNotify:
		return "handled"
	case failed:
		return "error"
	case answered:
		return "answered"
	}
	return "unanswered"
}
