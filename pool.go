package arpc

import (
	"cmp"
	"context"
	"maps"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
)

// ClientPool is a set of dialled clients that share one Handler, each under a
// name. Members may be added and removed at any time. Calls, notifications and
// streams go to the member that the Picker chooses among those that are healthy;
// when none is, to one whose error says so, or that waits for its connection, as
// WithWaitForReady says.
//
// What fails with CodeUnavailable and without having been sent (SafeToRetry) is
// tried on the other healthy members, each at most once, within its context or
// timeout. A call marked by ContextWithIdempotent is also tried on another member,
// once, when the connection was lost under it; when nobody else is healthy it waits
// for a connection, as on a Client. Interceptors (Handler.UseCall) see a call once.
//
// The methods may be called from any goroutine at any time.
type ClientPool struct {
	// Set by newPool, never changed.
	handler *Handler
	done    chan struct{}

	picker  atomic.Pointer[Picker]
	turn    atomic.Uint64             // of pickers that go round
	members atomic.Pointer[[]*Member] // the list is replaced under mu, never changed

	finishOnce sync.Once // closes done
	watchOnce  sync.Once // starts watch

	// Guarded by mu.
	mu       sync.Mutex
	closed   bool                 // by Stop or Shutdown
	dialling map[string]struct{}  // names that Add dials for
	leaving  map[*Client]struct{} // removed and not closed yet
	changed  chan struct{}        // closed and replaced when members is

	background sync.WaitGroup // grows under mu, while not closed
}

// NewPool returns a pool without members, for Add. Without WithHandler its Handler
// is a clone of DefaultHandler. Calls fail with CodeUnavailable until there is a
// member.
func NewPool(opts ...Option) (*ClientPool, error) {
	h, err := handlerFor(opts)
	if err != nil {
		return nil, err
	}
	return newPool(h), nil
}

func newPool(h *Handler) *ClientPool {
	p := &ClientPool{
		handler:  h,
		done:     make(chan struct{}),
		dialling: make(map[string]struct{}),
		leaving:  make(map[*Client]struct{}),
		changed:  make(chan struct{}),
	}
	p.members.Store(new([]*Member))
	p.SetPicker(nil)
	return p
}

// NewClientPool dials size connections with one dialer. The members are named
// "0", "1" and so on.
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
// time. The members are named "0", "1" and so on. If one fails, all are closed and
// the first error is returned.
func NewClientPoolFromDialers(dialers []DialerFunc, opts ...Option) (*ClientPool, error) {
	if len(dialers) == 0 {
		return nil, NewError(CodeInvalidArgument, "arpc: NewClientPoolFromDialers: there are no dialers")
	}
	p, err := NewPool(opts...)
	if err != nil {
		return nil, err
	}
	clients := make([]*Client, len(dialers))
	errs := make([]error, len(dialers))
	var all sync.WaitGroup
	for i, dialer := range dialers {
		errs[i] = errGoexit
		all.Go(func() { clients[i], errs[i] = NewClient(dialer, WithHandler(p.handler)) })
	}
	all.Wait()
	if err := cmp.Or(errs...); err != nil {
		stopAll(clients)
		return nil, err
	}
	members := make([]*Member, len(clients))
	for i, c := range clients {
		members[i] = newMember(p, strconv.Itoa(i), c)
	}
	p.members.Store(&members)
	return p, nil
}

// Handler returns the handler that the clients share.
func (p *ClientPool) Handler() *Handler { return p.handler }

// SetPicker sets who chooses the members, from the next call on. The default,
// also for nil, is RoundRobin.
func (p *ClientPool) SetPicker(picker Picker) {
	if picker == nil {
		picker = RoundRobin()
	}
	p.picker.Store(&picker)
}

// Add dials a client and makes it a member when its connected hooks have run. The
// name must be new. When it cannot connect nothing is added, and the error is that
// of NewClient; once it is a member it comes back by itself, as WithReconnect
// says. After Stop or Shutdown it fails with ErrClosed.
func (p *ClientPool) Add(name string, dialer DialerFunc) (*Client, error) {
	if err := p.reserve(name); err != nil {
		return nil, err
	}
	defer p.release(name)
	c, err := NewClient(dialer, WithHandler(p.handler))
	if err != nil {
		return nil, err
	}
	if !p.join(newMember(p, name, c)) {
		c.Stop()
		return nil, poolClosed("Add")
	}
	return c, nil
}

func poolClosed(op string) error {
	return Errorf(CodeUnavailable, "arpc: %s: the pool is stopped: %w", op, ErrClosed)
}

