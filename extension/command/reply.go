package command

import (
	"context"
	"sync"
	"time"

	"github.com/arpc-go/arpc"
)

// ErrLastSent is what a Reply returns behind its last result.
var ErrLastSent = arpc.NewError(arpc.CodeFailedPrecondition, "command: the last result was sent already")

// Reply is how Exec answers: with any number of results, and with Last if it
// knows which one that is. It is valid until Exec returns; then its methods return
// arpc.ErrHandlerReturned. They may be called from several goroutines at the same
// time, but Last only when none is in another one.
//
// A caller of Send takes one result, or none if R is None. A second one is an error
// here, and the caller gets that in the place of the first.
type Reply[R any] struct {
	reply
}

// Send sends a result that is not known to be the last, and may be reused when Send
// returns. SendMulti and Start have it at once: Send waits while the client has more
// in hand than its window (arpc.WithStreamWindow) or does not read, until ctx of Exec
// ends. A caller of Send has it when Exec returns without an error.
//
// A result that cannot be encoded, or is too large, is an error here and the end of
// the command: the caller gets the error even if Exec does not return it, and nothing
// behind it.
func (r *Reply[R]) Send(v R) error {
	if r.request != nil {
		return r.hold(v)
	}
	return r.send(r.stream.Context(), kindMore, v)
}

// SendContext is Send that gives up when ctx ends. The command goes on.
func (r *Reply[R]) SendContext(ctx context.Context, v R) error {
	if r.request != nil {
		return r.hold(v)
	}
	return r.send(ctx, kindMore, v)
}

// Last sends the last result. The command is over for its caller then, at once. Exec
// may go on, with a ctx that may end at any time, as that of its caller does; what it
// returns goes nowhere.
func (r *Reply[R]) Last(v R) error {
	if r.request == nil {
		return r.send(r.stream.Context(), kindLast, v)
	}
	if err := r.claim(); err != nil {
		return err
	}
	switch v := any(v).(type) {
	case []byte:
		return r.request.WriteBytes(v) // which takes no allocation
	case None:
		return r.request.WriteBytes(nil)
	}
	return r.request.Write(v)
}

// ReceivedAt returns when the command reached the server, whatever it waited for since.
// Of those of a connection that came later it is not earlier.
func (r *Reply[R]) ReceivedAt() time.Time {
	if r.request != nil {
		return r.request.ReceivedAt()
	}
	return r.stream.ReceivedAt()
}

// Client returns the client at whose other end the sender is: for its addresses, its
// identity, and to call back.
func (r *Reply[R]) Client() *arpc.Client {
	if r.request != nil {
		return r.request.Client
	}
	return r.stream.Client()
}

// Metadata returns what came with the command, see arpc.ContextWithMetadata; nil if
// nothing did. It is not to be changed.
func (r *Reply[R]) Metadata() arpc.Metadata {
	if r.request != nil {
		return r.request.Metadata()
	}
	return r.stream.Metadata()
}

// reply is a Reply whatever the type of its results.
type reply struct {
	// Set when it is made, never changed.
	request *arpc.Context // nil: the command came on a stream
	stream  *arpc.Stream  // nil: it is a request
	none    bool          // results are None

	// Guarded by mu.
	mu   sync.Mutex
	over error  // why no more can be sent; why a result could not be
	held []byte // the result of a request, behind its kind; nil: there is none
}

// hold keeps the one result of a request until Exec has returned.
func (r *reply) hold(v any) error {
	held, err := encode(r.request.Client.Codec, kindMore, v)
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.over != nil {
		return r.over
	}
	if err == nil && r.held != nil {
		err = r.tooMany()
	}
	if err != nil {
		r.over = err
		return err
	}
	r.held = held
	return nil
}

func (r *reply) tooMany() error {
	return arpc.Errorf(arpc.CodeFailedPrecondition, "command: %s has more than one result, which is for SendMulti and Start", r.request.Message.Method())
}

// claim takes the right to answer a request with its only result.
func (r *reply) claim() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.over == nil && r.held != nil {
		r.over = r.tooMany()
	}
	if r.over != nil {
		return r.over
	}
	r.over = ErrLastSent
	return nil
}

// send sends a result on the stream.
func (r *reply) send(ctx context.Context, kind byte, v any) error {
	r.mu.Lock()
	over := r.over
	r.mu.Unlock()
	if over != nil {
		return over
	}
	message, err := encode(r.stream.Client().Codec, kind, v)
	if err == nil {
		err = r.stream.SendContext(ctx, &message)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	switch {
	case err != nil && ctx.Err() == nil:
		r.over = err
	case err == nil && kind == kindLast:
		r.over = ErrLastSent
	}
	return err
}

// end answers as Exec has returned.
func (r *reply) end(err error) {
	r.mu.Lock()
	over, held := r.over, r.held
	r.over = arpc.ErrHandlerReturned
	r.mu.Unlock()
	lastSent := over == ErrLastSent
	if err == nil && !lastSent {
		err = over
	}
	switch {
	case r.stream != nil:
		r.endStream(lastSent, err)
	case lastSent:
	case err != nil:
		r.request.Error(err)
	case held != nil:
		r.request.WriteBytes(held[1:])
	case r.none:
		r.request.Write(nil)
	default:
		r.request.Error(arpc.Errorf(arpc.CodeNotFound, "command: %s has no result", r.request.Message.Method()))
	}
}

// returned is for goroutines that Exec has left behind.
func (r *reply) returned() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.over = arpc.ErrHandlerReturned
}

// endStream ends a stream so that the client can tell whether all results have come: an
// orderly end alone does not say it to a peer of version 1, which gets no errors.
func (r *reply) endStream(lastSent bool, err error) {
	switch {
	case lastSent:
	case err == nil:
		r.stream.Send([]byte{kindEnd})
	case r.stream.Client().Peer().Version > 1:
		r.stream.Fail(err)
		return
	default:
		r.stream.Send(append([]byte{kindFailed}, err.Error()...))
	}
	r.stream.CloseSend()
	r.stream.Recv(nil) // the client's end, which would come to a stream that is gone
}
