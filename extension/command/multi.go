package command

import (
	"context"
	"errors"
	"io"
	"iter"
	"time"

	"github.com/arpc-go/arpc"
	"github.com/arpc-go/arpc/codec"
)

// SendMulti returns the results of a command, in order. The command is sent when the
// loop over them begins, and again in each further loop. The loop ends behind the last
// result; when the command has failed, ctx has ended or the connection was lost, the
// last pair has an error, as of Send, and there is always one then: what was received
// before it was received in order, and is not all. Leaving the loop cancels the
// command: the ctx of its Exec ends.
//
// A loop that is slow holds up Exec, in Reply.Send, and nothing else on the connection.
// Commands that are on their way count as streams, arpc.WithMaxStreams.
func SendMulti[R, T any](ctx context.Context, s *Sender[T], cmd Command[T, R]) iter.Seq2[Result[R], error] {
	return func(yield func(Result[R], error) bool) {
		left := false
		ctx, cancel := context.WithCancelCause(ctx)
		err := follow(ctx, cancel, s, cmd, nil, func(_ context.Context, r Result[R]) error {
			if left = !yield(r, nil); left {
				return errLeft
			}
			return nil
		})
		if err != nil && !left {
			yield(Result[R]{}, err)
		}
	}
}

// errLeft is what interceptors see of a command whose results nobody wants any more.
var errLeft = arpc.NewError(arpc.CodeCanceled, "command: the loop over the results was left")

// sendOnStream is Send for a command that has a deadline to be sent by.
func sendOnStream[R, T any](ctx context.Context, s *Sender[T], cmd Command[T, R]) (result R, err error) {
	var none R
	n := 0
	for r, err := range SendMulti(ctx, s, cmd) {
		if n++; err != nil {
			return none, err
		}
		if n > 1 && !isNone[R]() {
			return none, arpc.Errorf(arpc.CodeFailedPrecondition, "command: %T has more than one result, which is for SendMulti and Start", cmd)
		}
		result = r.Value
	}
	if n == 0 && !isNone[R]() {
		return none, arpc.Errorf(arpc.CodeNotFound, "command: %T has no result", cmd)
	}
	return result, nil
}

// follow sends a command on a stream, calls sent when it is on its way, and give with
// each result until give returns an error. It returns nil when all results were given.
// It calls cancel, which is that of ctx, when the server needs ctx no more.
func follow[R, T any](ctx context.Context, cancel context.CancelCauseFunc, s *Sender[T], cmd Command[T, R], sent func(), give func(context.Context, Result[R]) error) (err error) {
	x := &exchange{caller: s.caller, cancel: cancel, sent: sent}
	defer func() { x.release(err) }()
	k, err := s.registry.kindOf(cmd)
	if err != nil {
		return err
	}
	var given bool
	var last error // of the attempt before
	call := &arpc.Call{Kind: arpc.KindStream, Method: k.method, Request: cmd}
	return s.intercept(ctx, call, func(ctx context.Context, call *arpc.Call) error {
		if given {
			return last
		}
		last = k.explain(x.run(ctx, call, func(c codec.Codec, data []byte, isLast bool) error {
			v, err := decodeNew[R](c, data)
			if err != nil {
				return err
			}
			given = true
			tell(ctx, s, k, v)
			return give(ctx, Result[R]{Value: v, Last: isLast})
		}))
		return last
	})
}

// exchange is a command on a stream.
type exchange struct {
	caller arpc.Caller
	cancel context.CancelCauseFunc // of the context that streams are opened with
	sent   func()                  // nil: nobody wants to know

	stream *arpc.Stream // the last one that had all of its results; nil: none
}

// release lets the context go: at once, or behind the last result when Exec has
// returned, which is the end of the stream.
func (x *exchange) release(err error) {
	if err != nil || x.stream == nil {
		x.cancel(nil)
		return
	}
	context.AfterFunc(x.stream.Context(), func() { x.cancel(nil) })
}

// run returns nil when all results were given away.
func (x *exchange) run(ctx context.Context, call *arpc.Call, give func(c codec.Codec, data []byte, last bool) error) (err error) {
	s, err := x.send(ctx, call)
	if err != nil {
		return err
	}
	returned := false
	defer func() {
		if err != nil || !returned {
			s.Fail(err) // Exec learns why
		}
	}()
	if x.sent != nil {
		x.sent()
	}
	for {
		kind, data, err := receive(s)
		if err == nil && kind != kindEnd {
			err = give(s.Client().Codec, data, kind == kindLast)
		}
		if err == nil && kind == kindMore {
			continue
		}
		x.stream, returned = s, true
		return err
	}
}

// send opens the stream and sends the command, both until the deadline for that.
func (x *exchange) send(ctx context.Context, call *arpc.Call) (*arpc.Stream, error) {
	deadline, ok := ctx.Value(sendDeadlineKey{}).(time.Time)
	if !ok {
		return x.open(ctx, call)
	}
	timer := time.AfterFunc(time.Until(deadline), func() { x.cancel(errNotSent) })
	s, err := x.open(ctx, call)
	switch {
	case timer.Stop():
		return s, err
	case err == nil:
		s.Close()
		return nil, errNotSent
	case context.Cause(ctx) != errNotSent:
		return nil, err
	case arpc.SafeToRetry(err):
		return nil, arpc.Unsent(errNotSent)
	}
	return nil, errNotSent
}

var errNotSent = arpc.NewError(arpc.CodeDeadlineExceeded, "command: it was not on its way in time (ContextWithSendDeadline)")

func (x *exchange) open(ctx context.Context, call *arpc.Call) (*arpc.Stream, error) {
	s, err := x.caller.OpenStream(ctx, call.Method)
	if err != nil {
		return nil, err
	}
	call.Client, call.Stream = s.Client(), s
	message, err := encode(s.Client().Codec, kindCommand, call.Request)
	if err != nil {
		err = arpc.Unsent(err)
	} else if err = s.SendContext(ctx, &message); err == nil {
		s.CloseSend() // if it fails the stream has ended, and says why
		return s, nil
	}
	s.Close()
	return nil, err
}

// receive returns the next message of the server. An end of the stream is not the end of
// the results, which is a message: to a peer of version 1 of the wire streams have no
// other end.
func receive(s *arpc.Stream) (kind byte, data []byte, err error) {
	if err = s.Recv(&data); errors.Is(err, io.EOF) {
		return 0, nil, arpc.Errorf(arpc.CodeUnknown, "command: the stream of %s ended before its results: the peer refused it, or does not know it", s.Method())
	}
	if err != nil {
		return 0, nil, err
	}
	if len(data) > 0 {
		kind, data = data[0], data[1:]
	}
	switch kind {
	case kindMore, kindLast, kindEnd:
		return kind, data, nil
	case kindFailed:
		return 0, nil, arpc.NewError(arpc.CodeUnknown, string(data))
	}
	return 0, nil, arpc.Errorf(arpc.CodeInternal, "command: the peer sent what is no result of %s", s.Method())
}
