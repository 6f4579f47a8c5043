package arpc

import (
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"net"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/arpc-go/arpc/internal/transient"
	"github.com/arpc-go/arpc/internal/wire"
)

// HandlerFunc handles a request, a notification, or the outcome of CallAsync. What it
// does to its goroutine it has to undo, such as runtime.LockOSThread: others run there
// after it.
type HandlerFunc func(*Context)

// StreamHandlerFunc handles a stream that the peer opened. The stream is
// closed when the function returns.
type StreamHandlerFunc func(*Stream)

// Handler routes messages by their method name and holds what a client or a
// server is set to: routes, middleware, coders, hooks and settings. Its methods
// may be called at any time from any goroutine, also while messages arrive.
// Settings, BeforeRecv, BeforeSend and SetReaderWrapper count for connections made
// later.
type Handler struct {
	// The snapshot that messages are routed by; nil when a change is not in
	// it yet.
	published atomic.Pointer[snapshot]
	flushers  flushers
	watchdog  watchdog // of connections in a testing/synctest bubble
	calls     callPool
	conns     atomic.Uint32 // numbers the connections, from a random start
	open      openConns
	hellos    hellos

	// Guarded by mu.
	mu       sync.Mutex
	err      error // the first setting that made no sense
	settings settings
	hooks    hooks
	routes   map[string]*route
	streams  map[string]*streamRoute
	notFound *route
	chain    []HandlerFunc
	streamed []func(StreamHandlerFunc) StreamHandlerFunc
	coders   *coderChain // nil when there is none
	around   []CallInterceptor
	details  detailTypes
	counting bool                   // see EnableIntrospection
	types    map[string]*routeTypes // never changed in place
}

// hooks are what the user wants to be told. Slices are copied on change.
type hooks struct {
	connected    []func(*Client)
	disconnected []func(*Client)
	reconnect    []func(*Client, int, error)
	overstock    []func(*Client)
	dropped      []func(*Client, *Message)
	sessionMiss  []func(*Client, *Message)
	beforeRecv   []func(net.Conn) error
	beforeSend   []func(net.Conn) error
	readerWrap   func(net.Conn) io.Reader
	auth         AuthFunc
}

// snapshot is what one message is handled by. It never changes.
type snapshot struct {
	settings settings
	hooks    hooks
	routes   map[string]*route
	streams  map[string]*streamRoute
	notFound *route
	coders   *coderChain
	around   []CallInterceptor // nil when there is none
	details  detailTypes
}

// route is one registered method. Only slow changes after it was published.
type route struct {
	method         string
	orderedRequest bool
	orderedNotify  bool
	chain          []HandlerFunc // middleware before, the handler, middleware after
	own            int           // index in chain of the handler
	notFound       bool          // it stands for all methods without a route
	transient      bool          // its Contexts may be reused, if nothing stands around its handler
	slow           *pace
	counters       *routeCounters // nil: nothing is counted
}

type streamRoute struct {
	method   string
	fn       StreamHandlerFunc
	counters *routeCounters // nil: nothing is counted
}

// NewHandler returns a handler without routes.
func NewHandler(opts ...Option) *Handler {
	h := &Handler{
		settings: defaultSettings(),
		routes:   make(map[string]*route),
		streams:  make(map[string]*streamRoute),
	}
	h.conns.Store(rand.Uint32())
	h.apply(opts)
	return h
}

func (h *Handler) apply(opts []Option) {
	for _, opt := range opts {
		if opt.apply != nil {
			opt.apply(h)
		}
	}
}

// Clone returns a handler with the same routes, middleware, coders, hooks and
// settings, which can then be changed apart.
func (h *Handler) Clone() *Handler {
	h.mu.Lock()
	defer h.mu.Unlock()
	clone := &Handler{
		err:      h.err,
		settings: h.settings,
		hooks:    h.hooks,
		routes:   maps.Clone(h.routes),
		streams:  maps.Clone(h.streams),
		notFound: h.notFound,
		chain:    slices.Clip(h.chain),
		streamed: slices.Clip(h.streamed),
		coders:   h.coders,
		around:   h.around,
		details:  h.details,
		types:    h.types,
	}
	clone.conns.Store(rand.Uint32())
	return clone
}

// snapshot returns what messages are to be handled by from now on.
func (h *Handler) snapshot() *snapshot {
	if s := h.published.Load(); s != nil {
		return s
	}
	return h.publish()
}

// publish is apart as it takes more of the stack than a goroutine has at first.
func (h *Handler) publish() *snapshot {
	h.mu.Lock()
	defer h.mu.Unlock()
	s := &snapshot{
		settings: h.settings,
		hooks:    h.hooks,
		routes:   maps.Clone(h.routes),
		streams:  maps.Clone(h.streams),
		notFound: h.notFound,
		coders:   h.coders,
		around:   h.around,
		details:  h.details,
	}
	h.published.Store(s)
	return s
}

