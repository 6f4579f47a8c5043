package command

import (
	"context"
	"errors"
	"runtime/debug"
	"sync"

	"github.com/arpc-go/arpc"
)

// Start sends a command and returns when it is on its way. Its results come through a
// channel of its own. An error means that it was not sent; arpc.SafeToRetry says
// whether it may be sent again. The command may be changed when Start returns.
//
// Whoever does not want the results of a command to their end cancels it, or ctx:
// otherwise they wait in its window (arpc.WithStreamWindow), which holds up its Exec and
// nothing else on the connection, and a goroutine waits with them. Of a command that
// has at most one result nobody need take care.
func Start[R, T any](ctx context.Context, s *Sender[T], cmd Command[T, R]) (*Pending[R], error) {
	p := &Pending[R]{results: make(chan Result[R], 1), done: make(chan struct{})}
	ctx, p.cancel = context.WithCancelCause(ctx)
	sent := make(chan struct{})
	go p.run(func() error {
		return follow(ctx, p.cancel, s, cmd, sync.OnceFunc(func() { close(sent) }), p.give)
	})
	select {
	case <-sent:
		return p, nil
	case <-p.done:
	}
	select {
	case <-sent:
		return p, nil
	default:
	}
	if p.err == nil {
		p.err = arpc.NewError(arpc.CodeInternal, "command: Start: an interceptor sent nothing and returned no error")
	}
	return nil, p.err
}

// Pending is a command that was sent by Start. Its methods may be called from any
// goroutine at any time.
type Pending[R any] struct {
	// Set by Start, never changed.
	results chan Result[R]
	done    chan struct{} // closed when the command has ended
	cancel  context.CancelCauseFunc

	err error // why it has failed; set before done is closed
}

// Results has the results in order. It is closed behind the last one, and when the
// command has ended otherwise; Err then says how.
func (p *Pending[R]) Results() <-chan Result[R] { return p.results }

// Done is closed when the command has ended: nothing more comes than what is in Results.
func (p *Pending[R]) Done() <-chan struct{} { return p.done }

// Err returns nil until the command has ended. Then it is nil if all results came,
// and otherwise why not, as of Send.
func (p *Pending[R]) Err() error {
	select {
	case <-p.done:
		return p.err
	default:
		return nil
	}
}

// Has reports whether the command has not ended: results may still come.
func (p *Pending[R]) Has() bool {
	select {
	case <-p.done:
		return false
	default:
		return true
	}
}

// Cancel ends the command: the server is told, the ctx of its Exec ends, and results
// that come nevertheless are unexpected, Registry.HandleUnexpected. Err has
// arpc.CodeCanceled then. Of a command that has ended it does nothing.
func (p *Pending[R]) Cancel() { p.cancel(errCanceled) }

var errCanceled = errors.New("Pending.Cancel")

// run is the life of the goroutine behind a Pending.
func (p *Pending[R]) run(fn func() error) {
	err := error(arpc.NewError(arpc.CodeInternal, "command: Start: an interceptor, hook or codec ended its goroutine"))
	defer func() {
		if v := recover(); v != nil {
			err = arpc.Errorf(arpc.CodeInternal, "command: Start: an interceptor, hook or codec panicked: %v\n%s", v, debug.Stack())
		}
		p.err = err
		close(p.done)
		close(p.results)
	}()
	err = fn()
}

// give waits for whoever takes results.
func (p *Pending[R]) give(ctx context.Context, r Result[R]) error {
	select {
	case p.results <- r:
		return nil
	case <-ctx.Done():
		return arpc.Errorf(arpc.CodeOf(ctx.Err()), "command: nobody took its results: %w", context.Cause(ctx))
	}
}
