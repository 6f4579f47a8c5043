package arpc

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/arpc-go/arpc/codec"
	"github.com/arpc-go/arpc/internal/wire"
)

// phase says how far a connection has come. Owned by the holder of the baton.
type phase byte

const (
	phaseOpen    phase = iota // anything may come
	phaseFirst                // accepted, nothing has come yet
	phaseHello                // dialled, the hello is not answered yet
	phaseRefused              // nothing is handled any more, the end is near
)

// software is what peers are told of this end, for people.
const software = "arpc-go"

// Stages of a connection: it is opening until its client takes it and the
// connected hooks run, which happens once or never.
const (
	stageOpening int32 = iota
	stageUsed
	stageNever
)

// features are what this package speaks beyond version 1.
const features = wire.FeatureMetadata | wire.FeatureCancel | wire.FeatureWindows | wire.FeatureGoAway

// helloGrace is how long connected hooks of an accepted connection wait for the
// first bytes, so that they know the peer. A peer of version 1 may be silent.
const helloGrace = 100 * time.Millisecond

// usualHello is a size in bytes that most hellos do not exceed.
const usualHello = 256

// maxCredentials is the most bytes that WithCredentials may return.
const maxCredentials = 32 << 10

// Identity returns who the peer is: what SetIdentity stored, or else the TLSIdentity
// of its certificate if that was verified, from before a HandleAuth hook on; nil if
// neither. At a dialled client it is the server's.
func (c *Client) Identity() any {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.identity
}

// SetIdentity stores who the peer is, as a HandleAuth hook finds out.
func (c *Client) SetIdentity(identity any) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.identity = identity
}

// HandleAuth has the accepting side authenticate its peers: fn gets the
// credentials of each new connection, nil if there are none, before anything else
// of it is handled, and stores who it is with Client.SetIdentity. An error refuses
// the connection; the dialling side gets its code and text, and does not come back
// after Unauthenticated and PermissionDenied. The context ends with the hello
// timeout. Peers of version 1 cannot authenticate and are refused unless
// WithVersions lets them in; fn does not see them. There is one such hook.
func (h *Handler) HandleAuth(fn AuthFunc) {
	mustHook("HandleAuth", fn != nil)
	h.change(func() { h.hooks.auth = fn })
}

// demandsHello reports whether the peer is kept out until it has said who it is.
func (c *conn) demandsHello() bool { return !c.dialled && c.minVersion() > 1 }

func (c *conn) minVersion() int {
	switch {
	case c.settings.minVersion > 0:
		return c.settings.minVersion
	case c.hooks.auth != nil && !c.dialled:
		return 2
	}
	return 1
}

// greet begins the connection, behind a TLS handshake. It reports false when the
// baton went to another reader in a hook.
func (r *reader) greet() bool {
	c := r.conn
	switch {
	case c.dialled && c.settings.maxVersion > 1:
		c.phase = phaseHello
		c.gate = make(chan struct{})
		if err := c.sayHello(); err != nil {
			c.fail(err)
		}
		return true
	case c.dialled:
		return r.settle()
	}
	c.phase = phaseFirst
	switch {
	case c.demandsHello():
		return true
	case len(c.hooks.connected) == 0:
		return r.settle()
	}
	c.gate = make(chan struct{})
	gate := c.gate
	c.setOpening(time.AfterFunc(helloGrace, func() { c.settleApart(gate) }))
	return true
}

// limitOpening ends a connection that does not come so far that it can be used.
func (c *conn) limitOpening() {
	if c.dialled && c.settings.maxVersion > 1 || c.demandsHello() {
		c.setOpening(time.AfterFunc(c.settings.helloTimeout, func() {
			if c.stage.CompareAndSwap(stageOpening, stageNever) {
				c.fail(c.openingError())
			}
		}))
	}
}