// change runs f under the lock and lets the next message see what it did.
func (h *Handler) change(f func()) {
	h.mu.Lock()
	defer h.mu.Unlock()
	f()
	h.published.Store(nil)
}

func (h *Handler) optionError() error {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.err
}

// Handle registers fn for a method name of 1 to 127 bytes. Without a mode
// requests are handled concurrently and notifications in order; true makes both
// concurrent, false both ordered:
//
//   - Concurrent: handlers of one connection may run at the same time, and a
//     slow one delays nobody.
//   - Ordered: one at a time and in order of arrival, for each connection.
//
// Handlers run on the goroutine that reads the connection while they are quick,
// and on others when they are not; they may block, and call back over the
// connection they serve. Handle panics when fn is nil, the name is too long or
// empty, or the method has a handler.
func (h *Handler) Handle(method string, fn HandlerFunc, async ...bool) {
	mustRegister("Handle", method, fn != nil)
	h.change(func() {
		if h.routes[method] != nil {
			panic(fmt.Sprintf("arpc: Handle(%q): the method has a handler already", method))
		}
		h.routes[method] = h.newRoute(method, fn, async)
	})
}

func (h *Handler) newRoute(method string, fn HandlerFunc, async []bool) *route {
	rt := &route{
		method:         method,
		orderedRequest: h.settings.orderedRequests,
		orderedNotify:  true,
		chain:          append(slices.Clip(h.chain), fn),
		own:            len(h.chain),
		slow:           new(pace),
	}
	if h.counting {
		rt.counters = new(routeCounters)
	}
	if len(async) > 0 {
		rt.orderedRequest, rt.orderedNotify = !async[0], !async[0]
	}
	return rt
}

func init() {
	transient.Lend = func(m any) { m.(*Message).lent = true }
	transient.Mark = func(h any, method string) {
		handler := h.(*Handler)
		handler.change(func() {
			rt := *handler.routes[method]
			rt.transient = true
			handler.routes[method] = &rt
		})
	}
}

func mustRegister(op, method string, hasFunc bool) {
	if !hasFunc {
		panic(fmt.Sprintf("arpc: %s(%q): the handler is nil", op, method))
	}
	if err := checkMethod(method); err != nil {
		panic(fmt.Sprintf("arpc: %s(%q): the method name must have 1 to %d bytes, it has %d", op, method, wire.MaxMethodLen, len(method)))
	}
}

func mustHook(op string, hasFunc bool) {
	if !hasFunc {
		panic(fmt.Sprintf("arpc: %s: the hook is nil", op))
	}
}

// HandleStream registers fn for streams that the peer opens with this method.
// Each runs on a goroutine of its own. It panics as Handle does.
func (h *Handler) HandleStream(method string, fn StreamHandlerFunc) {
	mustRegister("HandleStream", method, fn != nil)
	h.change(func() {
		if h.streams[method] != nil {
			panic(fmt.Sprintf("arpc: HandleStream(%q): the method has a handler already", method))
		}
		rt := &streamRoute{method: method, fn: h.aroundStream(fn)}
		if h.counting {
			rt.counters = new(routeCounters)
		}
		h.streams[method] = rt
	})
}

// UseStream adds middleware for streams: the handlers registered later are what
// mw makes of them; the first added is the outermost. mw returns a function that
// calls next, or Stream.Fail.
func (h *Handler) UseStream(mw func(next StreamHandlerFunc) StreamHandlerFunc) {
	mustHook("UseStream", mw != nil)
	h.change(func() { h.streamed = append(slices.Clip(h.streamed), mw) })
}

func (h *Handler) aroundStream(fn StreamHandlerFunc) StreamHandlerFunc {
	for _, mw := range slices.Backward(h.streamed) {
		if fn = mw(fn); fn == nil {
			panic("arpc: HandleStream: middleware returned no handler")
		}
	}
	return fn
}

// HandleNotFound registers fn for requests and notifications whose method has
// no handler, behind the middleware in use now. A request it leaves unanswered
// gets ErrMethodNotFound. Without it all of them do, and notifications are
// counted and logged.
func (h *Handler) HandleNotFound(fn HandlerFunc) {
	if fn == nil {
		panic("arpc: HandleNotFound: the handler is nil")
	}
	h.change(func() {
		h.notFound = h.newRoute("", fn, nil)
		h.notFound.notFound = true
	})
}

