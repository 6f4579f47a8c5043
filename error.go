package arpc

import (
	"context"
	"errors"
	"fmt"
)

// Code says what kind of failure an Error is. The values are the sixteen
// canonical codes of gRPC, with the same numbers.
type Code uint32

// The codes.
const (
	CodeOK                 Code = 0  // no error
	CodeCanceled           Code = 1  // the caller gave up
	CodeUnknown            Code = 2  // no code is known, as with every error of a version 1 peer
	CodeInvalidArgument    Code = 3  // the request is wrong whatever the state of the system
	CodeDeadlineExceeded   Code = 4  // the deadline passed first
	CodeNotFound           Code = 5  // a thing asked for does not exist
	CodeAlreadyExists      Code = 6  // a thing to be made exists already
	CodePermissionDenied   Code = 7  // the caller is known and may not
	CodeResourceExhausted  Code = 8  // a limit or quota was hit
	CodeFailedPrecondition Code = 9  // the system is not in the state the request needs
	CodeAborted            Code = 10 // a conflict; a retry at a higher level may help
	CodeOutOfRange         Code = 11 // past the valid range
	CodeUnimplemented      Code = 12 // no such method
	CodeInternal           Code = 13 // a bug on the side that says so
	CodeUnavailable        Code = 14 // no connection, or the peer is going away
	CodeDataLoss           Code = 15 // data is lost or corrupt
	CodeUnauthenticated    Code = 16 // the caller is not known
)

var codeNames = [...]string{
	"OK", "Canceled", "Unknown", "InvalidArgument", "DeadlineExceeded", "NotFound",
	"AlreadyExists", "PermissionDenied", "ResourceExhausted", "FailedPrecondition",
	"Aborted", "OutOfRange", "Unimplemented", "Internal", "Unavailable", "DataLoss",
	"Unauthenticated",
}

// String returns the code's name, such as "DeadlineExceeded".
func (c Code) String() string {
	if int(c) < len(codeNames) {
		return codeNames[c]
	}
	return fmt.Sprintf("Code(%d)", uint32(c))
}

// Error is a failure with a code that crosses the wire. It is immutable and
// safe for concurrent use.
//
// Code, message and details travel; towards a version 1 peer the message alone,
// and an error received from one has CodeUnknown, except for the text of a
// missing route.
type Error struct {
	code   Code
	msg    string // reaches the peer: no secrets, no paths
	cause  error  // stays in this process
	remote bool   // decoded from the wire, not made here
	unsent bool   // not a byte of the request left this process
	lost   bool   // the connection ended under it
	final  bool   // of a refusal that dialling again cannot mend

	details []Detail // as they came from the peer
	values  error    // those of registered types, decoded
}

// NewError returns an error with a code and a message. A handler that passes
// it to Context.Error or Context.Write sends both to the caller.
func NewError(code Code, msg string) *Error {
	return &Error{code: code, msg: msg}
}

// Errorf is NewError with a formatted message. What %w wraps stays reachable
// through errors.Is and errors.As in this process; only its text travels.
func Errorf(code Code, format string, args ...any) *Error {
	err := fmt.Errorf(format, args...)
	return &Error{code: code, msg: err.Error(), cause: err}
}

// Error returns the message, or the code's name if there is none.
func (e *Error) Error() string {
	if e.msg == "" {
		return "arpc: an error without a text (" + e.code.String() + ")"
	}
	return e.msg
}

// Code returns the code.
func (e *Error) Code() Code { return e.code }

// Message returns the text that crosses the wire.
func (e *Error) Message() string { return e.msg }

// Unwrap returns the cause, which never crosses the wire, and the details that
// came from the peer.
func (e *Error) Unwrap() error {
	if e.values == nil {
		return e.cause
	}
	return errors.Join(e.values, e.cause)
}

// Is makes errors.Is(err, context.Canceled) and errors.Is(err,
// context.DeadlineExceeded) hold when the caller's own context or deadline
// ended a call, and errors.Is(err, ErrMethodNotFound) when the peer said so.
func (e *Error) Is(target error) bool {
	switch target {
	case context.Canceled:
		return e.code == CodeCanceled && !e.remote
	case context.DeadlineExceeded:
		return e.code == CodeDeadlineExceeded && !e.remote
	case ErrMethodNotFound:
		return e.code == CodeUnimplemented && e.msg == ErrMethodNotFound.msg
	}
	return false
}

// Timeout reports whether a deadline passed. With Temporary it makes *Error a
// net.Error.
func (e *Error) Timeout() bool { return e.code == CodeDeadlineExceeded }

// Temporary reports whether trying again later may help.
func (e *Error) Temporary() bool {
	return e.code == CodeUnavailable || e.code == CodeResourceExhausted || e.code == CodeDeadlineExceeded
}

