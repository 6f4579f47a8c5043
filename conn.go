package arpc

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"time"

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
	raw      *rawConn  // nil unless nc is a TCP or Unix socket
	src      io.Reader // nc, or what SetReaderWrapper made of it before the first read
	dialled  bool
	born     time.Time
	ready    chan struct{} // closed when the connected hooks have returned
	done     chan struct{} // closed by fail

	mark    atomic.Uint64 // who has the baton: see baton.go
	passing sync.Mutex    // held while the baton changes hands
	watched atomic.Bool
	reads   atomic.Uint64 // counts reads, for keepalive

	atWork    atomic.Bool  // the reader has bytes to look at
	draining  atomic.Bool  // new requests are refused
	stopping  atomic.Bool  // stopped by this side: nothing more is dispatched
	handling  atomic.Int64 // requests and notifications off the reader
	heldBytes atomic.Int64 // their bytes
	room      room         // where the reader waits at the limits of the two

	streamBytes atomic.Int64 // of stream messages that wait for Recv

	// Owned by the holder of the baton.
	reader       *reader
	gate         chan struct{} // closed when the connected hook returned; nil from then on
	orderedHint  bool          // ordered.busy may be true
	useful       bool          // a frame made sense
	callbackPace pace

	ordered orderedQueue
	streams streamTable

	// Guarded by mu.
	mu         sync.Mutex
	out        output
	calls      callTable
	sweeper    *time.Timer
	sweepAt    int64 // when it runs, on the clock of now; 0: it does not
	sweepFrom  int64 // it does not run before
	cause      error // why the connection ended
	flushed    chan struct{}
	readerDone chan struct{} // closed when no reader is left

	// Guarded by watchdog.mu.
	forgotten bool // the connection has ended
	lastMark  uint64
	idleTicks int

	keepalive *time.Timer // guarded by mu
}

func newConn(client *Client, nc net.Conn, dialled bool) *conn {
	snap := client.Handler.snapshot()
	c := &conn{
		client:     client,
		handler:    client.Handler,
		settings:   &snap.settings,
		hooks:      &snap.hooks,
		nc:         nc,
		src:        nc,
		dialled:    dialled,
		born:       time.Now(),
		ready:      make(chan struct{}),
		done:       make(chan struct{}),
		readerDone: make(chan struct{}),
	}
	c.calls = newCallTable(uint16(client.Handler.conns.Add(1)))
	if tcp, ok := nc.(*net.TCPConn); ok {
		tcp.SetNoDelay(true)
	}
	if snap.hooks.readerWrap == nil && !c.settings.decisions.neverRaw {
		c.raw = rawOf(nc)
	}
	return c
}

// start begins to read.
func (c *conn) start() {
	c.reader = &reader{conn: c, first: true}
	c.startKeepalive()
	go c.reader.run()
}

// open makes the connection ready for its first message: it completes a TLS
// handshake and runs the connected hooks. It reports false when the baton went
// to another reader meanwhile.
func (r *reader) open() bool {
	c := r.conn
	err := c.handshake()
	if err == nil {
		err = c.wrap()
	}
	if err == nil && len(c.hooks.connected) > 0 {
		return r.connected()
	}
	if err != nil {
		c.fail(err)
	}
	close(c.ready)
	return true
}

// connected runs the connected hooks like an ordered handler, except that the
// watchdog leaves it alone: messages wait behind it, but for the answers to what
// it asks the peer.
func (r *reader) connected() bool {
	c := r.conn
	gate := make(chan struct{})
	c.gate = gate
	r.running = running{ordered: true}
	mark := r.begin(false)
	returned := false
	defer func() {
		if !returned { // a hook ended this goroutine with runtime.Goexit
			close(gate)
			close(c.ready)
			c.passBaton(mark, false)
			c.release(0)
			go c.ordered.drain(c)
		}
	}()
	c.guard("connected hook", func() {
		for _, hook := range c.hooks.connected {
			hook(c.client)
		}
	})
	returned = true
	close(gate)
	close(c.ready)
	if r.finish(mark) {
		c.gate = nil
		return true
	}
	c.release(0)
	c.ordered.drain(c)
	return false
}

