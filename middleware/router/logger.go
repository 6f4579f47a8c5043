package router

import (
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/arpc-go/arpc"
)

// Logger returns middleware that logs one line for each message, or for some of
// them, see WithSampling, after what runs behind it has returned. The attributes
// are
//
//   - kind: "request" or "notify",
//   - method and peer, the address,
//   - duration,
//   - bytes: the length of the message as its handler gets it, header included,
//   - outcome: of a request "answered", which includes detached, "error" when it
//     was answered with one, or "unanswered"; of a notification "handled"; of
//     both "panicked" when the handler did, or ended its goroutine,
//   - sampled: of how many such messages this is one; only if it is not the only
//     one.
//
// Payloads and the texts of errors are never logged. Nothing is measured when the
// level is not enabled.
func Logger(opts ...Option) arpc.HandlerFunc {
	l := &requestLog{settings: newSettings(slog.LevelInfo, opts), born: time.Now()}
	return func(ctx *arpc.Context) {
		if logger := l.log(); logger.Enabled(ctx, l.level) {
			l.observe(ctx, logger)
		}
	}
}

type requestLog struct {
	settings
	born time.Time

	wells, badlies atomic.Uint64 // messages so far
}

func (l *requestLog) observe(ctx *arpc.Context, logger *slog.Logger) {
	seen := sight{start: time.Since(l.born), bytes: ctx.Message.Len()}
	defer l.seen(ctx, logger, &seen)
	ctx.Next()
	seen.returned = true
}

// sight is what Logger sees of a message.
type sight struct {
	start    time.Duration // since requestLog.born
	bytes    int
	returned bool
}

func (l *requestLog) seen(ctx *arpc.Context, logger *slog.Logger, s *sight) {
	end, well := outcome(ctx, s.returned)
	one, count := l.badly, &l.badlies
	if well {
		one, count = l.well, &l.wells
	}
	if one <= 0 || one > 1 && (count.Add(1)-1)%uint64(one) != 0 {
		return
	}
	attrs := append(source(ctx),
		slog.Duration("duration", time.Since(l.born)-s.start),
		slog.Int("bytes", s.bytes),
		slog.String("outcome", end),
	)
	if one > 1 {
		attrs = append(attrs, slog.Int("sampled", one))
	}
	logger.LogAttrs(ctx, l.level, "arpc: message", attrs...)
}

// outcome says what became of a message, and whether that is well.
func outcome(ctx *arpc.Context, returned bool) (end string, well bool) {
	answered, failed := ctx.Answered()
	switch {
	case !returned:
		return "panicked", false
	case ctx.Message.Cmd() == arpc.CmdNotify:
		return "handled", true
	case failed:
		return "error", false
	case answered:
		return "answered", true
	}
	return "unanswered", false
}
