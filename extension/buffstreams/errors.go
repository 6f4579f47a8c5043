package buffstreams

import (
	"errors"
	"fmt"
)

// Errors to compare with errors.Is. What is returned says more.
var (
	// ErrClosed is returned after Close or Shutdown.
	ErrClosed = errors.New("buffstreams: closed")
	// ErrTooLarge is a message over MaxMessageSize: one to be sent, which is not
	// sent, or one that a peer announced, whose connection is closed.
	ErrTooLarge = errors.New("buffstreams: message too large")
	// ErrMalformed is a header that no message begins with, which usually means
	// that the ends have different values of MaxMessageSize. The connection is
	// closed.
	ErrMalformed = errors.New("buffstreams: malformed header")
	// ErrNotConnected means that there is no connection, and none could be made.
	// The cause is wrapped too. The message was not sent and will not be.
	ErrNotConnected = errors.New("buffstreams: not connected")
	// ErrQueueFull means that a message found no room in the SendQueue in time. It
	// was not sent and will not be.
	ErrQueueFull = errors.New("buffstreams: the send queue is full")
	// ErrAlreadyOpened is what a Manager says to an address that is in use.
	ErrAlreadyOpened = errors.New("buffstreams: the address is opened already")
	// ErrNotOpened is what a Manager says to an address that was not opened.
	ErrNotOpened = errors.New("buffstreams: the address is not opened")
	// ErrUnknownKind is a message that Kinds has no handler for.
	ErrUnknownKind = errors.New("buffstreams: unknown kind of message")

	errIdle      = errors.New("buffstreams: no message came in time (IdleTimeout)")
	errDrained   = errors.New("buffstreams: the listener is shut down")
	errPeerGone  = errors.New("buffstreams: the peer has closed the connection")
	errReopened  = errors.New("buffstreams: the connection is being reopened")
	errOwned     = errors.New("buffstreams: the Listener reads this connection")
	errFixed     = errors.New("buffstreams: there is no address to reopen")
	errStarted   = errors.New("buffstreams: the listener was started before")
	errCallbacks = errors.New("buffstreams: a listener needs either a Callback or a Handler, and none for Messages")
	errGoexit    = errors.New("buffstreams: the goroutine was ended with runtime.Goexit")
)

// UndeliveredError tells of messages that were accepted and given up later,
// because their connection failed before they were handed to it. It is returned
// once, by what is called next of Send, Write, Flush, Close and Shutdown, and only
// if there is no ConnConfig.Undelivered to hand them over to.
type UndeliveredError struct {
	// Messages is how many there were.
	Messages int
	// Cause is why the last of them was given up.
	Cause error
}

func (e *UndeliveredError) Error() string {
	if e.Messages == 1 {
		return fmt.Sprintf("buffstreams: a message that was queued was not sent: %v", e.Cause)
	}
	return fmt.Sprintf("buffstreams: %d messages that were queued were not sent: %v", e.Messages, e.Cause)
}

// Unwrap returns the cause.
func (e *UndeliveredError) Unwrap() error { return e.Cause }