func (p *ClientPool) reserve(name string) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	_, dialling := p.dialling[name]
	switch {
	case p.closed:
		return poolClosed("Add")
	case name == "":
		return NewError(CodeInvalidArgument, "arpc: Add: a member needs a name")
	case dialling || p.index(name) >= 0:
		return Errorf(CodeAlreadyExists, "arpc: Add: there is a member %q already", name)
	}
	p.dialling[name] = struct{}{}
	return nil
}

func (p *ClientPool) release(name string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.dialling, name)
}

func (p *ClientPool) join(m *Member) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.closed {
		p.replace(append(slices.Clone(p.list()), m))
	}
	return !p.closed
}

// replace changes the list. Guarded by mu.
func (p *ClientPool) replace(members []*Member) {
	p.members.Store(&members)
	close(p.changed)
	p.changed = make(chan struct{})
}

func (p *ClientPool) list() []*Member { return *p.members.Load() }

// index returns where a member is in the list, negative for none.
func (p *ClientPool) index(name string) int {
	return slices.IndexFunc(p.list(), func(m *Member) bool { return m.name == name })
}

// Remove takes a member out, so that nothing new goes to it, and returns. In the
// background the client is shut down: what is in flight on it ends as it would
// have, streams too, and then its Done is closed. Its Stop cuts that short, as does
// the Stop of the pool; the pool's Shutdown waits for it. The error has
// CodeNotFound when there is no such member. After Stop or Shutdown it is
// ErrClosed.
func (p *ClientPool) Remove(name string) (*Client, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	i := p.index(name)
	switch {
	case p.closed:
		return nil, poolClosed("Remove")
	case i < 0:
		return nil, Errorf(CodeNotFound, "arpc: Remove: there is no member %q", name)
	}
	c := p.list()[i].client
	p.replace(slices.Delete(slices.Clone(p.list()), i, i+1))
	p.leaving[c] = struct{}{}
	p.background.Go(func() { p.retire(c) })
	return c, nil
}

func (p *ClientPool) retire(c *Client) {
	c.Shutdown(context.Background()) // Stop ends it
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.leaving, c)
}

// Members returns the members in the order they were added.
func (p *ClientPool) Members() []*Member { return slices.Clone(p.list()) }

// Size returns the number of members.
func (p *ClientPool) Size() int { return len(p.list()) }

// Get returns the client at an index of Members, modulo the size; nil when there
// are none.
func (p *ClientPool) Get(index int) *Client {
	list := p.list()
	n := len(list)
	if n == 0 {
		return nil
	}
	return list[((index%n)+n)%n].client
}

// Done is closed when the pool is stopped, or when all of its members, if it has
// any, are closed for good. After the latter Add still works, and Done stays
// closed.
func (p *ClientPool) Done() <-chan struct{} {
	p.watchOnce.Do(func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		if !p.closed {
			p.background.Go(p.watch)
		}
	})
	return p.done
}

// watch closes done when all members are closed.
func (p *ClientPool) watch() {
	for {
		p.mu.Lock()
		members, changed := p.list(), p.changed
		p.mu.Unlock()
		if allClosed(members, changed, p.done) {
			p.finish()
			return
		}
		select {
		case <-changed:
		case <-p.done:
			return
		}
	}
}

// allClosed waits until all members are closed. It reports false when they have
// changed, the pool is done, or there are none.
func allClosed(members []*Member, changed, done <-chan struct{}) bool {
	for _, m := range members {
		select {
		case <-m.client.Done():
		case <-changed:
			return false
		case <-done:
			return false
		}
	}
	return len(members) > 0
}

func (p *ClientPool) finish() { p.finishOnce.Do(func() { close(p.done) }) }

// Stop stops all clients now, removed ones too. See Client.Stop.
func (p *ClientPool) Stop() {
	clients := p.close()
	p.finish()
	stopAll(clients)
	p.background.Wait()
}

// Shutdown shuts all clients down at the same time, and waits for those that
// were removed. See Client.Shutdown.
func (p *ClientPool) Shutdown(ctx context.Context) error {
	clients := p.close()
	errs := make([]error, len(clients))
	var all sync.WaitGroup
	for i, c := range clients {
		all.Go(func() { errs[i] = c.Shutdown(ctx) })
	}
	all.Wait()
	p.Stop()
	return cmp.Or(errs...)
}

// close refuses changes from now on and returns the clients that are not closed
// yet, as far as the pool knows.
func (p *ClientPool) close() []*Client {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.closed = true
	clients := slices.Collect(maps.Keys(p.leaving))
	for _, m := range p.list() {
		clients = append(clients, m.client)
	}
	return clients
}

func stopAll(clients []*Client) {
	var all sync.WaitGroup
	for _, c := range clients {
		if c != nil {
			all.Go(c.Stop)
		}
	}
	all.Wait()
}
