package call

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/arpc-go/arpc"
)

// Timeout ends calls after d, unless the caller's own deadline is earlier: the
// error has CodeDeadlineExceeded, and the peer is told what time is left. Behind a
// Retry it is the time of each attempt. It panics unless d is positive.
//
// For notifications it is the longest wait for room to send. Streams have no
// timeout: with a deadline they would end in the middle.
func Timeout(d time.Duration) arpc.CallInterceptor {
	mustHave(fmt.Sprintf("Timeout(%v): a positive duration", d), d > 0)
	tooLong := fmt.Errorf("it took more than %v (call.Timeout)", d)
	return func(ctx context.Context, call *arpc.Call, next arpc.CallFunc) error {
		end := time.Now().Add(d)
		if own, ok := ctx.Deadline(); call.Kind == arpc.KindStream || ok && !end.Before(own) {
			return next(ctx, call)
		}
		ctx, cancel := context.WithDeadlineCause(ctx, end, tooLong)
		defer cancel()
		err := next(ctx, call)
		if err != nil && arpc.CodeOf(err) == arpc.CodeDeadlineExceeded && !time.Now().Before(end) {
			return withCause(err, tooLong)
		}
		return err
	}
}

// withCause returns an error of a deadline with the reason for the deadline, which
// it has not yet when the context was not the first to see it pass.
func withCause(err, cause error) error {
	if errors.Is(err, cause) {
		return err
	}
	caused := arpc.Errorf(arpc.CodeDeadlineExceeded, "%w: %w", err, cause)
	if arpc.SafeToRetry(err) {
		return arpc.Unsent(caused)
	}
	return caused
}