// opened returns when the connected hooks have returned, or the connection is
// over.
func (c *conn) opened() {
	select {
	case <-c.ready:
	case <-c.readerDone:
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
	return nil
}

// wrap has the connection read through what SetReaderWrapper said.
func (c *conn) wrap() (err error) {
	if c.hooks.readerWrap == nil {
		return nil
	}
	defer func() {
		if p := recover(); p != nil {
			c.logPanic("reader wrapper", p)
			err = Errorf(CodeInternal, "arpc: the reader wrapper panicked: %v", p)
		}
	}()
	if c.src = c.hooks.readerWrap(c.nc); c.src == nil {
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
	waiting := c.calls.takeAll()
	offered := c.out.offered()
	c.flushed = make(chan struct{})
	if !c.out.flushing {
		c.endFlush()
	}
	c.out.wake()
	for _, timer := range []*time.Timer{c.sweeper, c.keepalive} {
		if timer != nil {
			timer.Stop()
		}
	}
	c.mu.Unlock()

	close(c.done)
	c.nc.Close() // unblocks the reader and the flusher
	for _, k := range waiting {
		k.finish(c, lostError(err, k.offset >= offered))
	}
	c.streams.fail(lostError(err, false))
	c.passBaton(c.mark.Load(), false) // so that the end does not wait for a handler
}

// over runs on the last reader, after the last message was dispatched.
func (c *conn) over() {
	c.handler.watchdog.forget(c)
	if c.client.server != nil {
		c.client.server.removed(c.client)
	}
	close(c.readerDone)
	c.logEnd()
	c.client.lost(c)
	defer c.client.connEnded() // also when a hook ends this goroutine
	c.ordered.finally(c, func() { c.client.disconnected(c) })
}

// stopped waits until no goroutine of the connection is left but those that
// run the user's code.
func (c *conn) stopped() {
	if len(c.hooks.beforeRecv)+len(c.hooks.beforeSend) > 0 {
		return // one of them may have called us
	}
	<-c.readerDone
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

// reply sends a frame that the engine makes itself. It never waits: when the
// peer reads nothing of what it asks for, the connection ends.
func (c *conn) reply(h wire.Header, method string, text string) {
	o := outgoing{header: h, method: method, payload: payload{s: text}, reply: true}
	switch err := c.send(context.Background(), &o); {
	case errors.Is(err, ErrOverstock):
		c.fail(Errorf(CodeResourceExhausted, "arpc: the peer does not read the answers to what it sends: %w", ErrOverstock))
	case errors.Is(err, errCoding):
		c.fail(err)
	}
}

// answerUncoded tells a caller that the answer to it could not be coded. When
// the coders refuse that too, the connection ends.
func (c *conn) answerUncoded(h wire.Header, method string, err error) {
	h.Flag |= wire.FlagError
	text := publicText(err)
	c.reply(h, method, text[:min(len(text), exemptText)])
}

// refuse answers a request with an error, on the reader.
func (c *conn) refuse(h wire.Header, method string, err error) {
	rsp := wire.Header{Cmd: wire.CmdResponse, Flag: h.Flag&wire.FlagAsync | wire.FlagError, Seq: h.Seq}
	text := publicText(err)
	c.reply(rsp, method, text[:min(len(text), exemptText)])
}

// drop tells of a message that was received and is not handled.
func (r *reader) drop(frame []byte, why string) {
	c := r.conn
	c.client.stats.dropped.Add(1)
	c.settings.logger.Debug("arpc: message dropped", "peer", c.peer(), "why", why)
	r.tell("message-dropped hook", c.handler.snapshot().hooks.dropped, frame)
}

// missed tells of a response that no call waits for.
func (r *reader) missed(frame []byte) {
	r.conn.client.stats.missed.Add(1)
	r.tell("session-miss hook", r.conn.handler.snapshot().hooks.sessionMiss, frame)
}

// tell runs hooks for a message on the reader, as a handler that can lose the
// baton. Then r.lost is set.
func (r *reader) tell(what string, hooks []func(*Client, *Message), frame []byte) {
	if len(hooks) == 0 || r.lost {
		return
	}
	c := r.conn
	m := &Message{Buffer: frame}
	r.running = running{held: len(frame)}
	mark := r.begin(true)
	returned := false
	defer func() {
		if !returned { // a hook ended this goroutine with runtime.Goexit
			c.passBaton(mark, false)
			c.release(len(frame))
		}
	}()
	c.guard(what, func() {
		for _, hook := range hooks {
			hook(c.client, m)
		}
	})
	returned = true
	if !r.finish(mark) {
		r.lost = true
		c.release(len(frame))
	}
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

// full reports whether a message of n bytes has to wait or be refused.
func (c *conn) full(n int) bool {
	if c.handling.Load() >= int64(c.settings.maxInflight) {
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
	return n > 0 || c.streams.open() > 0
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

// startKeepalive pings a silent peer and ends the connection of a dead one.
func (c *conn) startKeepalive() {
	interval := c.settings.keepaliveInterval
	if interval < 0 {
		interval = 0
		if c.dialled {
			interval = 30 * time.Second
		}
	}
	if interval == 0 {
		return
	}
	k := &keepalive{conn: c, interval: interval, timeout: c.settings.keepaliveTimeout}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.keepalive = time.AfterFunc(interval, k.tick)
}

// keepalive is the state between two ticks of its timer. One tick runs at a
// time.
type keepalive struct {
	conn              *conn
	interval, timeout time.Duration
	seen              uint64    // reads at the last tick
	pinged            time.Time // since when a ping is unanswered; zero: none is
}

func (k *keepalive) tick() {
	c := k.conn
	now := time.Now()
	if n := c.reads.Load(); n != k.seen || c.room.waiting.Load() { // who does not read cannot tell
		k.seen, k.pinged = n, time.Time{}
		k.again(k.interval)
		return
	}
	if k.pinged.IsZero() {
		k.pinged = now
		c.reply(wire.Header{Cmd: wire.CmdPing}, "", "")
	}
	left := k.timeout - now.Sub(k.pinged)
	if left <= 0 {
		c.fail(ErrKeepalive)
		return
	}
	k.again(min(k.interval, left))
}

func (k *keepalive) again(wait time.Duration) {
	c := k.conn
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.cause == nil {
		c.keepalive.Reset(wait)
	}
}
