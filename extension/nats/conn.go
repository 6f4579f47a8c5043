package nats

import (
	"context"
	"errors"
	"math/rand/v2"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/arpc-go/arpc"
	"github.com/arpc-go/arpc/extension/pubsub"
)

// backOff is how long to wait before attempt n, from 1, with full jitter.
func backOff(n int) time.Duration {
	const first, most = 100 * time.Millisecond, 3 * time.Second
	return first/10 + rand.N(min(most, first<<min(n-1, 8)))
}

// connect tries until it succeeds or WithWait is over, as NATS may be about to start, but
// once only with what no waiting mends.
func (b *Broker) connect(url string) (*nats.Conn, error) {
	options := b.natsOptions()
	ctx, cancel := b.bounded(b.life)
	defer cancel()
	moment := time.NewTimer(0)
	defer moment.Stop()
	for n := 1; ; n++ {
		nc, err := nats.Connect(url, options...)
		if err == nil || !mayConnect(err) {
			return nc, err
		}
		moment.Reset(backOff(n))
		select {
		case <-moment.C:
		case <-ctx.Done():
			return nil, err
		}
	}
}

// mayConnect reports whether it makes sense to try again: not if NATS refuses, or the
// address is none.
func mayConnect(err error) bool {
	var address *url.Error
	for _, final := range []error{nats.ErrAuthorization, nats.ErrAuthExpired, nats.ErrAuthRevoked,
		nats.ErrAccountAuthExpired, nats.ErrSecureConnRequired, nats.ErrSecureConnWanted} {
		if errors.Is(err, final) {
			return false
		}
	}
	return !errors.As(err, &address)
}

// gate says whether there is a connection. The zero gate is shut.
type gate struct {
	mu   sync.Mutex
	up   chan struct{}   // closed while there is one; nil: nobody has waited
	life context.Context // ends with the connection; nil: there is none
	end  context.CancelCauseFunc
}

func (g *gate) open(parent context.Context) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.life != nil {
		return
	}
	g.life, g.end = context.WithCancelCause(parent)
	if g.up == nil {
		g.up = make(chan struct{})
	}
	close(g.up)
}

func (g *gate) shut(cause error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.life == nil {
		return
	}
	if cause == nil {
		cause = nats.ErrDisconnected
	}
	g.end(cause)
	g.life, g.up = nil, nil
}

// opened is closed as soon as there is a connection.
func (g *gate) opened() <-chan struct{} {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.up == nil {
		g.up = make(chan struct{})
	}
	return g.up
}

// lost returns what is closed when the connection that there is now is lost, nil if there
// is none.
func (g *gate) lost() <-chan struct{} {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.life == nil {
		return nil
	}
	return g.life.Done()
}

// while returns a context that ends with ctx or with the connection, at once if there
// is none.
func (g *gate) while(ctx context.Context) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancelCause(ctx)
	g.mu.Lock()
	life := g.life
	g.mu.Unlock()
	if life == nil {
		cancel(nats.ErrDisconnected)
		return ctx, func() {}
	}
	stop := context.AfterFunc(life, func() { cancel(context.Cause(life)) })
	return ctx, func() {
		stop()
		cancel(nil)
	}
}

// bounded returns a context that ends with ctx, and when WithWait is over.
func (b *Broker) bounded(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeoutCause(ctx, b.wait, errWait)
}

var errWait = errors.New("NATS did not answer in time (WithWait)")

// connected waits for a connection.
func (b *Broker) connected(ctx context.Context) error {
	select {
	case <-b.gate.opened():
		return nil
	case <-b.done:
		return pubsub.ErrBrokerClosed
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// pause waits before something is tried again for the nth time, from 0: for a
// connection, and a moment.
func (b *Broker) pause(ctx context.Context, n int) error {
	if err := b.connected(ctx); err != nil {
		return err
	}
	const first, most = 5 * time.Millisecond, 500 * time.Millisecond
	moment := time.NewTimer(first + rand.N(min(most, first<<min(n, 8))))
	defer moment.Stop()
	select {
	case <-moment.C:
		return nil
	case <-b.done:
		return pubsub.ErrBrokerClosed
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// attempt is how long to wait for the first answer of NATS before asking again: of a
// cluster that is electing a leader none may come. For others it is longer.
const attempt = 2 * time.Second

// try does fn until it succeeds, ctx ends, or its error has a code.
func (b *Broker) try(ctx context.Context, op string, fn func(context.Context) error) error {
	for n := 0; ; n++ {
		err := b.once(ctx, attempt<<min(n, 3), fn)
		var coded *arpc.Error
		if err == nil || errors.As(err, &coded) && coded.Code() != arpc.CodeUnavailable || isClosed(b.done) {
			return b.failed(ctx, op, err)
		}
		if b.pause(ctx, n) != nil {
			return b.failed(ctx, op, err)
		}
	}
}

func (b *Broker) once(ctx context.Context, patience time.Duration, fn func(context.Context) error) error {
	ctx, cancel := b.gate.while(ctx)
	defer cancel()
	ctx, cancelAttempt := context.WithTimeout(ctx, patience)
	defer cancelAttempt()
	return fn(ctx)
}

// failed returns err as one of the operation op: ErrBrokerClosed if it is that, what it
// says if it has a code, the caller's own end, or that NATS is out of reach.
func (b *Broker) failed(ctx context.Context, op string, err error) error {
	var coded *arpc.Error
	switch {
	case err == nil:
		return nil
	case isClosed(b.done):
		return pubsub.ErrBrokerClosed
	case errors.As(err, &coded):
		return err
	case errors.Is(ctx.Err(), context.Canceled):
		return arpc.Errorf(arpc.CodeCanceled, "nats: %s: %w", op, context.Cause(ctx))
	}
	return arpc.Errorf(arpc.CodeUnavailable, "nats: %s: %w", op, err)
}

func isClosed(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}

// redacted returns URLs without passwords.
func redacted(urls string) string {
	parts := strings.Split(urls, ",")
	for i, part := range parts {
		part = strings.TrimSpace(part)
		if !strings.Contains(part, "://") {
			part = "nats://" + part
		}
		parts[i] = "an address that is none"
		if u, err := url.Parse(part); err == nil {
			parts[i] = u.Redacted()
		}
	}
	return strings.Join(parts, ", ")
}
