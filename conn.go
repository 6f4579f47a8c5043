package arpc

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/arpc-go/arpc/internal/bubble"
	"github.com/arpc-go/arpc/internal/wire"
)

// conn is one connection, from its dial or accept to its end. Everything in
// flight belongs to the conn it was sent on; a reconnect makes a new one.
type conn struct {
	// Set by newConn, never changed.
	client   *Client
	handler  *Handler
	settings *settings // in force when the connection was made
	hooks    *hooks
	nc       net.Conn
	raw      *rawConn // nil unless nc is a TCP or Unix socket
	born     int64    // when it was made, on the clock of sinceStart
	dialled  bool
	inBubble bool // of testing/synctest
	mayRest  bool

	// Looked at by all who send, seldom changed.
	stopping       atomic.Bool // stopped by this side: nothing more is dispatched
	draining       atomic.Bool // new requests are refused
	cancels        atomic.Bool // Cancel may be sent and come
	knowsDeadlines atomic.Bool // the peer is told the time that is left
	leaving        atomic.Bool // the peer wants nothing new on this connection
	acked          atomic.Bool // the peer begins nothing new
	ended          atomic.Bool // done is given, or about to be
	watched        atomic.Bool
	saidHello      atomic.Bool
	stage          atomic.Int32               // see stageOpening
	maxSend        atomic.Int64               // longest body, in bytes, that the peer takes and we may send
	hello          atomic.Pointer[wire.Hello] // nil for a peer of version 1
	coders         atomic.Pointer[agreement]  // as it was found last
	passing        sync.Mutex                 // held while the baton changes hands
	ready          signal                     // the connected hooks have returned
	done           signal                     // given by fail
	readerDone     signal                     // no reader is left
	incoming       incoming

	// Made when they are first needed: see parts.go.
	ordered atomic.Pointer[orderedQueue]
	workers atomic.Pointer[workers]
	streams atomic.Pointer[streamTable]

	// Changed for each read, or each message.
	mark        atomic.Uint64 // who has the baton: see baton.go
	received    atomic.Uint64 // bytes, since the start
	reading     atomic.Uint32 // what the reader is at: see rest.go
	restless    atomic.Bool   // it is in the list of those that may soon rest
	handling    atomic.Int64  // requests and notifications off the reader
	heldBytes   atomic.Int64  // their bytes
	streamBytes atomic.Int64  // of stream messages that wait for Recv
	room        room          // where the reader waits at the limits of handling and heldBytes

	// Owned by the holder of the baton.
	reader       *reader
	gate         chan struct{} // closed when the connected hook returned; nil from then on
	phase        phase
	orderedHint  bool // ordered.busy may be true
	useful       bool // a frame made sense
	callbackPace pace

	// Each with a guard of its own. Behind them begins a cache line.
	adopted     bool   // it was its dialled client's; guarded by client.mu
	toBeFlushed bool   // it is in the line, not counting rounds; guarded by flushers.mu
	castAt      int32  // where it is in a connSet; guarded by casts.mu
	restIndex   int32  // in the list of those that may soon rest; guarded by restless.mu
	restSeen    uint32 // the lower half of received at the last look; guarded by restless.mu
	lastMark    uint64 // guarded by watchdog.mu

	// Guarded by mu, and features is changed by the holder of the baton alone. What each
	// message needs comes first, so that it is in few cache lines.
	mu        sync.Mutex
	features  uint64 // what both ends speak beyond version 1
	cause     error  // why the connection ended
	out       output
	cast      *castChunk // where it is in the log of casts; nil: apart
	limits    peerLimits
	calls     callTable
	inflight  atomic.Int64 // calls.n, to look at without mu
	sweeper   *time.Timer
	sweepAt   int64       // when it runs, on the clock of now; 0: it does not
	sweepFrom int64       // it does not run before
	opening   *time.Timer // ends a connection that does not open, or its wait
	pings     *pings      // nil before the first
	seldom    *seldom     // nil until somebody needs something of it
	flushed   chan struct{}
	castTaken castMark // of that piece
	met       bool     // what the peer takes is known
	locked    bool     // the peer is not let in yet
	isAway    bool     // either end goes away

	// Guarded by watchdog.mu.
	idleTicks uint8
	forgotten bool // the connection has ended
}

