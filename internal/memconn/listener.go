package memconn

import (
	"context"
	"fmt"
	"net"
	"sync"
	"sync/atomic"
	"syscall"
)

const backlog = 128 // connections dialled and not yet accepted

// Listener is a net.Listener without a network: Dial and DialContext connect to
// it. All its methods may be called at the same time.
type Listener struct {
	// Set by Listen, never changed.
	addr    addr
	opts    []Option
	backlog chan *Conn
	done    chan struct{} // closed by Close

	dialled   atomic.Int64 // names the connections
	closeOnce sync.Once
}

var _ net.Listener = (*Listener)(nil)

// Listen returns a listener whose connections have those options.
func Listen(opts ...Option) *Listener {
	return &Listener{
		addr:    newAddr(),
		opts:    opts,
		backlog: make(chan *Conn, backlog),
		done:    make(chan struct{}),
	}
}

// Accept returns the next connection, a *Conn, waiting for it. After Close it
// returns an error for which errors.Is finds net.ErrClosed.
func (l *Listener) Accept() (net.Conn, error) {
	if l.closed() {
		return nil, l.opError("accept", net.ErrClosed)
	}
	select {
	case c := <-l.backlog:
		return c, nil
	case <-l.done:
		return nil, l.opError("accept", net.ErrClosed)
	}
}

// Close ends Accept and Dial. Accepted connections stay; those still waiting for
// Accept are cut. The second Close returns net.ErrClosed.
func (l *Listener) Close() error {
	err := l.opError("close", net.ErrClosed)
	l.closeOnce.Do(func() {
		close(l.done)
		l.cutBacklog()
		err = nil
	})
	return err
}

// Addr returns the unique name of the listener; its network is "mem".
func (l *Listener) Addr() net.Addr { return l.addr }

// Dial is DialContext without an end.
func (l *Listener) Dial() (net.Conn, error) {
	return l.DialContext(context.Background())
}

// DialContext returns the client's end of a new connection, a *Conn. It does not
// wait for Accept, unless 128 connections do already; then it waits for room or
// the end of ctx. errors.Is finds syscall.ECONNREFUSED in the error of a closed
// listener, and the error of ctx.
func (l *Listener) DialContext(ctx context.Context) (net.Conn, error) {
	if err := ctx.Err(); err != nil {
		return nil, l.opError("dial", err)
	}
	if l.closed() {
		return nil, l.opError("dial", syscall.ECONNREFUSED)
	}
	name := addr(fmt.Sprintf("%s/%d", l.addr, l.dialled.Add(1)))
	client, server := newPair(name, l.addr, l.opts)
	select {
	case l.backlog <- server:
	case <-ctx.Done():
		return nil, l.opError("dial", ctx.Err())
	case <-l.done:
		return nil, l.opError("dial", syscall.ECONNREFUSED)
	}
	if l.closed() { // perhaps after Close emptied the backlog
		l.cutBacklog()
	}
	return client, nil
}

func (l *Listener) closed() bool {
	select {
	case <-l.done:
		return true
	default:
		return false
	}
}

func (l *Listener) cutBacklog() {
	for {
		select {
		case c := <-l.backlog:
			c.Cut()
		default:
			return
		}
	}
}

func (l *Listener) opError(op string, err error) error {
	return &net.OpError{Op: op, Net: "mem", Addr: l.addr, Err: err}
}