func (c *conn) openingError() error {
	timeout := c.settings.helloTimeout
	switch {
	case c.dialled && c.saidHello.Load():
		return Errorf(CodeUnavailable, "arpc: the peer did not answer the hello in %v (WithHelloTimeout): it may not speak arpc, or be overloaded", timeout)
	case c.dialled:
		return Errorf(CodeUnavailable, "arpc: the hello was not sent in %v (WithHelloTimeout): the TLS handshake or the credentials function takes too long", timeout)
	case c.hooks.auth != nil:
		return Errorf(CodeUnauthenticated, "arpc: the peer did not authenticate in %v (WithHelloTimeout)", timeout)
	}
	return Errorf(CodeFailedPrecondition, "arpc: the peer did not say hello in %v (WithHelloTimeout, WithVersions)", timeout)
}

func (c *conn) setOpening(timer *time.Timer) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.opening = timer
	if c.cause != nil {
		timer.Stop()
	}
}

func (c *conn) stopOpening() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.opening != nil {
		c.opening.Stop()
		c.opening = nil
	}
}

// settle makes the connection one that can be used: the client takes it, and the
// connected hooks run. It reports false when the baton went to another reader.
func (r *reader) settle() bool {
	c := r.conn
	if !c.stage.CompareAndSwap(stageOpening, stageUsed) {
		return true
	}
	c.stopOpening()
	if c.dialled && !c.client.adopt(c) {
		c.stage.Store(stageNever)
		c.fail(ErrClosed)
		return true
	}
	c.startKeepalive()
	if len(c.hooks.connected) > 0 {
		return r.connected()
	}
	if c.gate != nil {
		close(c.gate)
		c.gate = nil
	}
	c.ready.give()
	return true
}

// settleApart runs the connected hooks for a peer that has not said anything.
func (c *conn) settleApart(gate chan struct{}) {
	if !c.stage.CompareAndSwap(stageOpening, stageUsed) {
		return
	}
	c.startKeepalive()
	c.hold(0)
	claimed := c.orderedQueue().claim() // so that the disconnected hook comes behind
	defer func() {
		close(gate)
		c.ready.give()
		c.release(0)
		if claimed {
			go c.orderedQueue().drain(c)
		}
	}()
	c.runConnected()
}

// neverSettled is called at the end of a connection that was never used. What
// waited for that is let go.
func (c *conn) neverSettled() {
	c.stage.CompareAndSwap(stageOpening, stageNever)
	c.stopOpening()
	if c.stage.Load() == stageNever && c.gate != nil {
		close(c.gate)
		c.gate = nil
	}
}

// sayHello sends the hello. Its answer is what comes next, or little before it.
func (c *conn) sayHello() error {
	hello := c.ownHello()
	if c.settings.credentials != nil {
		credentials, err := c.askCredentials()
		if err != nil {
			return err
		}
		hello.Credentials = credentials
	}
	hello.Session = []byte(c.client.session)
	c.pinged(nil)
	c.saidHello.Store(true)
	c.sendHello(wire.CmdPing, &hello, nil)
	return nil
}

func (c *conn) askCredentials() ([]byte, error) {
	var credentials []byte
	err := c.ask("credentials function", func(ctx context.Context) (err error) {
		credentials, err = c.settings.credentials(ctx)
		return err
	})
	switch {
	case err == nil && len(credentials) > maxCredentials:
		return nil, Errorf(CodeInvalidArgument, "arpc: credentials of %d bytes are over the limit of %d", len(credentials), maxCredentials)
	case err == nil:
		return credentials, nil
	case c.err() == nil:
		return nil, &Error{code: codeOr(err, CodeUnauthenticated), msg: "arpc: credentials: " + err.Error(), cause: err}
	}
	return nil, err // the function may still run
}

// ask runs the user's code, which may take its time, end its goroutine or stop
// this client, on a goroutine of its own, and waits for it as long as the
// connection lives. Its context ends with the hello timeout.
func (c *conn) ask(what string, fn func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(c.context(), c.settings.helloTimeout)
	answer := make(chan error, 1)
	go func() {
		defer cancel()
		err := error(errGoexit)
		defer func() {
			if p := recover(); p != nil {
				c.logPanic(what, p)
				err = &Error{code: CodeInternal, msg: fmt.Sprintf("the %s panicked: %v", what, p), cause: errPanicked}
			}
			answer <- err
		}()
		if err = fn(ctx); err == nil {
			err = context.Cause(ctx) // what it says comes too late
		}
	}()
	select {
	case err := <-answer:
		return err
	case <-c.done.wait():
		return c.err()
	}
}

