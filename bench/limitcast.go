package main

import (
	"context"
	"net"
	"slices"
	"sync"
	"sync/atomic"
)

// limitCast is what a broadcast over plain sockets can reach: a message waits once for
// all subscribers, and who writes sends each of them what it has not got yet, straight
// from there.
type limitCast struct{}

func (limitCast) Name() string { return "limit, one buffer for all" }

func (limitCast) Setup() string {
	return "hand-written: the server keeps what was broadcast in one buffer, and one goroutine writes to a subscriber after the other what it has not got yet; no names, no queues, no subscriber that does not read"
}

func (limitCast) Serve(ctx context.Context, ln net.Listener, work *Work) error {
	cast := &caststream{more: make(chan struct{}, 1)}
	work.CanBroadcast(cast.broadcast)
	go cast.write(ctx)
	return limitAccept(ctx, ln, func(nc net.Conn) {
		limitRead(nc, func([]byte) error { // the subscription
			cast.add(nc)
			return nil
		})
	})
}

// caststream is a broadcast to sockets.
type caststream struct {
	more chan struct{} // tells that there is something to write

	// Guarded by mu.
	mu      sync.Mutex
	conns   []*casting
	frames  []byte // what at least one subscriber has not got
	dropped uint64 // bytes before
}

type casting struct {
	nc  net.Conn
	got uint64 // bytes since the start
}

func (s *caststream) add(nc net.Conn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.conns = append(s.conns, &casting{nc, s.dropped + uint64(len(s.frames))})
	nc.Write(limitAppend(nil, 0, nil)) // it is subscribed
}

func (s *caststream) broadcast(body []byte) error {
	s.mu.Lock()
	s.frames = limitAppend(s.frames, 0, body)
	s.mu.Unlock()
	select {
	case s.more <- struct{}{}:
	default:
	}
	return nil
}

func (s *caststream) write(ctx context.Context) {
	for {
		select {
		case <-s.more:
		case <-ctx.Done():
			return
		}
		s.mu.Lock()
		conns := s.conns
		s.mu.Unlock()
		for _, c := range conns {
			c.nc.Write(s.rest(c))
		}
		s.drop(conns)
	}
}

// rest returns what a subscriber has not got. It is not changed until drop.
func (s *caststream) rest(c *casting) []byte {
	s.mu.Lock()
	defer s.mu.Unlock()
	rest := s.frames[c.got-s.dropped:]
	c.got += uint64(len(rest))
	return rest[:len(rest):len(rest)]
}

// drop forgets what all have got.
func (s *caststream) drop(conns []*casting) {
	s.mu.Lock()
	defer s.mu.Unlock()
	got := s.dropped + uint64(len(s.frames))
	for _, c := range conns {
		got = min(got, c.got)
	}
	s.frames = slices.Clone(s.frames[got-s.dropped:]) // those before may be in hand
	s.dropped = got
}

// Dial returns a connection that can do nothing: nobody answers.
func (c limitCast) Dial(addr string) (Conn, error) { return c.Subscribe(addr, func([]byte) {}) }

// Subscribe has receive called on the connection's reader.
func (limitCast) Subscribe(addr string, receive func(body []byte)) (Conn, error) {
	nc, err := net.Dial("tcp", addr)
	if err != nil {
		return nil, err
	}
	if _, err := nc.Write(limitAppend(nil, 0, nil)); err != nil {
		nc.Close()
		return nil, err
	}
	c := &limitSubscriber{nc: nc}
	subscribed := make(chan struct{})
	var first atomic.Bool
	c.reader.Go(func() {
		limitRead(nc, func(frames []byte) error {
			if first.CompareAndSwap(false, true) {
				_, _, frames = limitFrame(frames)
				close(subscribed)
			}
			for len(frames) > 0 {
				body, _, rest := limitFrame(frames)
				receive(body)
				frames = rest
			}
			return nil
		})
	})
	<-subscribed
	return c, nil
}

type limitSubscriber struct {
	nc     net.Conn
	reader sync.WaitGroup
}

func (c *limitSubscriber) Close() error {
	err := c.nc.Close()
	c.reader.Wait()
	return err
}
