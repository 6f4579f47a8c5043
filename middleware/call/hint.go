package call

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/arpc-go/arpc"
	"github.com/arpc-go/arpc/middleware/router"
)

// retryAfter is an error that says when to try again. Any error with such a method
// does.
type retryAfter time.Duration

// Error says what RetryAfter returns.
func (r retryAfter) Error() string { return fmt.Sprintf("retry after %v", time.Duration(r)) }

// RetryAfter returns how long to wait at least.
func (r retryAfter) RetryAfter() time.Duration { return time.Duration(r) }

// hints is where a call finds out when its peer wants to hear of it again.
type hints struct {
	metadata *arpc.Metadata // of the response; nil: not of interest
}

// listen has calls made with the returned context tell of hints.
func (h *hints) listen(ctx context.Context) context.Context {
	h.metadata = arpc.ResponseMetadataOf(ctx) // the caller's own
	if h.metadata == nil {
		h.metadata = new(arpc.Metadata)
		ctx = arpc.ContextWithResponseMetadata(ctx, h.metadata)
	}
	return ctx
}

// of returns what the peer, or an interceptor, said with err.
func (h *hints) of(err error) (wait time.Duration, ok bool) {
	var hint interface{ RetryAfter() time.Duration }
	switch {
	case errors.As(err, &hint):
		return hint.RetryAfter(), true
	case h.metadata != nil && arpc.IsRemote(err):
		return router.RetryAfter(*h.metadata)
	}
	return 0, false
}