func (c *conn) ownHello() wire.Hello {
	s := c.settings
	return wire.Hello{
		Features: features,
		MaxBody:  uint64(s.maxBody), MaxInflight: uint64(s.maxInflight), MaxStreams: uint64(s.maxStreams),
		Window: uint64(s.streamWindow), MaxMetadata: uint64(s.maxMetadata),
		Codec: codecName(c.client.Codec), Compat: s.compat, Name: s.peerName, Software: software,
		Coders: c.handler.snapshot().coders.names(),
	}
}

func codecName(c codec.Codec) string {
	if named, ok := c.(codec.Named); ok {
		return named.Name()
	}
	return ""
}

func (c *conn) sendHello(cmd byte, hello, peer *wire.Hello) {
	o := outgoing{
		meets:   peer,
		header:  wire.Header{Cmd: cmd},
		payload: payload{b: hello.Append(make([]byte, 0, usualHello), cmd == wire.CmdPing)},
		reply:   true,
	}
	c.sendReply(&o)
}

// greeting handles a frame that came before the connection was open. It reports
// whether that was all there is to do, and otherwise whether the baton is still
// here.
func (r *reader) greeting(h wire.Header, frame []byte) (handled, kept bool) {
	c := r.conn
	switch {
	case c.phase == phaseRefused:
		return true, true
	case c.phase == phaseHello && isPing(h) && h.Command() == wire.CmdPong:
		return true, r.welcomed(frame[wire.HeaderLen:])
	case c.phase == phaseHello:
		return false, true // it waits behind the gate
	}
	c.phase = phaseOpen
	if isPing(h) && h.Command() == wire.CmdPing && wire.IsHello(frame[wire.HeaderLen:]) && c.settings.maxVersion > 1 {
		return true, r.introduced(frame[wire.HeaderLen:])
	}
	if c.demandsHello() {
		r.refuseOld(h, frame)
		return true, true
	}
	c.mu.Lock()
	c.met = true
	c.mu.Unlock()
	if !r.dispatch(h, frame) {
		return true, false
	}
	return true, r.settle()
}

// welcomed handles the answer to our hello.
func (r *reader) welcomed(record []byte) bool {
	c := r.conn
	c.phase = phaseOpen
	c.ponged()
	if !wire.IsHello(record) {
		if c.minVersion() > 1 {
			c.fail(&Error{code: CodeFailedPrecondition, msg: "arpc: the peer speaks version 1 of the wire only, and at least version 2 is asked for (WithVersions)", final: true})
			return true
		}
		return r.settle()
	}
	hello, err := wire.ParseHello(record)
	if err == nil {
		err = c.check(&hello)
	}
	if err != nil {
		c.fail(err)
		return true
	}
	kept := c.kept(&hello)
	c.mu.Lock()
	c.learn(kept)
	c.mu.Unlock()
	return r.settle()
}

// check says why the peer does not fit.
func (c *conn) check(hello *wire.Hello) error {
	own := codecName(c.client.Codec)
	switch {
	case hello.Code != 0:
		return &Error{code: Code(hello.Code), msg: "arpc: the peer refused the connection: " + hello.Message, remote: true, final: isFinal(Code(hello.Code))}
	case own != "" && hello.Codec != "" && own != hello.Codec:
		return c.unlike("codecs (WithCodec)", own, hello.Codec)
	case c.settings.compat != "" && c.settings.compat != hello.Compat:
		return c.unlike("compatibility strings (WithCompat)", c.settings.compat, hello.Compat)
	}
	return nil
}

// unlike is an error that reads the same at both ends.
func (c *conn) unlike(what, own, theirs string) error {
	dialling, accepting := own, theirs
	if !c.dialled {
		dialling, accepting = theirs, own
	}
	return &Error{
		code:  CodeFailedPrecondition,
		msg:   fmt.Sprintf("arpc: the %s differ: %q on the dialling side, %q on the accepting side", what, dialling, accepting),
		final: true,
	}
}

