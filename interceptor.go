package arpc

import (
	"context"
	"slices"
	"time"
)

// CallKind says what a Call is.
type CallKind int

// The kinds of calls.
const (
	KindCall   CallKind = iota // Call, CallWith, CallAsync
	KindNotify                 // Notify, NotifyWith; not PushMsg and Broadcast
	KindStream                 // OpenStream
)

// String returns the kind's name, such as "notify".
func (k CallKind) String() string { return [...]string{"call", "notify", "stream"}[k] }

// Call is what a CallInterceptor is called with. It may be changed before it is
// passed on.
type Call struct {
	Kind     CallKind
	Method   string
	Request  any     // the value; nil for streams
	Response any     // what the response is decoded into; of KindCall
	Client   *Client // nil in a pool until next has picked one
	Stream   *Stream // set by next, of KindStream
}

// CallFunc goes on with a call.
type CallFunc func(ctx context.Context, call *Call) error

// CallInterceptor wraps outgoing calls. It may call next not at all, or more than
// once, at the same time too, each time with a Call of its own, but not after it has
// returned. One that refuses a call without calling next returns an Unsent error.
type CallInterceptor func(ctx context.Context, call *Call, next CallFunc) error

// AuthFunc decides whether a peer is let in; see Handler.HandleAuth.
type AuthFunc func(ctx context.Context, c *Client, credentials []byte) error

// UseCall adds an interceptor around all calls, notifications and streams that
// this side begins, on dialled and accepted clients and on pools; the first added
// is the outermost. The context carries the deadline of the call. A CallAsync runs
// its interceptors on a goroutine of its own, so that asynchronous calls may
// overtake each other then; next returns when the answer is in, and the callback
// runs when the interceptors have returned.
func (h *Handler) UseCall(fn CallInterceptor) {
	mustHook("UseCall", fn != nil)
	h.change(func() { h.around = append(slices.Clip(h.around), fn) })
}

// intercept runs a call through the interceptors, and final behind them.
func (s *snapshot) intercept(ctx context.Context, call *Call, final CallFunc) error {
	next := final
	for _, fn := range slices.Backward(s.around) {
		inner := next
		next = func(ctx context.Context, call *Call) error { return fn(ctx, call, inner) }
	}
	return next(ctx, call)
}

// interceptTimeout is intercept for a call with a timeout, which its context then
// carries.
func (s *snapshot) interceptTimeout(ctx context.Context, timeout time.Duration, call *Call, final CallFunc) error {
	if timeout > 0 && timeout != TimeForever {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, timeout)
		defer cancel()
	}
	return s.intercept(ctx, call, final)
}

// Caller is what typed methods are called on: a *Client, a *ClientPool, or the
// Client of a handler's Context.
type Caller interface {
	CallWith(ctx context.Context, method string, req, rsp any) error
	NotifyWith(ctx context.Context, method string, v any) error
	OpenStream(ctx context.Context, method string) (*Stream, error)
}
