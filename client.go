package arpc

import (
	"context"
	"errors"
	"fmt"
	"math"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/arpc-go/arpc/codec"
	"github.com/arpc-go/arpc/internal/wire"
)

const (
	// TimeZero as a timeout of Notify or PushMsg does not wait for room in
	// the send queue.
	TimeZero time.Duration = 0
	// TimeForever as a timeout waits as long as the connection lives.
	TimeForever time.Duration = math.MaxInt64
)

// DialerFunc makes a connection for a client, anew for each reconnect.
type DialerFunc func() (net.Conn, error)

// State says whether a Client can send.
type State int32

// The states of a client.
const (
	StateConnected    State = iota // calls can be sent
	StateReconnecting              // the connection is lost, a dialled client comes back
	StateClosed                    // for good
)

// String returns the state's name, such as "connected".
func (s State) String() string {
	switch s {
	case StateConnected:
		return "connected"
	case StateReconnecting:
		return "reconnecting"
	case StateClosed:
		return "closed"
	}
	return fmt.Sprintf("State(%d)", int32(s))
}

// Client is one end of a connection, dialled with NewClient or accepted by a
// Server. Either end may call, notify, open streams and answer. A dialled client
// comes back after its connection ended, unless WithReconnect says otherwise;
// an accepted one is for one connection. Its methods may be called from any
// goroutine at any time.
type Client struct {
	// Handler has the routes for what the peer sends. Never changed.
	Handler *Handler
	// Codec turns values into payloads. It may be set before the first
	// message is sent or handled; WithCodec sets it in time for sure.
	Codec codec.Codec

	dialer DialerFunc // nil for an accepted client
	server *Server    // nil for a dialled client

	conn  atomic.Pointer[conn] // the newest; it may have ended
	done  chan struct{}
	stats clientStats
	// redialNow has Restart not wait for the back-off; capacity 1, nil for an
	// accepted client.
	redialNow chan struct{}
	closing   atomic.Bool   // Shutdown was called
	seq       atomic.Uint64 // of notifications

	// Guarded by mu.
	mu             sync.Mutex
	state          State
	cause          error // why the last connection ended, or the client
	values         map[any]any
	onDisconnected []func(*Client)
	attempts       int           // to reconnect, since a connection was of use
	redialing      bool          // a goroutine does
	backingOff     chan struct{} // closed when that goroutine no longer waits; nil: it does not
}

type clientStats struct {
	dropped  atomic.Uint64 // messages received and not handled
	missed   atomic.Uint64 // responses nobody waited for
	refused  atomic.Uint64 // requests over the limits
	overruns atomic.Uint64 // streams dropped
}

// NewClient dials and returns a connected client, after the connected hooks
// have run. Without WithHandler its Handler is a clone of DefaultHandler. The
// error is the dialer's, or says which option makes no sense.
func NewClient(dialer DialerFunc, opts ...Option) (*Client, error) {
	if dialer == nil {
		return nil, NewError(CodeInvalidArgument, "arpc: NewClient: the dialer is nil")
	}
	h, err := handlerFor(opts)
	if err != nil {
		return nil, err
	}
	c := newClient(h)
	c.dialer, c.redialNow = dialer, make(chan struct{}, 1)
	nc, err := c.dial()
	if err != nil {
		return nil, err
	}
	cn := newConn(c, nc, true)
	c.conn.Store(cn)
	cn.start()
	cn.opened()
	if err := cn.err(); err != nil {
		c.close(err)
		return nil, &Error{code: CodeUnavailable, msg: "arpc: connect: " + err.Error(), cause: err, unsent: true}
	}
	return c, nil
}

func newClient(h *Handler) *Client {
	c := &Client{Handler: h, Codec: h.snapshot().settings.codec, done: make(chan struct{})}
	if c.Codec == nil {
		c.Codec = codec.DefaultCodec
	}
	return c
}

func (c *Client) dial() (nc net.Conn, err error) {
	defer func() {
		if p := recover(); p != nil {
			nc, err = nil, Errorf(CodeInternal, "arpc: dial: the dialer panicked: %v", p)
		}
	}()
	nc, err = c.dialer()
	if err == nil && nc == nil {
		err = errors.New("the dialer returned no connection")
	}
	if err != nil {
		return nil, &Error{code: CodeUnavailable, msg: "arpc: dial: " + err.Error(), cause: err, unsent: true}
	}
	return nc, nil
}

// current returns the connection to send on.
func (c *Client) current() (*conn, error) {
	cn := c.conn.Load()
	if c.closing.Load() {
		return nil, unsent(ErrClosed)
	}
	select {
	case <-cn.done:
		return nil, c.unavailable()
	default:
		return cn, nil
	}
}