// isFinal reports whether a refusal with this code cannot get better by dialling
// again.
func isFinal(code Code) bool {
	switch code {
	case CodeUnauthenticated, CodePermissionDenied, CodeFailedPrecondition, CodeInvalidArgument, CodeUnimplemented:
		return true
	}
	return false
}

// introduced handles the hello of a peer that dialled us.
func (r *reader) introduced(record []byte) bool {
	c := r.conn
	hello, err := wire.ParseHello(record)
	if err != nil {
		err = Errorf(CodeInvalidArgument, "arpc: %w", err)
	}
	if err == nil {
		err = c.check(&hello)
	}
	if err == nil && c.hooks.auth != nil {
		err = c.authenticate(&hello)
	}
	if err == nil && c.draining.Load() {
		err = errDraining
	}
	if err != nil {
		c.refuseHello(err)
		return true
	}
	own := c.ownHello()
	c.sendHello(wire.CmdPong, &own, c.kept(&hello)) // before anything that only version 2 understands
	if c.draining.Load() {
		c.acked.Store(false) // the drain began meanwhile and took the peer for one of version 1
		c.goAway()
	}
	return r.settle()
}

// authenticate asks the hook. The reader waits for it: nothing of the peer is
// looked at before it is known.
func (c *conn) authenticate(hello *wire.Hello) error {
	credentials := hello.Credentials
	err := c.ask("authentication hook", func(ctx context.Context) error {
		return c.hooks.auth(ctx, c.client, credentials)
	})
	switch {
	case errors.Is(err, errPanicked):
		return NewError(CodeInternal, "the authentication hook panicked") // the rest is not for the peer
	case err != nil:
		return &Error{code: codeOr(err, CodeUnauthenticated), msg: publicText(err), cause: err}
	}
	return nil
}

// codeOr returns the code of an error, or another if it has none.
func codeOr(err error, otherwise Code) Code {
	if code := CodeOf(err); code != CodeUnknown && code != CodeOK {
		return code
	}
	return otherwise
}

// refuseHello tells the peer why it is not let in, and hangs up.
func (c *conn) refuseHello(err error) {
	c.settings.logger.Warn("arpc: connection refused", "peer", c.peer(), "cause", err)
	refusal := c.ownHello()
	refusal.Code, refusal.Message = uint32(CodeOf(err)), publicText(err)
	if n := len(refusal.Message); n > exemptText {
		refusal.Message = refusal.Message[:exemptText]
	}
	c.sendHello(wire.CmdPong, &refusal, nil)
	c.hangUp(err)
}

// refuseOld hangs up on a peer of version 1 that has to be of version 2.
func (r *reader) refuseOld(h wire.Header, frame []byte) {
	c := r.conn
	err := NewError(CodeFailedPrecondition, "arpc: version 2 of the wire is required (WithVersions)")
	if c.hooks.auth != nil {
		err = NewError(CodeUnauthenticated, "arpc: authentication is required, which version 1 of the wire cannot do (HandleAuth)")
	}
	c.settings.logger.Warn("arpc: connection refused", "peer", c.peer(), "cause", err)
	if h.Command() == wire.CmdRequest && h.Check() == nil {
		method, _ := wire.Split(frame, h)
		c.refuse(h, string(method), err)
	}
	c.hangUp(err)
}

// hangUp ends the connection when what was written has left.
func (c *conn) hangUp(cause error) {
	c.phase = phaseRefused
	c.stage.CompareAndSwap(stageOpening, stageNever)
	c.stopOpening()
	go func() {
		ctx, cancel := context.WithTimeout(c.context(), c.settings.helloTimeout)
		defer cancel()
		c.drained(ctx)
		c.fail(cause)
	}()
}

// refused reports whether err is one that dialling again cannot mend.
func refused(err error) bool {
	var e *Error
	return errors.As(err, &e) && e.final
}
