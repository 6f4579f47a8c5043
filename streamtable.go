package arpc

import (
	"context"
	"sync"

	"github.com/arpc-go/arpc/internal/wire"
)

// tombstonesPerStream is how many ids of refused streams a connection
// remembers, in multiples of WithMaxStreams.
const tombstonesPerStream = 16

// streamTable holds the streams of one connection. Ids of the two sides are
// separate spaces. A nil one has none.
type streamTable struct {
	mu     sync.Mutex
	lastID uint64
	local  map[uint64]*Stream
	remote map[uint64]*Stream
	busy   int                 // streams of the peer that are over and whose handlers still run
	gone   map[uint64]struct{} // ids of the peer's streams that are dropped, until their end bit
	cause  error
}

func (t *streamTable) open() int {
	if t == nil {
		return 0
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	return len(t.local) + len(t.remote)
}

func (t *streamTable) openLocal(ctx context.Context, c *conn, method string, section []byte) (*Stream, error) {
	c.mu.Lock()
	limit := int(c.limits.streams)
	c.mu.Unlock()
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.cause != nil {
		return nil, unsent(t.cause)
	}
	if n := len(t.local) + len(t.remote) + t.busy; n >= c.settings.maxStreams {
		return nil, unsent(Errorf(CodeResourceExhausted, "arpc: %d streams are open on the connection, the limit (WithMaxStreams)", n))
	}
	if limit > 0 && len(t.local) >= limit {
		return nil, unsent(Errorf(CodeResourceExhausted, "arpc: %d streams are open on the connection, the limit of the peer (WithMaxStreams)", len(t.local)))
	}
	t.lastID++
	s := newStream(ctx, c, t.lastID, method, true)
	s.section = section
	if t.local == nil {
		t.local = make(map[uint64]*Stream)
	}
	t.local[s.id] = s
	s.opener = ctx
	s.mu.Lock()
	s.stop = context.AfterFunc(ctx, s.abandon)
	s.mu.Unlock()
	return s, nil
}

// received handles a stream frame. It never waits.
func (t *streamTable) received(r *reader, snap *snapshot, h wire.Header, frame []byte) {
	c := r.conn
	method, data := wire.Split(frame, h)
	data = data[r.sectionLen:]
	s, refused := t.find(r, snap, h, string(method))
	end := h.Cmd&wire.StreamEnd != 0
	if s == nil {
		if refused != nil {
			c.settings.logger.Debug("arpc: stream refused", "peer", c.peer(), "cause", refused)
			c.refuseStream(h, string(method), refused)
		}
		r.drop(frame, "no such stream")
		return
	}
	opens := c.opensStream(h)
	if !opens && (len(data) > 0 || !end) && !s.push(data) && !(t.reclaim() && s.push(data)) {
		c.client.count().overruns.Add(1)
		s.drop(s.overrun())
	}
	if end {
		s.peerEnd()
	}
}

// opensStream reports whether a frame opens a stream with windows. It is no
// message then.
func (c *conn) opensStream(h wire.Header) bool {
	return c.features&wire.FeatureWindows != 0 && h.Flag&wire.FlagOpen != 0 && h.Cmd&wire.StreamOpener != 0
}

// refuseStream tells the peer that the stream it opens is not to be. Only the
// reader calls it.
func (c *conn) refuseStream(h wire.Header, method string, err error) {
	if c.features&wire.FeatureWindows != 0 {
		c.resetStream(0, h.Seq, err)
		return
	}
	c.reply(wire.Header{Cmd: wire.CmdStream | wire.StreamEnd, Seq: h.Seq}, method)
}

// ofPeer returns the stream of a frame about one, nil if it is gone.
func (t *streamTable) ofPeer(h wire.Header) *Stream {
	if t == nil {
		return nil
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if h.Cmd&wire.StreamOpener != 0 {
		return t.remote[h.Seq]
	}
	return t.local[h.Seq]
}

// granted adds the credit that a Window brings.
func (t *streamTable) granted(h wire.Header, body []byte) bool {
	s := t.ofPeer(h)
	n, err := wire.ParseUvarint(body)
	if s == nil || err != nil {
		return false
	}
	s.grant(int64(min(n, uint64(maxCredit))))
	return true
}

// cancelled ends a stream that the peer has cancelled, nil for in good order.
func (t *streamTable) cancelled(h wire.Header, err error) bool {
	s := t.ofPeer(h)
	if s == nil {
		return false
	}
	s.cancelled(err)
	return true
}

// reclaim abandons streams whose opener's context has ended and reports whether
// there were any. It happens by itself, but maybe a moment later.
func (t *streamTable) reclaim() bool {
	t.mu.Lock()
	var ended []*Stream
	for _, s := range t.local {
		if s.opener.Err() != nil {
			ended = append(ended, s)
		}
	}
	t.mu.Unlock()
	for _, s := range ended {
		s.abandon()
	}
	return len(ended) > 0
}

// find returns the stream of a frame, opens it if the frame does, or says why
// the stream is refused. Both are nil for a frame nobody waits for.
func (t *streamTable) find(r *reader, snap *snapshot, h wire.Header, method string) (*Stream, error) {
	c := r.conn
	t.mu.Lock()
	defer t.mu.Unlock()
	if h.Cmd&wire.StreamOpener == 0 {
		return t.local[h.Seq], nil
	}
	if s := t.remote[h.Seq]; s != nil {
		if c.opensStream(h) {
			return nil, nil // a second time
		}
		return s, nil
	}
	end := h.Cmd&wire.StreamEnd != 0
	flow := c.opensStream(h)
	if _, gone := t.gone[h.Seq]; gone && !flow {
		if end {
			delete(t.gone, h.Seq)
		}
		return nil, nil
	}
	if !flow && c.features&wire.FeatureWindows != 0 || t.cause != nil {
		return nil, nil // of a stream that is gone
	}
	rt := snap.streams[method]
	var refused error
	switch {
	case rt == nil:
		refused = ErrMethodNotFound
	case len(t.local)+len(t.remote)+t.busy >= c.settings.maxStreams:
		refused = Errorf(CodeResourceExhausted, "arpc: too many streams on the connection, the limit is %d (WithMaxStreams)", c.settings.maxStreams)
	case flow && c.draining.Load() && c.acked.Load():
		refused = errDraining
	}
	if refused != nil {
		if !end && !flow {
			t.bury(c, h.Seq)
		}
		return nil, refused
	}
	s := r.newRemote(h, method, flow)
	if t.remote == nil {
		t.remote = make(map[uint64]*Stream)
	}
	t.remote[h.Seq] = s
	s.serving = true
	go s.serve(rt, c.gate)
	return s, nil
}

// newRemote makes a stream that the peer opens with the frame in hand.
func (r *reader) newRemote(h wire.Header, method string, flow bool) *Stream {
	c := r.conn
	ctx := context.Background()
	meta := r.metaOf(h)
	if meta != nil && meta.TraceParent != nil {
		ctx = ContextWithTrace(ctx, Trace{Parent: string(meta.TraceParent), State: string(meta.TraceState)})
	}
	s := newStream(ctx, c, h.Seq, method, false)
	s.opened, s.flow, s.credit, s.came = true, flow, c.limits.window, r.arrived()
	if meta != nil {
		s.metadata = metadataOf(meta.NPairs, meta.Pairs())
	}
	if deadline := r.deadlineOf(h); deadline != 0 {
		var stop context.CancelFunc
		s.ctx, stop = context.WithDeadline(s.ctx, c.timeOf(deadline))
		cancel := s.cancel
		s.cancel = func(cause error) { cancel(cause); stop() }
	}
	return s
}

// bury remembers that frames of a stream of the peer are to be dropped until
// its end bit. Guarded by t.mu.
func (t *streamTable) bury(c *conn, id uint64) {
	if t.gone == nil {
		t.gone = make(map[uint64]struct{})
	}
	if len(t.gone) >= tombstonesPerStream*c.settings.maxStreams {
		go c.fail(NewError(CodeResourceExhausted, "arpc: the peer goes on with too many streams that were refused (WithMaxStreams)"))
		return
	}
	t.gone[id] = struct{}{}
}

// remove forgets a stream. When the peer may send more on one of its own, that
// is remembered, and its handler counts as long as it runs on.
func (t *streamTable) remove(s *Stream, runsOn bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	table := t.remote
	if s.local {
		table = t.local
	}
	if table[s.id] != s {
		return
	}
	delete(table, s.id)
	s.mu.Lock()
	s.settled()
	moreMayCome := !s.peerEnded && !s.local && !s.flow
	s.mu.Unlock()
	if moreMayCome {
		t.bury(s.conn, s.id)
	}
	if s.serving && runsOn {
		s.counted = true
		t.busy++
	}
}

// served is called when the handler of a stream of the peer has returned.
func (t *streamTable) served(s *Stream) {
	t.mu.Lock()
	defer t.mu.Unlock()
	s.serving = false
	if s.counted {
		s.counted = false
		t.busy--
	}
}

// reset drops the stream of a frame that makes no sense, or refuses the one that
// it would have opened. Only the reader calls it.
func (t *streamTable) reset(c *conn, h wire.Header, method string, err error) {
	opener := h.Cmd&wire.StreamOpener != 0
	s := t.ofPeer(h)
	t.mu.Lock()
	_, gone := t.gone[h.Seq]
	flow := c.features&wire.FeatureWindows != 0
	opens := opener && s == nil && !gone && (!flow || c.opensStream(h))
	if opens && !flow && h.Cmd&wire.StreamEnd == 0 {
		t.bury(c, h.Seq)
	}
	t.mu.Unlock()
	if s != nil {
		s.drop(err)
	}
	if opens {
		c.refuseStream(h, method, err)
	}
}

// fail ends all streams with the connection.
func (t *streamTable) fail(err error) {
	t.mu.Lock()
	t.cause = err
	var all []*Stream
	for _, table := range []map[uint64]*Stream{t.local, t.remote} {
		for _, s := range table {
			all = append(all, s)
		}
	}
	t.local, t.remote, t.gone = nil, nil, nil
	t.mu.Unlock()
	for _, s := range all {
		s.lost(err)
	}
}
