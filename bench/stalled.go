package main

import (
	"context"
	"fmt"
	"io"
	"net"
	"sync"
)

// stalled measures how much a server grows that broadcasts to peers of which some
// have stopped reading, while one that reads misses nothing.
type stalled struct {
	name  string
	peers int // that do not read
	size  int // of a body in bytes
	total int // bytes that are broadcast, to each
}

func (w stalled) Name() string { return w.name }

func (w stalled) Title() string {
	return fmt.Sprintf("broadcast of %d MiB in messages of %d KiB to %s that have stopped reading and one that reads", w.total>>20, w.size>>10, plural(w.peers, "peer"))
}

func (w stalled) Server(*serverTask) {}

func (w stalled) Run(ctx context.Context, p Participant, s *remote, m *Meter) error {
	b, ok := p.(Broadcaster)
	if !ok {
		return unfit("no broadcast")
	}
	dam, err := newDam(s.addr)
	if err != nil {
		return err
	}
	defer dam.close()
	for range w.peers {
		conn, err := b.Subscribe(dam.addr(), func([]byte) {})
		if err != nil {
			return err
		}
		defer conn.Close()
	}
	dam.shut()
	return w.cast(ctx, b, s, m)
}

// cast broadcasts at the pace of the one that reads.
func (w stalled) cast(ctx context.Context, b Broadcaster, s *remote, m *Meter) error {
	ctx, cancel := m.patiently(ctx)
	defer cancel()
	ctx, fail := context.WithCancelCause(ctx)
	defer fail(nil)
	reader := newCrowd(1, 16, fail)
	conn, err := b.Subscribe(s.addr, reader.subscriber())
	if err != nil {
		return err
	}
	defer conn.Close()
	before, err := m.settled()
	if err != nil {
		return err
	}
	for n, last := uint64(0), uint64(w.total/w.size); n < last; {
		n = min(n+reader.ahead, last)
		if err := s.tell(command{Do: doBroadcast, Until: n, Size: w.size}); err != nil {
			return err
		}
		if err := reader.await(ctx, n); err != nil {
			return err
		}
	}
	after, err := m.settled()
	if err != nil {
		return err
	}
	return m.Grown(before, after, w.peers)
}

// dam passes connections on to a server until it is shut: then what the server
// sends stays where it is.
type dam struct {
	ln   net.Listener
	to   string
	done sync.WaitGroup

	// Guarded by mu.
	mu     sync.Mutex
	open   sync.Cond
	isShut bool
	ended  bool
	conns  []net.Conn
}

func newDam(to string) (*dam, error) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	d := &dam{ln: ln, to: to}
	d.open.L = &d.mu
	d.done.Go(d.accept)
	return d, nil
}

func (d *dam) addr() string { return d.ln.Addr().String() }

func (d *dam) accept() {
	for {
		from, err := d.ln.Accept()
		if err != nil {
			return
		}
		to, err := net.Dial("tcp", d.to)
		if err != nil {
			from.Close()
			continue
		}
		if !d.keep(from, to) {
			return
		}
		d.done.Go(func() { io.Copy(to, from) })
		d.done.Go(func() { d.pass(from, to) })
	}
}

// keep lists connections for close. It closes them when that was before.
func (d *dam) keep(conns ...net.Conn) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.conns = append(d.conns, conns...)
	if d.ended {
		for _, c := range conns {
			c.Close()
		}
	}
	return !d.ended
}

// pass takes from the server only while the dam is open.
func (d *dam) pass(to, from net.Conn) {
	buf := make([]byte, 4<<10)
	for d.wait() {
		n, err := from.Read(buf)
		if err != nil {
			return
		}
		if _, err := to.Write(buf[:n]); err != nil {
			return
		}
	}
}

// wait waits until the dam is open. It returns false when it is gone.
func (d *dam) wait() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	for d.isShut && !d.ended {
		d.open.Wait()
	}
	return !d.ended
}

func (d *dam) shut() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.isShut = true
}

func (d *dam) close() {
	d.mu.Lock()
	d.ended = true
	d.open.Broadcast()
	conns := d.conns
	d.mu.Unlock()
	d.ln.Close()
	for _, c := range conns {
		c.Close()
	}
	d.done.Wait()
}