func (c *Client) unavailable() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.state == StateClosed {
		return notConnected(ErrClosed, c.cause)
	}
	return notConnected(ErrDisconnected, c.conn.Load().err())
}

// Call sends a request and decodes the response into rsp, which points to a
// value or is nil. A nil request has an empty payload; strings, byte slices,
// pointers to them and errors travel raw, the codec does the rest. The timeout
// must be positive; TimeForever waits as long as the connection lives.
//
// The error is an *Error: what the peer answered (IsRemote), the deadline, or
// the loss of the connection; SafeToRetry says whether the request may be sent
// again. Nothing of req and rsp is kept when Call returns.
func (c *Client) Call(method string, req, rsp any, timeout time.Duration) error {
	if timeout <= 0 {
		return unsent(Errorf(CodeInvalidArgument, "arpc: the timeout of a call must be positive, not %v", timeout))
	}
	return c.call(context.Background(), timeout, method, req, rsp)
}

// CallWith is Call until ctx ends. Ending ctx ends the call, and not the
// connection; errors.Is(err, ctx.Err()) holds then.
func (c *Client) CallWith(ctx context.Context, method string, req, rsp any) error {
	if ctx.Err() != nil {
		return contextError(ctx, true)
	}
	return c.call(ctx, 0, method, req, rsp)
}

func (c *Client) call(ctx context.Context, timeout time.Duration, method string, req, rsp any) error {
	if err := checkTarget(rsp); err != nil {
		return unsent(err)
	}
	p, cn, err := c.prepare(method, req)
	if err != nil {
		return err
	}
	return cn.roundTrip(ctx, timeout, method, p, rsp, c.Codec)
}

// prepare checks the method, encodes v, and returns the connection to send on.
func (c *Client) prepare(method string, v any) (payload, *conn, error) {
	if err := checkMethod(method); err != nil {
		return payload{}, nil, unsent(err)
	}
	p, err := encode(c.Codec, v)
	if err != nil {
		return payload{}, nil, unsent(err)
	}
	cn, err := c.current()
	return p, cn, err
}

// CallAsync sends a request and returns; the callback runs exactly once, when
// the response is in or the call has failed. Its Context's Bind decodes the
// response or returns the call's error. Callbacks run like concurrent handlers.
// An error from CallAsync means that nothing was sent and no callback comes. It
// waits for room in the send queue, at most for the timeout.
func (c *Client) CallAsync(method string, req any, callback func(*Context), timeout time.Duration) error {
	switch {
	case callback == nil:
		return unsent(NewError(CodeInvalidArgument, "arpc: CallAsync: the callback is nil; Notify sends without one"))
	case timeout <= 0:
		return unsent(Errorf(CodeInvalidArgument, "arpc: the timeout of a call must be positive, not %v", timeout))
	}
	p, cn, err := c.prepare(method, req)
	if err != nil {
		return err
	}
	return cn.callAsync(method, p, callback, timeout)
}

func (c *conn) callAsync(method string, p payload, callback func(*Context), timeout time.Duration) error {
	k := &call{method: method, callback: callback, offset: notSent}
	o := outgoing{
		header:  wire.Header{Cmd: wire.CmdRequest, Flag: wire.FlagAsync},
		method:  method,
		payload: p,
		call:    k,
		timeout: timeout,
	}
	err := c.send(context.Background(), &o)
	if err != nil && k.seq != 0 && !c.abandon(k) {
		return nil // the connection ended meanwhile, and the callback is told
	}
	return err
}

// Notify sends a message that is not answered. It waits for room in the send
// queue, at most for the timeout; with TimeZero it fails with ErrOverstock when
// there is none. No error means that the message is on its way, not that it was
// handled. The value may be reused when Notify returns.
func (c *Client) Notify(method string, v any, timeout time.Duration) error {
	if timeout < 0 {
		return unsent(Errorf(CodeInvalidArgument, "arpc: the timeout of a notification must not be negative: %v", timeout))
	}
	return c.notify(context.Background(), timeout, method, v)
}

// NotifyWith is Notify that waits until ctx ends.
func (c *Client) NotifyWith(ctx context.Context, method string, v any) error {
	if ctx.Err() != nil {
		return contextError(ctx, true)
	}
	return c.notify(ctx, TimeForever, method, v)
}

func (c *Client) notify(ctx context.Context, timeout time.Duration, method string, v any) error {
	p, cn, err := c.prepare(method, v)
	if err != nil {
		return err
	}
	o := outgoing{
		header:  wire.Header{Cmd: wire.CmdNotify, Flag: wire.FlagAsync, Seq: c.seq.Add(1)},
		method:  method,
		payload: p,
		timeout: timeout,
		noWait:  timeout == TimeZero,
	}
	return c.told(cn.send(ctx, &o))
}

