package arpc

import (
	"context"
	"sync"
	"sync/atomic"
	"time"
)

// ClientPool is a fixed set of dialled clients that share one Handler. Calls go
// to one that is connected, in turn; when none is, to the next in turn, whose
// error says so. Its methods may be called from any goroutine at any time.
type ClientPool struct {
	handler *Handler
	clients []*Client
	turn    atomic.Uint64
}

// NewClientPool dials size connections with one dialer.
func NewClientPool(dialer DialerFunc, size int, opts ...Option) (*ClientPool, error) {
	if size <= 0 {
		return nil, Errorf(CodeInvalidArgument, "arpc: NewClientPool: the size must be positive, not %d", size)
	}
	dialers := make([]DialerFunc, size)
	for i := range dialers {
		dialers[i] = dialer
	}
	return NewClientPoolFromDialers(dialers, opts...)
}

// NewClientPoolFromDialers dials one connection with each dialer, at the same
// time. If one fails, all are closed and the first error is returned.
func NewClientPoolFromDialers(dialers []DialerFunc, opts ...Option) (*ClientPool, error) {
	if len(dialers) == 0 {
		return nil, NewError(CodeInvalidArgument, "arpc: NewClientPoolFromDialers: there are no dialers")
	}
	h, err := handlerFor(opts)
	if err != nil {
		return nil, err
	}
	p := &ClientPool{handler: h, clients: make([]*Client, len(dialers))}
	errs := make([]error, len(dialers))
	var all sync.WaitGroup
	for i, dialer := range dialers {
		all.Go(func() { p.clients[i], errs[i] = NewClient(dialer, WithHandler(h)) })
	}
	all.Wait()
	for _, err := range errs {
		if err != nil {
			p.stopAll()
			return nil, err
		}
	}
	return p, nil
}

// Handler returns the handler that the clients share.
func (p *ClientPool) Handler() *Handler { return p.handler }

// Size returns the number of clients.
func (p *ClientPool) Size() int { return len(p.clients) }

// Get returns the client at an index, modulo the size.
func (p *ClientPool) Get(index int) *Client {
	n := len(p.clients)
	return p.clients[((index%n)+n)%n]
}

// Next returns the next client in turn that is connected, or just the next if
// none is.
func (p *ClientPool) Next() *Client {
	turn := p.turn.Add(1)
	n := uint64(len(p.clients))
	c := p.clients[turn%n]
	if c.connected() {
		return c
	}
	var others []*Client
	for _, other := range p.clients {
		if other.connected() {
			others = append(others, other)
		}
	}
	if len(others) == 0 {
		return c
	}
	return others[turn/n%uint64(len(others))] // spreads the share of the one that is lost
}

func (c *Client) connected() bool {
	_, err := c.current()
	return err == nil
}

// Call is Client.Call on the next client.
func (p *ClientPool) Call(method string, req, rsp any, timeout time.Duration) error {
	return p.Next().Call(method, req, rsp, timeout)
}

// CallWith is Client.CallWith on the next client.
func (p *ClientPool) CallWith(ctx context.Context, method string, req, rsp any) error {
	return p.Next().CallWith(ctx, method, req, rsp)
}

// CallAsync is Client.CallAsync on the next client.
func (p *ClientPool) CallAsync(method string, req any, callback func(*Context), timeout time.Duration) error {
	return p.Next().CallAsync(method, req, callback, timeout)
}

// Notify is Client.Notify on the next client.
func (p *ClientPool) Notify(method string, v any, timeout time.Duration) error {
	return p.Next().Notify(method, v, timeout)
}

// NotifyWith is Client.NotifyWith on the next client.
func (p *ClientPool) NotifyWith(ctx context.Context, method string, v any) error {
	return p.Next().NotifyWith(ctx, method, v)
}

// Stop stops all clients. See Client.Stop.
func (p *ClientPool) Stop() { p.stopAll() }

// Shutdown shuts all clients down at the same time. See Client.Shutdown.
func (p *ClientPool) Shutdown(ctx context.Context) error {
	errs := make([]error, len(p.clients))
	var all sync.WaitGroup
	for i, c := range p.clients {
		all.Go(func() { errs[i] = c.Shutdown(ctx) })
	}
	all.Wait()
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}

func (p *ClientPool) stopAll() {
	var all sync.WaitGroup
	for _, c := range p.clients {
		if c != nil {
			all.Go(c.Stop)
		}
	}
	all.Wait()
}
