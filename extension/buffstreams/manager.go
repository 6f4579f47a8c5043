package buffstreams

import (
	"context"
	"errors"
	"sync"
)

// Manager keeps one Conn and one Listener for each address, by the address as it
// was configured. The zero value is ready. Its methods may be called from any
// goroutine at any time, and none waits for what is done with another address.
type Manager struct {
	mu        sync.RWMutex
	closed    bool
	conns     map[string]*opened[*Conn]
	listeners map[string]*opened[*Listener]
}

// opened is what a Manager has for an address.
type opened[T closable] struct {
	ready bool // it is no longer being opened
	value T
}

type closable interface {
	isOver() bool
	Close() error
}

// NewManager returns a Manager.
func NewManager() *Manager {
	return &Manager{conns: make(map[string]*opened[*Conn]), listeners: make(map[string]*opened[*Listener])}
}

// StartListening listens on cfg.Address and serves in the background. The error is
// ErrAlreadyOpened if there is a Listener for this address.
func (m *Manager) StartListening(cfg TCPListenerConfig) error {
	return open(m, &m.listeners, cfg.Address, func() (*Listener, error) {
		l, err := Listen(cfg)
		if err != nil {
			return nil, err
		}
		if err := l.StartListeningAsync(); err != nil {
			l.Close()
			return nil, err
		}
		return l, nil
	})
}

// Dial is DialContext without a context.
func (m *Manager) Dial(cfg *TCPConnConfig) error { return m.DialContext(context.Background(), *cfg) }

// DialContext connects to cfg.Address, for Write and Send. The error is
// ErrAlreadyOpened if there is a Conn for this address, or one is dialled.
func (m *Manager) DialContext(ctx context.Context, cfg ConnConfig) error {
	return open(m, &m.conns, cfg.Address, func() (*Conn, error) { return Dial(ctx, cfg) })
}

// open opens what is to be kept for an address, unless there is something already.
// What is closed while it is being opened is undone.
func open[T closable](m *Manager, all *map[string]*opened[T], address string, do func() (T, error)) error {
	o := new(opened[T])
	if err := reserve(m, all, address, o); err != nil {
		return err
	}
	value, err := do()
	m.mu.Lock()
	kept := (*all)[address] == o
	switch {
	case err != nil && kept:
		delete(*all, address)
	case err == nil && kept:
		o.value, o.ready = value, true
	}
	m.mu.Unlock()
	if err == nil && !kept {
		value.Close()
		return ErrClosed
	}
	return err
}

func reserve[T closable](m *Manager, all *map[string]*opened[T], address string, o *opened[T]) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.closed {
		return ErrClosed
	}
	if other := (*all)[address]; other != nil && !(other.ready && other.value.isOver()) {
		return ErrAlreadyOpened
	}
	if *all == nil {
		*all = make(map[string]*opened[T])
	}
	(*all)[address] = o
	return nil
}

// Listener returns the Listener of an address, or ErrNotOpened.
func (m *Manager) Listener(address string) (*Listener, error) {
	m.mu.RLock()
	defer m.mu.RUnlock()
	if o := m.listeners[address]; o != nil && o.ready {
		return o.value, nil
	}
	return nil, ErrNotOpened
}

// Conn returns the Conn of an address, or ErrNotOpened.
func (m *Manager) Conn(address string) (*Conn, error) {
	m.mu.RLock()
	defer m.mu.RUnlock()
	if o := m.conns[address]; o != nil && o.ready {
		return o.value, nil
	}
	return nil, ErrNotOpened
}

// Send sends a message over the Conn of an address. See Conn.Send.
func (m *Manager) Send(ctx context.Context, address string, message []byte) error {
	c, err := m.Conn(address)
	if err != nil {
		return err
	}
	return c.Send(ctx, message)
}

// Write writes a message to the Conn of an address. See Conn.Write.
func (m *Manager) Write(address string, message []byte) (int, error) {
	c, err := m.Conn(address)
	if err != nil {
		return 0, err
	}
	return c.Write(message)
}

// CloseListener closes the Listener of an address, which may then be used again. The
// error is ErrNotOpened if there is none.
func (m *Manager) CloseListener(address string) error {
	return closeOne(m, &m.listeners, address)
}

// CloseWriter closes the Conn of an address, which may then be dialled again. The
// error is ErrNotOpened if there is none, and that of Conn.Close otherwise.
func (m *Manager) CloseWriter(address string) error {
	return closeOne(m, &m.conns, address)
}

func closeOne[T closable](m *Manager, all *map[string]*opened[T], address string) error {
	m.mu.Lock()
	o := (*all)[address]
	delete(*all, address)
	m.mu.Unlock()
	switch {
	case o == nil:
		return ErrNotOpened
	case !o.ready: // who opens it undoes that
		return nil
	}
	return o.value.Close()
}

// Close closes everything, and refuses what comes later with ErrClosed.
func (m *Manager) Close() error { return m.end((*Conn).Close, (*Listener).Close) }

// Shutdown is Close with the Shutdown of each Conn, and then of each Listener.
func (m *Manager) Shutdown(ctx context.Context) error {
	return m.end(
		func(c *Conn) error { return c.Shutdown(ctx) },
		func(l *Listener) error { return l.Shutdown(ctx) })
}

// end ends the Conns at the same time, and then the Listeners, which may be those
// that they send to.
func (m *Manager) end(endConn func(*Conn) error, endListener func(*Listener) error) error {
	m.mu.Lock()
	m.closed = true
	conns, listeners := m.conns, m.listeners
	m.conns, m.listeners = nil, nil
	m.mu.Unlock()
	return errors.Join(endAll(conns, endConn), endAll(listeners, endListener))
}

func endAll[T closable](list map[string]*opened[T], end func(T) error) error {
	errs := make(chan error, len(list))
	var all sync.WaitGroup
	for _, o := range list {
		if o.ready {
			all.Go(func() { errs <- end(o.value) })
		}
	}
	all.Wait()
	close(errs)
	var err error
	for e := range errs {
		err = errors.Join(err, e)
	}
	return err
}

// isOver reports whether it is closed.
func (c *Conn) isOver() bool { return c.life.Err() != nil }

// isOver reports whether it no longer serves.
func (l *Listener) isOver() bool {
	select {
	case <-l.served:
		return true
	default:
		return l.isClosing()
	}
}