func newConn(client *Client, nc net.Conn, dialled bool) *conn {
	snap := client.Handler.snapshot()
	c := &conn{
		client:   client,
		handler:  client.Handler,
		settings: &snap.settings,
		hooks:    &snap.hooks,
		nc:       nc,
		dialled:  dialled,
		born:     sinceStart(),
		inBubble: bubble.Is(time.Now()),
	}
	c.maxSend.Store(int64(c.settings.maxBody))
	c.locked = c.demandsHello()
	c.calls = newCallTable(uint16(client.Handler.conns.Add(1)), &c.inflight)
	if tcp, ok := nc.(*net.TCPConn); ok {
		tcp.SetNoDelay(true)
	}
	if snap.hooks.readerWrap == nil && !c.settings.decisions.neverRaw {
		c.raw = rawOf(nc)
	}
	c.mayRest = c.raw != nil && !c.inBubble && len(c.hooks.beforeRecv) == 0
	return c
}

// openConns are the connections of a Handler that have not ended.
type openConns struct {
	mu    sync.Mutex
	conns map[*conn]struct{}
}

func (o *openConns) add(c *conn) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.conns == nil {
		o.conns = make(map[*conn]struct{})
	}
	o.conns[c] = struct{}{}
}

func (o *openConns) remove(c *conn) {
	o.mu.Lock()
	defer o.mu.Unlock()
	delete(o.conns, c)
}

func (o *openConns) all() []*conn {
	o.mu.Lock()
	defer o.mu.Unlock()
	return slices.Collect(maps.Keys(o.conns))
}

// start begins to read.
func (c *conn) start() {
	c.reader = &reader{conn: c, first: true, src: c.nc}
	c.handler.open.add(c)
	c.limitOpening()
	go c.reader.run()
}

// open makes the connection ready for its first message: it completes a TLS
// handshake, and says the hello or runs the connected hooks. It reports false
// when the baton went to another reader meanwhile.
func (r *reader) open() bool {
	c := r.conn
	err := c.handshake()
	if err == nil {
		err = r.wrap()
	}
	if err != nil {
		c.fail(err)
		return true
	}
	return r.greet()
}

// connected runs the connected hooks like an ordered handler, except that the
// watchdog leaves it alone: messages wait behind it, but for the answers to what
// it asks the peer.
func (r *reader) connected() bool {
	c := r.conn
	if c.gate == nil {
		c.gate = make(chan struct{})
	}
	gate := c.gate
	r.running = running{ordered: true}
	mark := r.begin(false)
	returned := false
	defer func() {
		if !returned { // a hook ended this goroutine with runtime.Goexit
			close(gate)
			c.ready.give()
			c.passBaton(mark, false)
			c.release(0)
			if r.running.claimed {
				go c.orderedQueue().drain(c)
			}
		}
	}()
	c.runConnected()
	returned = true
	close(gate)
	c.ready.give()
	if r.finish(mark) {
		c.gate = nil
		return true
	}
	c.release(0)
	if r.running.claimed {
		c.orderedQueue().drain(c)
	}
	return false
}

func (c *conn) runConnected() {
	c.guard("connected hook", func() {
		for _, hook := range c.hooks.connected {
			hook(c.client)
		}
	})
}

// opened returns when the connected hooks have returned, or the connection is
// over.
func (c *conn) opened() {
	select {
	case <-c.ready.wait():
	case <-c.readerDone.wait():
	}
}

// handshake completes what TLS connections would do on their first read, so
// that a peer that stays silent in it is cut.
func (c *conn) handshake() error {
	hs, ok := c.nc.(interface{ HandshakeContext(context.Context) error })
	if !ok {
		return nil
	}
	ctx := context.Background()
	if t := c.settings.readTimeout; t > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, t)
		defer cancel()
	}
	if err := hs.HandshakeContext(ctx); err != nil {
		return fmt.Errorf("handshake: %w", err)
	}
	c.client.identify(c.nc)
	return nil
}

// wrap has the connection read through what SetReaderWrapper said.
func (r *reader) wrap() (err error) {
	c := r.conn
	if c.hooks.readerWrap == nil {
		return nil
	}
	defer func() {
		if p := recover(); p != nil {
			c.logPanic("reader wrapper", p)
			err = Errorf(CodeInternal, "arpc: the reader wrapper panicked: %v", p)
		}
	}()
	if r.src = c.hooks.readerWrap(c.nc); r.src == nil {
		return NewError(CodeInternal, "arpc: the reader wrapper returned nil")
	}
	return nil
}

// runHooks runs the hooks around reads and writes; a panic is an error.
func (c *conn) runHooks(hooks []func(net.Conn) error) (err error) {
	if len(hooks) == 0 {
		return nil
	}
	returned := false
	defer func() {
		if p := recover(); p != nil {
			c.logPanic("hook", p)
			err = Errorf(CodeInternal, "arpc: a hook panicked: %v", p)
		} else if !returned {
			c.fail(errGoexit)
		}
	}()
	for _, hook := range hooks {
		if err = hook(c.nc); err != nil {
			break
		}
	}
	returned = true
	return err
}