// Sentinels, to be compared with errors.Is.
var (
	// ErrClosed: the client was stopped, by Stop, by Shutdown, or because it
	// gave up reconnecting.
	ErrClosed = NewError(CodeUnavailable, "arpc: the client is closed")
	// ErrServerClosed is returned by Server.Serve and Server.Run after Stop
	// or Shutdown.
	ErrServerClosed = NewError(CodeUnavailable, "arpc: the server is closed")
	// ErrDisconnected: there is no connection at the moment; a dialled client
	// is dialling again. Nothing was sent.
	ErrDisconnected = NewError(CodeUnavailable, "arpc: not connected")
	// ErrPeerClosed: the peer ended the connection. It is not io.EOF, which a
	// stream returns when it has ended as it should.
	ErrPeerClosed = NewError(CodeUnavailable, "arpc: the peer closed the connection")
	// ErrOverstock: the send queue is full (WithSendQueue) and the caller did
	// not want to wait. Nothing was sent.
	ErrOverstock = NewError(CodeResourceExhausted, "arpc: the send queue is full (WithSendQueue)")
	// ErrMethodNotFound: the peer has no such route.
	ErrMethodNotFound = NewError(CodeUnimplemented, "method not found")
	// ErrNotRequest: only a request can be answered, this is a notification
	// or a response.
	ErrNotRequest = NewError(CodeFailedPrecondition, "arpc: only a request can be answered")
	// ErrAnswered: a request is answered once, and this one was.
	ErrAnswered = NewError(CodeFailedPrecondition, "arpc: the request was answered already")
	// ErrHandlerReturned: a Context ends with its handler. Use Detach to
	// answer later.
	ErrHandlerReturned = NewError(CodeFailedPrecondition, "arpc: the handler of this context has returned (see Context.Detach)")
	// ErrStreamClosed: this side has closed the stream, or its sending half.
	ErrStreamClosed = NewError(CodeFailedPrecondition, "arpc: the stream is closed")
	// ErrStreamOverrun: the peer sent more than the stream's queue holds
	// (WithStreamQueue); the stream was dropped.
	ErrStreamOverrun = NewError(CodeResourceExhausted, "arpc: the stream's receive queue overran (WithStreamQueue)")
	// ErrGoingAway: the peer asked to begin nothing new on the connection, and
	// there is no other. Nothing was sent.
	ErrGoingAway = NewError(CodeUnavailable, "arpc: the peer is going away")
	// ErrIdle: nothing came from the peer for as long as WithIdleTimeout says.
	ErrIdle = NewError(CodeUnavailable, "arpc: nothing came from the peer for too long (WithIdleTimeout)")
	// ErrKeepalive: the peer did not answer a ping in time (WithKeepalive).
	ErrKeepalive = NewError(CodeUnavailable, "arpc: the peer did not answer a ping in time (WithKeepalive)")
)

// CodeOf returns the code of err: CodeOK for nil, the code of the first *Error
// in its chain, the matching code for the errors of package context, and
// CodeUnknown for everything else.
func CodeOf(err error) Code {
	var e *Error
	switch {
	case err == nil:
		return CodeOK
	case errors.As(err, &e):
		return e.code
	case errors.Is(err, context.Canceled):
		return CodeCanceled
	case errors.Is(err, context.DeadlineExceeded):
		return CodeDeadlineExceeded
	}
	return CodeUnknown
}

// IsRemote reports whether the peer said err, rather than this process.
func IsRemote(err error) bool {
	var e *Error
	return errors.As(err, &e) && e.remote
}

// SafeToRetry reports whether not a byte of the request behind err left this
// process, so that sending it again cannot run it twice.
func SafeToRetry(err error) bool {
	var e *Error
	return errors.As(err, &e) && e.unsent
}

// Unsent returns err as one of a call of which nothing left this process, so that
// SafeToRetry holds for it. It is for interceptors that refuse a call. Code and text
// stay; nil stays nil.
func Unsent(err error) error {
	if err == nil {
		return nil
	}
	return unsent(err)
}

// unsent marks err as one of a request of which nothing left this process.
func unsent(err error) error {
	return &Error{code: CodeOf(err), msg: err.Error(), cause: err, unsent: true}
}

// contextError is the error of a call that its own context ended.
func contextError(ctx context.Context, unsent bool) *Error {
	e := &Error{code: CodeCanceled, msg: "arpc: the call was canceled", cause: context.Cause(ctx), unsent: unsent}
	if errors.Is(ctx.Err(), context.DeadlineExceeded) {
		e.code, e.msg = CodeDeadlineExceeded, "arpc: the deadline of the call passed"
	}
	if !errors.Is(e.cause, ctx.Err()) {
		e.msg += ": " + e.cause.Error()
	}
	return e
}

// notConnected is the error of a send without a connection: a sentinel, and why
// the last connection or the client ended.
func notConnected(sentinel *Error, cause error) error {
	if cause == nil || errors.Is(cause, sentinel) {
		return unsent(sentinel)
	}
	return &Error{code: sentinel.code, msg: sentinel.msg + ": " + cause.Error(), cause: errors.Join(sentinel, cause), unsent: true}
}

func timeoutError(unsent bool) error {
	return &Error{code: CodeDeadlineExceeded, msg: "arpc: the deadline of the call passed", cause: context.DeadlineExceeded, unsent: unsent}
}

// remoteError is the error that a peer of version 1 sent as text.
func remoteError(text string) *Error {
	code := CodeUnknown
	if text == ErrMethodNotFound.msg {
		code = CodeUnimplemented
	}
	return &Error{code: code, msg: text, remote: true}
}

// lostError is the error of a call whose connection ended.
func lostError(cause error, unsent bool) error {
	if errors.Is(cause, ErrClosed) {
		return &Error{code: CodeUnavailable, msg: ErrClosed.msg, cause: cause, unsent: unsent}
	}
	return &Error{code: CodeUnavailable, msg: "arpc: connection lost: " + cause.Error(), cause: cause, unsent: unsent, lost: true}
}
