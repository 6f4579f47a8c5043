package router

import (
	"crypto/rand"
	"fmt"
	"log/slog"
	"runtime/debug"

	"github.com/arpc-go/arpc"
)

// idLen is how many random characters name a panic.
const idLen = 10

// Recover returns middleware that ends the panics of what runs behind it. The
// request, if it is one that was not answered, fails with CodeInternal and a
// text such as "internal error, id MNQXEY3BJZ". The panic's value and stack go
// to the log only, with the same id and before the answer; so the peer learns
// nothing, and who it complains to finds the line. Nothing more of the chain
// runs. A handler that ends its goroutine with runtime.Goexit is left alone.
//
// Without Recover the engine ends panics too, with a text that has no id.
func Recover(opts ...Option) arpc.HandlerFunc {
	s := newSettings(slog.LevelError, opts)
	return func(ctx *arpc.Context) {
		defer func() {
			if p := recover(); p != nil {
				s.panicked(ctx, p)
			}
		}()
		ctx.Next()
	}
}

func (s settings) panicked(ctx *arpc.Context, p any) {
	ctx.Abort()
	id := rand.Text()[:idLen]
	s.log().LogAttrs(ctx, s.level, "arpc: a handler panicked", append(source(ctx),
		slog.String("id", id),
		slog.String("panic", fmt.Sprint(p)),
		slog.String("stack", string(debug.Stack())),
	)...)
	// An error says that nobody waits for an answer, or no longer.
	ctx.Error(arpc.NewError(arpc.CodeInternal, "internal error, id "+id))
}
