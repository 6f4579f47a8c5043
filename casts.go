package arpc

import (
	"slices"
	"sync"
	"sync/atomic"
)

// casts is what a Server sends to all its clients alike. A message is appended to a log
// once; a connection has a place in it up to which it has taken what was sent. It takes
// the rest when the flushers come to it, or before anything else is sent on it, so that
// all keeps its order. What 1,000 connections are sent costs one append then, and each
// writes what has come meanwhile at once: BenchmarkBroadcast.
//
// The other connections are apart: those that wait for the socket, of peers that have not
// said yet what they take, or whose sends run the user's code. Messages are pushed to them
// one by one, and left out where there is no room. One whose queue is empty joins the
// log, and parts from it again when an eighth of the queue is full. What is in the log
// is not held against the limits of the queue: it may exceed them by castAhead, if much
// else fills it at the same time.
type casts struct {
	mu     sync.Mutex
	joined connSet    // those with a place in the log
	apart  connSet    // the others
	last   *castChunk // where the log ends; nil before the first
	sent   castSum
	rounds [2]castSum // sent when the flushers began their last round, and the one before

	news bool // there is something that not all have taken; guarded by flushers.mu
}

const (
	// castMost is the length in bytes of the longest frame that the log takes.
	castMost = 16 << 10
	// castChunkMin and castChunkMax are the lengths in bytes of its pieces.
	castChunkMin = castMost
	castChunkMax = 64 << 10
	// castAheadBytes and castAheadFrames are how far the log gets ahead of the
	// connections before who sends helps the flushers.
	castAheadBytes  = 64 << 10
	castAheadFrames = 256
	// castShare is which part of the send queue, one in so many, is full when a
	// connection parts from the log, and at most what it is ever behind.
	castShare = 8
)

// castSum counts what was sent since the start.
type castSum struct{ bytes, frames uint64 }

// castMark counts the bytes in a piece of the log, and the frames above castFrame.
type castMark uint32

const castFrame castMark = 2 * castChunkMax // there is a bit more than castChunkMax takes

func (m castMark) bytes() int  { return int(m % castFrame) }
func (m castMark) frames() int { return int(m / castFrame) }

// castChunk is a piece of the log. Its bytes before the end never change.
type castChunk struct {
	b    []byte
	end  atomic.Uint32 // a castMark
	next atomic.Pointer[castChunk]
}

// connSet is a set of connections, each in one at most. Guarded by casts.mu.
type connSet struct{ conns []*conn }

func (s *connSet) add(c *conn) {
	c.castAt = int32(len(s.conns))
	s.conns = append(s.conns, c)
}

func (s *connSet) remove(c *conn) {
	last := int32(len(s.conns) - 1)
	if c.castAt > last || s.conns[c.castAt] != c {
		return
	}
	s.conns[c.castAt] = s.conns[last]
	s.conns[c.castAt].castAt = c.castAt
	s.conns[last] = nil
	s.conns = s.conns[:last]
	if cap(s.conns) > keptFlushed && int(last) < cap(s.conns)/4 {
		s.conns = slices.Clone(s.conns)
	}
}

// add counts a connection in.
func (s *casts) add(c *conn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.apart.add(c)
}

// forget is called when a connection has ended.
func (s *casts) forget(c *conn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.apart.remove(c)
	s.joined.remove(c)
}

// append sends a frame to those in the log, whom all join that can. It returns the
// others, and whether anybody is in it.
func (s *casts) append(frame []byte) (apart []*Client, logged bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.makeRoom(len(frame))
	for i := len(s.apart.conns) - 1; i >= 0; i-- {
		c := s.apart.conns[i]
		if c.joins(s.last) {
			s.apart.remove(c)
			s.joined.add(c)
			continue
		}
		apart = append(apart, c.client)
	}
	if len(s.joined.conns) == 0 {
		return apart, false
	}
	end := castMark(s.last.end.Load())
	copy(s.last.b[end.bytes():], frame)
	s.last.end.Store(uint32(end + castFrame + castMark(len(frame))))
	s.sent.bytes, s.sent.frames = s.sent.bytes+uint64(len(frame)), s.sent.frames+1
	return apart, true
}

// makeRoom begins another chunk if the last one has no room for n bytes.
func (s *casts) makeRoom(n int) {
	switch {
	case s.last == nil:
		s.last = &castChunk{b: make([]byte, castChunkMin)}
	case castMark(s.last.end.Load()).bytes()+n > len(s.last.b):
		next := &castChunk{b: make([]byte, min(2*len(s.last.b), castChunkMax))}
		s.last.next.Store(next)
		s.last = next
	}
}

// round appends those whom the flushers are to go to.
func (s *casts) round(conns []*conn) []*conn {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.rounds = [2]castSum{s.sent, s.rounds[0]}
	return append(conns, s.joined.conns...)
}

// ahead reports whether some connection may have too much to take. None is behind the
// last round but one.
func (s *casts) ahead() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.sent.bytes-s.rounds[1].bytes > castAheadBytes || s.sent.frames-s.rounds[1].frames > castAheadFrames
}

// joins gives a connection a place at the end of the log if it can be there. One that
// is busy cannot, so that nobody waits for it.
func (c *conn) joins(last *castChunk) bool {
	if c.stage.Load() != stageUsed || c.raw == nil || len(c.hooks.beforeSend) > 0 || c.client.closing.Load() ||
		c.settings.sendBytes < castShare*castAheadBytes || c.settings.sendMessages < castShare*castAheadFrames || !c.mu.TryLock() {
		return false
	}
	defer c.mu.Unlock()
	if !c.met || c.maxSend.Load() < castMost || c.cause != nil || c.out.closed || c.locked || c.leaving.Load() || c.out.flushing || !c.out.empty() {
		return false
	}
	c.cast, c.castTaken = last, castMark(last.end.Load())
	return true
}

// part takes a connection out of the log, and has what it takes along written: no round
// comes to it any more.
func (s *casts) part(c *conn) {
	if s.takeOut(c) {
		c.handler.flushers.add(c)
	}
}

// takeOut is part without the flush, and reports whether there is to be one.
func (s *casts) takeOut(c *conn) (flush bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.cast == nil {
		return false
	}
	c.leaveCasts()
	s.joined.remove(c)
	s.apart.add(c)
	if c.out.flushing || c.out.empty() {
		return false
	}
	c.out.flushing, c.out.inLine = true, true
	return true
}

// takeCasts appends to the output what the connection has not taken of the log.
// Guarded by conn.mu.
func (c *conn) takeCasts() {
	for c.cast != nil {
		next := c.cast.next.Load() // looked at first: a chunk before another one has ended
		if end := castMark(c.cast.end.Load()); end != c.castTaken && !c.out.closed {
			c.appendLent(c.cast.b[c.castTaken.bytes():end.bytes()], (end - c.castTaken).frames())
			c.castTaken = end
		}
		if next == nil {
			return
		}
		c.cast, c.castTaken = next, 0
	}
}

// leaveCasts gives up the place in the log. Guarded by conn.mu.
func (c *conn) leaveCasts() {
	c.takeCasts()
	c.cast = nil
}

// castsWait reports whether there is something to take. Guarded by conn.mu.
func (c *conn) castsWait() bool {
	return c.cast != nil && (castMark(c.cast.end.Load()) != c.castTaken || c.cast.next.Load() != nil)
}

// crowded reports whether the queue is too full for the log. Guarded by conn.mu.
func (c *conn) crowded() bool {
	return c.cast != nil &&
		(c.out.queued() > c.settings.sendBytes/castShare || c.out.frames+c.out.inHand > c.settings.sendMessages/castShare)
}
