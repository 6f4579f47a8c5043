package arpc

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"math"
	"net"
	"slices"
	"strings"
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

	conn    atomic.Pointer[conn] // the newest; it may have ended
	closing atomic.Bool          // Shutdown was called
	done    signal
	stats   atomic.Pointer[clientStats] // nil: nothing to count; see count
	seq     atomic.Uint64               // of notifications
	session string                      // of an accepted client set before conn.hello

	// Guarded by mu.
	mu             sync.Mutex
	state          State
	cause          error // why the last connection ended, or the client
	values         map[any]any
	identity       any
	conns          []*conn // those that have not ended, one that is about to be the newest too
	onDisconnected []func(*Client)
	redialer       *redialer // nil for an accepted client
}

type clientStats struct {
	dropped  atomic.Uint64 // messages received and not handled
	missed   atomic.Uint64 // responses nobody waited for
	refused  atomic.Uint64 // requests over the limits
	overruns atomic.Uint64 // streams dropped
	full     atomic.Uint64 // messages there was no room for in the send queue
}

// count returns what counts for the client.
func (c *Client) count() *clientStats {
	if s := c.stats.Load(); s != nil {
		return s
	}
	c.stats.CompareAndSwap(nil, new(clientStats))
	return c.stats.Load()
}

// counted is count for who only looks.
func (c *Client) counted() *clientStats {
	if s := c.stats.Load(); s != nil {
		return s
	}
	return new(clientStats)
}

// NewClient dials and returns a connected client, after the peer has answered the
// hello and the connected hooks have run. Without WithHandler its Handler is a
// clone of DefaultHandler. The error is the dialer's, says why the peer refuses us
// or that it does not speak arpc, or which option makes no sense.
func NewClient(dialer DialerFunc, opts ...Option) (*Client, error) {
	if dialer == nil {
		return nil, NewError(CodeInvalidArgument, "arpc: NewClient: the dialer is nil")
	}
	h, err := handlerFor(opts)
	if err != nil {
		return nil, err
	}
	c := newClient(h)
	c.dialer, c.redialer, c.session = dialer, &redialer{now: make(chan struct{}, 1)}, rand.Text()
	c.state = StateReconnecting
	nc, err := c.dial()
	if err != nil {
		return nil, err
	}
	if _, err := c.attach(nc); err != nil {
		c.close(err)
		return nil, connectError(err)
	}
	return c, nil
}

// connectError is the error of a connection that did not come to be of use.
func connectError(err error) error {
	text := strings.TrimPrefix(err.Error(), "arpc: ")
	return &Error{code: codeOr(err, CodeUnavailable), msg: "arpc: connect: " + text, cause: err, remote: IsRemote(err), unsent: true}
}