// told runs the overstock hooks if a send failed for lack of room.
func (c *Client) told(err error) error {
	if err != nil && errors.Is(err, ErrOverstock) {
		if cn := c.conn.Load(); cn != nil {
			cn.guard("overstock hook", func() {
				for _, hook := range c.Handler.snapshot().hooks.overstock {
					hook(c)
				}
			})
		}
	}
	return err
}

// NewMessage makes a message to push later, any number of times and to any
// number of clients. What is wrong with the method or the value is in its
// Error, and returned by PushMsg.
func (c *Client) NewMessage(cmd byte, method string, v any) *Message {
	s := c.Handler.snapshot().settings
	return newMessage(c.Codec, wire.Header{Cmd: cmd, Seq: c.seq.Add(1)}, method, v, s.maxBody)
}

// PushMsg sends a message as Notify does. It is encoded once, and coded once
// for all clients with the same coders. Only notifications make sense: nobody
// waits for the answer to a pushed request.
func (c *Client) PushMsg(msg *Message, timeout time.Duration) error {
	switch {
	case msg == nil:
		return unsent(NewError(CodeInvalidArgument, "arpc: PushMsg: the message is nil"))
	case msg.err != nil:
		return msg.err
	case timeout < 0:
		return unsent(Errorf(CodeInvalidArgument, "arpc: the timeout of a message must not be negative: %v", timeout))
	}
	cn, err := c.current()
	if err != nil {
		return err
	}
	frame, err := msg.frameFor(c.Handler.snapshot().coders, c)
	if err != nil {
		return unsent(err)
	}
	o := outgoing{whole: frame, timeout: timeout, noWait: timeout == TimeZero}
	return c.told(cn.send(context.Background(), &o))
}

// Get returns a value that Set stored on this client.
func (c *Client) Get(key any) (any, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	v, ok := c.values[key]
	return v, ok
}

// Set stores a value on this client, such as who the peer is.
func (c *Client) Set(key, value any) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.values == nil {
		c.values = make(map[any]any)
	}
	c.values[key] = value
}

// Delete removes a value that Set stored.
func (c *Client) Delete(key any) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.values, key)
}

// OnDisconnected adds a hook as Handler.HandleDisconnected does, for this
// client alone.
func (c *Client) OnDisconnected(fn func(*Client)) {
	mustHook("OnDisconnected", fn != nil)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.onDisconnected = append(c.onDisconnected, fn)
}

// Conn returns the newest connection, which may have ended. It is for its
// addresses and its like: who reads or writes it breaks it.
func (c *Client) Conn() net.Conn { return c.conn.Load().nc }

// State says whether the client can send.
func (c *Client) State() State {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.state == StateConnected && c.conn.Load().err() != nil {
		return StateReconnecting
	}
	return c.state
}

// Done is closed when the client is closed for good: an accepted one with its
// connection, a dialled one by Stop, Shutdown, or when it gives up.
func (c *Client) Done() <-chan struct{} { return c.done }

// Err returns why the last connection ended, nil if none has. Once the client
// is closed it is why.
func (c *Client) Err() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.cause
}

// Stop closes the client now: calls in flight end with ErrClosed. It returns
// when its goroutines are gone, but for those that run handlers and hooks. It
// may be called from these, and more than once.
func (c *Client) Stop() {
	c.close(ErrClosed)
	c.conn.Load().stopped()
	c.mu.Lock()
	backingOff := c.backingOff
	c.mu.Unlock()
	if backingOff != nil {
		<-backingOff
	}
}

// close ends the client and its connection because of err.
func (c *Client) close(err error) {
	c.mu.Lock()
	if c.state != StateClosed {
		c.state = StateClosed
		c.cause = err
		close(c.done)
	}
	cn := c.conn.Load()
	c.mu.Unlock()
	if cn != nil {
		cn.stopping.Store(true)
		cn.fail(err)
	}
}

// Shutdown closes the client when its calls in flight have ended, its handlers
// have answered and everything is written, or when ctx ends, whose error it
// returns then. No new calls are sent meanwhile.
func (c *Client) Shutdown(ctx context.Context) error {
	c.closing.Store(true)
	return c.shutdown(ctx)
}

func (c *Client) shutdown(ctx context.Context) error {
	defer c.Stop()
	return c.conn.Load().drain(ctx)
}

// disconnected runs the hooks for a connection that has ended.
func (c *Client) disconnected(cn *conn) {
	c.mu.Lock()
	own := c.onDisconnected
	c.mu.Unlock()
	for _, list := range [][]func(*Client){c.Handler.snapshot().hooks.disconnected, own} {
		for _, hook := range list {
			cn.guard("disconnected hook", func() { hook(c) })
		}
	}
}