var errGoexit = NewError(CodeInternal, "arpc: a hook ended its goroutine")

// guard runs the user's code and logs a panic of it.
func (c *conn) guard(what string, f func()) {
	defer func() {
		if p := recover(); p != nil {
			c.logPanic(what, p)
		}
	}()
	f()
}

// fail ends the connection because of err. The first cause wins.
func (c *conn) fail(err error) {
	c.mu.Lock()
	if c.cause != nil {
		c.mu.Unlock()
		return
	}
	c.cause = err
	c.cast = nil
	c.ended.Store(true)
	waiting := c.calls.takeAll()
	offered := c.out.offered()
	c.flushed = make(chan struct{})
	if !c.out.flushing {
		c.endFlush()
	}
	c.out.wake()
	cancel := c.stopTimers()
	c.mu.Unlock()

	c.done.give()
	c.nc.Close() // unblocks the reader and the flusher
	if cancel != nil {
		cancel(err)
	}
	for _, k := range waiting {
		k.finish(c, lostError(err, k.offset >= offered))
	}
	c.endParts(err)
	c.passBaton(c.mark.Load(), false) // so that the end does not wait for a handler
}

// over runs on the last reader, after the last message was dispatched.
func (c *conn) over() {
	c.watchdog().forget(c)
	processRestless.forget(c)
	c.handler.open.remove(c)
	if c.client.server != nil {
		c.client.server.removed(c.client)
	}
	c.neverSettled()
	if c.dialled && !c.client.owned(c) {
		c.readerDone.give()
		c.logEnd()
		return // of an attempt to connect, which whoever dialled hears of
	}
	c.readerDone.give()
	c.logEnd()
	c.client.lost(c)
	defer c.client.connEnded() // also when a hook ends this goroutine
	if c.stage.Load() == stageUsed {
		c.orderedQueue().finally(c, func() { c.client.disconnected(c) })
	}
}

// stopped waits until no goroutine of the connection is left but those that
// run the user's code.
func (c *conn) stopped() {
	if len(c.hooks.beforeRecv)+len(c.hooks.beforeSend) > 0 {
		return // one of them may have called us
	}
	<-c.readerDone.wait()
	c.mu.Lock()
	flushed := c.flushed
	c.mu.Unlock()
	<-flushed
}

// err returns why the connection ended, nil while it has not.
func (c *conn) err() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.cause
}

func (c *conn) logEnd() {
	cause := c.err()
	if errors.Is(cause, ErrPeerClosed) || errors.Is(cause, ErrClosed) {
		c.settings.logger.Debug("arpc: connection ended", "peer", c.peer(), "cause", cause)
		return
	}
	c.settings.logger.Info("arpc: connection ended", "peer", c.peer(), "cause", cause)
}

func (c *conn) logPanic(what string, p any) {
	c.settings.logger.Error("arpc: panic in a "+what, "peer", c.peer(), "panic", fmt.Sprint(p), "stack", stack())
}

// peer is the address of the other end, for people.
func (c *conn) peer() string {
	if addr := c.nc.RemoteAddr(); addr != nil {
		return addr.String()
	}
	return "unknown"
}

// hold counts a message that leaves the reader, release that it is done with.
func (c *conn) hold(n int) {
	c.handling.Add(1)
	c.heldBytes.Add(int64(n))
}

func (c *conn) release(n int) {
	c.handling.Add(-1)
	c.heldBytes.Add(-int64(n))
	c.room.wake()
}

// full reports whether a message of n bytes has to wait or be refused. A peer that
// was told the limit holds back by itself; it counts a request as done when it has
// the answer, which may be a moment before we do.
func (c *conn) full(n int, request bool) bool {
	limit := int64(c.settings.maxInflight)
	if request && c.features != 0 {
		limit += limit/4 + 16
	}
	if c.handling.Load() >= limit {
		return true
	}
	held := c.heldBytes.Load()
	return held > 0 && held+int64(n) > int64(c.settings.maxInflightBytes)
}

// busy reports whether something of ours waits for bytes of this connection.
func (c *conn) busy() bool {
	c.mu.Lock()
	n := c.calls.n
	c.mu.Unlock()
	return n > 0 || c.streams.Load().open() > 0
}

// room is where the reader waits until a handler is done.
type room struct {
	waiting atomic.Bool
	ch      chan struct{} // capacity 1; made by the reader before waiting is set
}

func (r *room) wake() {
	if !r.waiting.Load() {
		return
	}
	select {
	case r.ch <- struct{}{}:
	default:
	}
}