func newClient(h *Handler) *Client {
	c := &Client{Handler: h, Codec: h.snapshot().settings.codec}
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

// Call sends a request and decodes the response into rsp, which points to a
// value or is nil. A nil request has an empty payload; strings, byte slices,
// pointers to them, errors and what a *bytes.Buffer holds travel raw, the codec does
// the rest. A response in a *[]byte is a slice of its own; a *bytes.Buffer is reset
// and its memory used again, so that a call allocates nothing. The timeout must be
// positive; TimeForever waits as long as the connection lives.
//
// The error is an *Error: what the peer answered (IsRemote), the deadline, or
// the loss of the connection; SafeToRetry says whether the request may be sent
// again. Nothing of req and rsp is kept when Call returns.
func (c *Client) Call(method string, req, rsp any, timeout time.Duration) error {
	if timeout <= 0 {
		return unsent(Errorf(CodeInvalidArgument, "arpc: the timeout of a call must be positive, not %v", timeout))
	}
	if c.Handler.snapshot().around == nil {
		return c.invoke(context.Background(), &noInfo, timeout, method, req, rsp)
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
	snap := c.Handler.snapshot()
	if timeout == 0 {
		if timeout = defaultTimeout(ctx, &snap.settings); timeout > 0 {
			return byDefault(c.callFor(ctx, snap, timeout, method, req, rsp), timeout)
		}
	}
	return c.callFor(ctx, snap, timeout, method, req, rsp)
}

func (c *Client) callFor(ctx context.Context, snap *snapshot, timeout time.Duration, method string, req, rsp any) error {
	if snap.around == nil {
		return c.invoke(ctx, infoOf(ctx), timeout, method, req, rsp)
	}
	call := &Call{Kind: KindCall, Method: method, Request: req, Response: rsp, Client: c}
	return snap.interceptTimeout(ctx, timeout, call, func(ctx context.Context, call *Call) error {
		return c.invoke(ctx, infoOf(ctx), 0, call.Method, call.Request, call.Response)
	})
}

// defaultTimeout is what WithCallTimeout says for a context without a deadline.
func defaultTimeout(ctx context.Context, s *settings) time.Duration {
	if s.callTimeout == 0 {
		return 0
	}
	if _, ok := ctx.Deadline(); ok {
		return 0
	}
	return s.callTimeout
}

// byDefault has the error of a call whose time is over name the setting it is from.
func byDefault(err error, timeout time.Duration) error {
	e, ok := err.(*Error)
	if !ok || e.remote || !errors.Is(err, context.DeadlineExceeded) {
		return err
	}
	named := *e
	named.msg = fmt.Sprintf("arpc: the call took longer than %v, which it has if its context has no deadline (WithCallTimeout)", timeout)
	return &named
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
	snap := c.Handler.snapshot()
	if snap.around == nil {
		return c.tell(ctx, infoOf(ctx), timeout, method, v)
	}
	call := &Call{Kind: KindNotify, Method: method, Request: v, Client: c}
	return snap.interceptTimeout(ctx, timeout, call, func(ctx context.Context, call *Call) error {
		return c.tell(ctx, infoOf(ctx), timeout, call.Method, call.Request)
	})
}

// tell is a notification behind the interceptors.
func (c *Client) tell(ctx context.Context, info *callInfo, timeout time.Duration, method string, v any) error {
	var o outgoing
	if err := c.prepare(&o, info, wire.Header{Cmd: wire.CmdNotify, Flag: wire.FlagAsync, Seq: c.seq.Add(1)}, method, v); err != nil {
		return err
	}
	defer o.payload.release()
	o.noWait = timeout == TimeZero
	return c.told(c.sendOn(ctx, timeout, info, &o, nil))
}

// sendOn sends what is not answered, o or pushed if there is one, on the newest
// connection.
func (c *Client) sendOn(ctx context.Context, timeout time.Duration, info *callInfo, o *outgoing, pushed *Message) error {
	if o.noWait {
		info = &callInfo{wait: waitNot}
	}
	for {
		cn, left, err := c.acquire(ctx, timeout, info)
		if err != nil {
			return err
		}
		o.timeout = left
		if pushed != nil {
			if o.whole, err = pushed.frameFor(cn); err != nil {
				return unsent(err)
			}
			o.lent = pushed.lent
		} else {
			o.shared = cn.flushedLater(o)
		}
		if err = cn.send(ctx, o); !c.again(err, cn, info) {
			return err
		}
		timeout = o.timeout
	}
}

// told runs the overstock hooks if a send failed for lack of room.
func (c *Client) told(err error) error {
	if err != nil && errors.Is(err, ErrOverstock) {
		c.count().full.Add(1)
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
	return c.told(c.push(msg, timeout))
}

// TryPush is PushMsg with TimeZero for those to whom ErrOverstock is nothing special,
// since they keep the message: no overstock hook runs, and nothing is counted.
func (c *Client) TryPush(msg *Message) error { return c.push(msg, TimeZero) }

func (c *Client) push(msg *Message, timeout time.Duration) error {
	switch {
	case msg == nil:
		return unsent(NewError(CodeInvalidArgument, "arpc: PushMsg: the message is nil"))
	case msg.err != nil:
		return msg.err
	case timeout < 0:
		return unsent(Errorf(CodeInvalidArgument, "arpc: the timeout of a message must not be negative: %v", timeout))
	}
	if cn := c.conn.Load(); msg.lent && !c.closing.Load() && cn.lend(msg.Buffer) {
		return nil
	}
	o := outgoing{noWait: timeout == TimeZero, begins: true, shared: true}
	return c.sendOn(context.Background(), timeout, &noInfo, &o, msg)
}

// Inflight returns how many calls of this side wait for their answers on the newest
// connection.
func (c *Client) Inflight() int { return int(c.conn.Load().inflight.Load()) }

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
	if cn := c.conn.Load(); c.state == StateConnected && cn.err() != nil {
		return StateReconnecting
	}
	return c.state
}

// Done is closed when the client is closed for good: an accepted one with its
// connection, a dialled one by Stop, Shutdown, or when it gives up.
func (c *Client) Done() <-chan struct{} { return c.done.wait() }

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
	conns := c.open()
	c.close(ErrClosed)
	for _, cn := range conns {
		cn.stopped()
	}
	c.awaitRedial()
}

// open returns the connections that have not ended.
func (c *Client) open() []*conn {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Clone(c.conns)
}

// close ends the client and its connections because of err.
func (c *Client) close(err error) {
	c.mu.Lock()
	if c.state != StateClosed {
		c.state = StateClosed
		c.cause = err
		c.done.give()
	}
	conns := slices.Clone(c.conns)
	c.announce()
	c.mu.Unlock()
	for _, cn := range conns {
		cn.stopping.Store(true)
		cn.fail(err)
	}
}

// Shutdown closes the client when its calls and streams have ended, its handlers
// have answered and everything is written, or when ctx ends, whose error it
// returns then. It tells the peer to begin nothing new, and begins nothing new.
func (c *Client) Shutdown(ctx context.Context) error {
	c.closing.Store(true)
	if c.server != nil {
		c.server.casts.part(c.conn.Load()) // a broadcast is something new, too
	}
	return c.shutdown(ctx)
}

func (c *Client) shutdown(ctx context.Context) error {
	conns := c.open()
	errs := make([]error, len(conns))
	var all sync.WaitGroup
	for i, cn := range conns {
		all.Go(func() { errs[i] = cn.drain(ctx) })
	}
	all.Wait()
	err := cmp.Or(errs...)
	if err != nil {
		c.close(Errorf(CodeUnavailable, "arpc: shut down before all was done: %w", ErrClosed))
	}
	c.Stop()
	return err
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
