package arpc

import (
	"context"
	"io"
	"iter"
	"reflect"
)

// StreamMethod is a stream on which the opener sends In and receives Out. What
// is said of Method's types holds for both, except that a message with an empty
// payload is left to the codec.
type StreamMethod[In, Out any] struct {
	name string
}

// NewStreamMethod returns the stream with a name of 1 to 127 bytes. It
// registers nothing.
func NewStreamMethod[In, Out any](name string) StreamMethod[In, Out] {
	return StreamMethod[In, Out]{name: name}
}

// Name returns the name.
func (m StreamMethod[In, Out]) Name() string { return m.name }

// Handle registers fn, as Handler.HandleStream does, panics included. The stream
// ends when fn returns: orderly without an error, and as with Stream.Fail if
// there is one, whose code then reaches the opener. So io.EOF of Recv, which says
// that the opener has sent everything, is rarely what fn is to return. The ctx
// ends when the stream does.
func (m StreamMethod[In, Out]) Handle(h *Handler, fn func(ctx context.Context, s *TypedStream[Out, In]) error) {
	mustRegister("HandleStream", m.name, fn != nil)
	h.HandleStream(m.name, func(s *Stream) {
		if err := fn(s.Context(), &TypedStream[Out, In]{s}); err != nil {
			s.Fail(err)
		}
	})
	h.describe(m.name, reflect.TypeFor[In](), reflect.TypeFor[Out]())
}

// Open opens a stream, as Client.OpenStream does. Close it when done, unless it
// is received to its end or ctx ends.
func (m StreamMethod[In, Out]) Open(ctx context.Context, caller Caller) (*TypedStream[In, Out], error) {
	s, err := caller.OpenStream(ctx, m.name)
	if err != nil {
		return nil, err
	}
	return &TypedStream[In, Out]{s}, nil
}

// TypedStream is one end of a stream, which sends S and receives R. Its methods
// do what those of Stream do, and may be called at the same time as those may.
type TypedStream[S, R any] struct {
	stream *Stream
}

// Stream returns the stream behind it.
func (s *TypedStream[S, R]) Stream() *Stream { return s.stream }

// Context ends when the stream does. Its cause says why.
func (s *TypedStream[S, R]) Context() context.Context { return s.stream.Context() }

// Send sends a message, which may be reused when Send returns.
func (s *TypedStream[S, R]) Send(v *S) error { return s.stream.Send(orZero(v)) }

// SendContext is Send that gives up when ctx ends.
func (s *TypedStream[S, R]) SendContext(ctx context.Context, v *S) error {
	return s.stream.SendContext(ctx, orZero(v))
}

// Recv waits for the next message, which is the caller's. It returns io.EOF
// after the peer has closed its half.
func (s *TypedStream[S, R]) Recv() (*R, error) { return s.RecvContext(s.Context()) }

// RecvContext is Recv that gives up when ctx ends. The stream goes on.
func (s *TypedStream[S, R]) RecvContext(ctx context.Context) (*R, error) {
	v := new(R)
	if err := s.stream.RecvContext(ctx, v); err != nil {
		return nil, err
	}
	return v, nil
}

// RecvInto is Recv into a value that the caller has. What the codec does not
// find in the message it may leave as it was: JSON does so with fields.
func (s *TypedStream[S, R]) RecvInto(v *R) error { return s.stream.Recv(v) }

// RecvSeq returns the messages that are still to come. The last pair has an
// error unless the peer closed its half.
func (s *TypedStream[S, R]) RecvSeq() iter.Seq2[*R, error] {
	return func(yield func(*R, error) bool) {
		for {
			v, err := s.Recv()
			if err == io.EOF || !yield(v, err) || err != nil { // == because a codec may wrap io.EOF
				return
			}
		}
	}
}

// CloseSend tells the peer that no more comes. This side may go on receiving.
func (s *TypedStream[S, R]) CloseSend() error { return s.stream.CloseSend() }

// Close ends the stream both ways and drops what was not received yet.
func (s *TypedStream[S, R]) Close() error { return s.stream.Close() }