// Use adds middleware: it runs before the handlers of routes registered later
// and behind those of routes registered before, in the order of the calls.
// Middleware calls Context.Next to go on and Context.Abort to stop the chain.
// If it does neither the chain goes on when it returns, unless it has answered
// the request. Streams have no middleware.
func (h *Handler) Use(fn HandlerFunc) {
	if fn == nil {
		panic("arpc: Use: the middleware is nil")
	}
	h.change(func() {
		h.chain = append(slices.Clip(h.chain), fn)
		for method, rt := range h.routes {
			h.routes[method] = rt.behind(fn)
		}
		if h.notFound != nil {
			h.notFound = h.notFound.behind(fn)
		}
	})
}

// behind returns the route with fn at the end of its chain.
func (rt *route) behind(fn HandlerFunc) *route {
	next := *rt
	next.chain = append(slices.Clip(rt.chain), fn)
	return &next
}

// UseCoder adds a coder for whole messages: Encode runs in the order of the
// calls, Decode in reverse. Both ends need the same chain.
func (h *Handler) UseCoder(coder MessageCoder) {
	if coder == nil {
		panic("arpc: UseCoder: the coder is nil")
	}
	h.change(func() {
		var list []MessageCoder
		if named, ok := coder.(NamedCoder); ok {
			mustName(named.CoderName())
		}
		if h.coders != nil {
			list = slices.Clone(h.coders.coders)
		}
		if len(list) == maxCoders {
			panic(fmt.Sprintf("arpc: UseCoder: more than %d coders", maxCoders))
		}
		h.coders = &coderChain{coders: append(list, coder)}
	})
}

// HandleConnected adds a hook that runs for each new connection, on the
// connection's own goroutine and before its first message is handled; on the
// dialling side before NewClient returns. It may call back over the connection;
// what the peer asks meanwhile waits until it returns, so the hooks of both ends
// must not call each other.
func (h *Handler) HandleConnected(fn func(*Client)) {
	mustHook("HandleConnected", fn != nil)
	h.change(func() { h.hooks.connected = append(slices.Clip(h.hooks.connected), fn) })
}

// HandleDisconnected adds a hook that runs once for each connection that has
// ended, on both sides, after its last ordered message was handled; concurrent
// handlers may still be at work. Client.Err has the cause.
func (h *Handler) HandleDisconnected(fn func(*Client)) {
	mustHook("HandleDisconnected", fn != nil)
	h.change(func() { h.hooks.disconnected = append(slices.Clip(h.hooks.disconnected), fn) })
}

// HandleReconnect adds a hook that runs after each attempt of a dialled client
// to come back: the attempt's number, from 1, and its error, nil when the
// client is connected again.
func (h *Handler) HandleReconnect(fn func(c *Client, attempt int, err error)) {
	mustHook("HandleReconnect", fn != nil)
	h.change(func() { h.hooks.reconnect = append(slices.Clip(h.hooks.reconnect), fn) })
}

// HandleOverstock adds a hook that runs when a send with TimeZero found the
// send queue full.
func (h *Handler) HandleOverstock(fn func(*Client)) {
	mustHook("HandleOverstock", fn != nil)
	h.change(func() { h.hooks.overstock = append(slices.Clip(h.hooks.overstock), fn) })
}

// HandleMessageDropped adds a hook that runs for each message that was received
// and is not handled: a notification without a route or over the limits of the
// connection, a message for a stream that is gone, a frame that makes no sense.
// The message is valid until the hook returns.
func (h *Handler) HandleMessageDropped(fn func(*Client, *Message)) {
	mustHook("HandleMessageDropped", fn != nil)
	h.change(func() { h.hooks.dropped = append(slices.Clip(h.hooks.dropped), fn) })
}

// HandleSessionMiss adds a hook that runs for each response that no call waits
// for, because the call has ended or the peer answered twice. The message is
// valid until the hook returns.
func (h *Handler) HandleSessionMiss(fn func(*Client, *Message)) {
	mustHook("HandleSessionMiss", fn != nil)
	h.change(func() { h.hooks.sessionMiss = append(slices.Clip(h.hooks.sessionMiss), fn) })
}

// BeforeRecv adds a hook that runs before each read of a connection, on its
// reader. An error ends the connection.
func (h *Handler) BeforeRecv(fn func(net.Conn) error) {
	mustHook("BeforeRecv", fn != nil)
	h.change(func() { h.hooks.beforeRecv = append(slices.Clip(h.hooks.beforeRecv), fn) })
}

// BeforeSend adds a hook that runs before each write to a connection, which
// may carry many messages. An error ends the connection.
func (h *Handler) BeforeSend(fn func(net.Conn) error) {
	mustHook("BeforeSend", fn != nil)
	h.change(func() { h.hooks.beforeSend = append(slices.Clip(h.hooks.beforeSend), fn) })
}

// SetReaderWrapper has connections read through what fn returns for them; nil
// reads them as they are. fn runs on the connection's goroutine, before the
// connected hook.
func (h *Handler) SetReaderWrapper(fn func(net.Conn) io.Reader) {
	h.change(func() { h.hooks.readerWrap = fn })
}
