package arpc

import (
	"bytes"
	"context"
	"encoding/binary"
	"io"
	"net"
	"runtime"
	"sync"
	"testing"
	"time"

	"github.com/arpc-go/arpc/internal/wire"
	"github.com/stretchr/testify/require"
)

// castNumber is a broadcast that says who it is from and which of his it is.
func castNumber(from, n, size int) []byte {
	body := make([]byte, 16, size)
	binary.LittleEndian.PutUint64(body, uint64(from))
	binary.LittleEndian.PutUint64(body[8:], uint64(n))
	return body[:size]
}

// castEar hears the numbers of some senders, each of which counts from 0.
type castEar struct {
	mu    sync.Mutex
	next  []int
	wrong []int // of which sender, then which number came
}

func (e *castEar) hear(ctx *Context) {
	body := ctx.Body()
	from, n := int(binary.LittleEndian.Uint64(body)), int(binary.LittleEndian.Uint64(body[8:]))
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.next[from] != n && e.wrong == nil {
		e.wrong = []int{from, n}
	}
	e.next[from] = n + 1
}

func (e *castEar) heard(t *testing.T, n int) {
	t.Helper()
	require.Eventually(t, func() bool {
		e.mu.Lock()
		defer e.mu.Unlock()
		for _, next := range e.next {
			if next < n {
				return e.wrong != nil
			}
		}
		return true
	}, 30*time.Second, time.Millisecond)
	require.Nil(t, e.wrong)
}

func castServer(t *testing.T, opts ...Option) (*Server, DialerFunc) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	s := NewServer(opts...)
	go s.Serve(ln)
	t.Cleanup(s.Stop)
	return s, func() (net.Conn, error) { return net.Dial("tcp", ln.Addr().String()) }
}

func castClient(t *testing.T, dial DialerFunc, senders int) (*Client, *castEar) {
	t.Helper()
	ear := &castEar{next: make([]int, senders)}
	h := NewHandler()
	h.Handle("/cast", ear.hear, false)
	c, err := NewClient(dial, WithHandler(h), WithReconnect(0, 0, 0))
	require.NoError(t, err)
	t.Cleanup(c.Stop)
	return c, ear
}

func waitForClients(t *testing.T, s *Server, n int) {
	t.Helper()
	require.Eventually(t, func() bool { return len(s.Clients()) == n }, 10*time.Second, time.Millisecond)
	for _, c := range s.Clients() {
		settled(t, c.conn.Load())
	}
}

// settled waits until a connection can join the log.
func settled(t *testing.T, c *conn) {
	t.Helper()
	require.Eventually(t, func() bool {
		c.mu.Lock()
		defer c.mu.Unlock()
		return c.stage.Load() == stageUsed && c.met && !c.out.flushing && c.out.empty()
	}, 10*time.Second, time.Millisecond)
}

func (s *casts) count() (joined, apart int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.joined.conns), len(s.apart.conns)
}

// Each sender's messages come in his order, once, whether they go to all, to some, or
// to one, beside clients that come and go, calls, and changes between log and apart.
func TestBroadcastsComeOnceAndInOrder(t *testing.T) {
	const senders, times = 4, 3000
	s, dial := castServer(t)
	s.Handler.Handle("/echo", func(ctx *Context) { ctx.WriteBytes(ctx.Body()) })
	var ears []*castEar
	var stay []*Client
	for range 5 {
		c, ear := castClient(t, dial, senders)
		stay, ears = append(stay, c), append(ears, ear)
	}
	waitForClients(t, s, len(stay))
	everybody := s.Clients()
	stop := make(chan struct{})
	var others, sending sync.WaitGroup
	others.Go(func() { castComeAndGo(t, dial, stop) })
	others.Go(func() { castPart(s, stop) })
	for from := range senders {
		if from > 0 {
			others.Go(func() { castCall(t, stay[from], stop) })
		}
		sending.Go(func() { castAll(t, s, everybody, from, times) })
	}
	sending.Wait()
	close(stop)
	others.Wait()
	for _, ear := range ears {
		ear.heard(t, times)
	}
}

// castAll sends to all clients in turns by the log, past it, and to each.
func castAll(t *testing.T, s *Server, everybody []*Client, from, times int) {
	for n := range times {
		body := castNumber(from, n, 16+n%200)
		var err error
		switch {
		case n%500 == 250: // too long for the log
			err = s.Broadcast("/cast", castNumber(from, n, castMost+1))
		case n == times-1: // nothing else has the log written
			err = s.Broadcast("/cast", body)
		case n%10 == 8:
			err = s.Broadcast("/cast", body, func(*Client) bool { return true })
		case n%10 == 9:
			for _, c := range everybody {
				if err = c.Notify("/cast", body, time.Minute); err != nil {
					break
				}
			}
		default:
			err = s.Broadcast("/cast", body)
		}
		if err != nil {
			t.Errorf("sender %d, message %d: %v", from, n, err)
			return
		}
	}
}

func castComeAndGo(t *testing.T, dial DialerFunc, stop <-chan struct{}) {
	for {
		select {
		case <-stop:
			return
		default:
		}
		c, err := NewClient(dial, WithReconnect(0, 0, 0))
		if err != nil {
			t.Errorf("dial: %v", err)
			return
		}
		c.Stop()
	}
}

// castPart takes connections out of the log, as a full queue does.
func castPart(s *Server, stop <-chan struct{}) {
	for {
		select {
		case <-stop:
			return
		default:
		}
		for _, c := range s.all() {
			s.casts.part(c.conn.Load())
		}
		runtime.Gosched()
	}
}

func castCall(t *testing.T, c *Client, stop <-chan struct{}) {
	for {
		select {
		case <-stop:
			return
		default:
		}
		if err := c.Call("/echo", "x", nil, time.Minute); err != nil {
			t.Errorf("call: %v", err)
			return
		}
	}
}

// Without flushers of its own whoever broadcasts writes what the log gets ahead.
func TestWhoBroadcastsIsNeverFarAhead(t *testing.T) {
	const times = 20 * castAheadFrames
	s, dial := castServer(t)
	_, ear := castClient(t, dial, 1)
	waitForClients(t, s, 1)
	f := &s.Handler.flushers
	f.mu.Lock()
	f.running = 1 << 20 // so that none is started
	f.mu.Unlock()
	for n := range times {
		require.NoError(t, s.Broadcast("/cast", castNumber(0, n, 100)))
		require.LessOrEqual(t, behind(s.Clients()[0].conn.Load()), castAheadFrames+1)
	}
	for c := f.take(false); c != nil; c = f.take(false) {
		c.flushShared()
	}
	ear.heard(t, times)
}

// behind returns how many frames a connection has not taken of the log.
func behind(c *conn) (n int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	at := c.castTaken
	for chunk := c.cast; chunk != nil; chunk = chunk.next.Load() {
		n += (castMark(chunk.end.Load()) - at).frames()
		at = 0
	}
	return n
}

// A peer that does not read costs no more than its queue, misses what has no room
// there, and is told again of what comes when it reads.
func TestAPeerThatDoesNotReadPartsFromTheLog(t *testing.T) {
	const queue = castShare * castAheadBytes
	missed := make(chan *Client, 1<<20)
	s, dial := castServer(t, WithSendQueue(castShare*castAheadFrames, queue), WithWriteTimeout(0))
	s.Handler.HandleOverstock(func(c *Client) { missed <- c })
	_, ear := castClient(t, dial, 1)
	nc, err := dial()
	require.NoError(t, err)
	defer nc.Close()
	_, err = nc.Write(appendFrame(nil, wire.Header{Cmd: wire.CmdNotify, Flag: wire.FlagAsync}, "/hello", payload{}))
	require.NoError(t, err)
	waitForClients(t, s, 2)
	deaf := clientOf(t, s, nc)
	require.NoError(t, s.Broadcast("/cast", castNumber(0, 0, 100)))
	joined, _ := s.casts.count()
	require.Equal(t, 2, joined)
	sent := 1
	for ; len(missed) == 0; sent++ {
		require.NoError(t, s.Broadcast("/cast", castNumber(0, sent, 4<<10)))
		ear.heard(t, sent+1)
	}
	require.Same(t, deaf, <-missed)
	var apart int
	joined, apart = s.casts.count()
	require.Equal(t, []int{1, 1}, []int{joined, apart})
	cn := deaf.conn.Load()
	cn.mu.Lock()
	require.LessOrEqual(t, cn.out.queued(), queue)
	require.Nil(t, cn.cast, "it would keep the log")
	cn.mu.Unlock()

	go io.Copy(io.Discard, nc)
	settled(t, cn)
	require.NoError(t, s.Broadcast("/cast", castNumber(0, sent, 100)))
	joined, _ = s.casts.count()
	require.Equal(t, 2, joined)
	sent++
	ear.heard(t, sent)
}

// clientOf returns the server's client for a connection.
func clientOf(t *testing.T, s *Server, nc net.Conn) *Client {
	t.Helper()
	for _, c := range s.Clients() {
		if c.Conn().RemoteAddr().String() == nc.LocalAddr().String() {
			return c
		}
	}
	t.Fatal("the server does not know it")
	return nil
}

// The log keeps nothing that all have taken, nor connections that have ended.
func TestTheLogForgets(t *testing.T) {
	const times = 5000
	s, dial := castServer(t)
	var clients []*Client
	var ears []*castEar
	for range 3 {
		c, ear := castClient(t, dial, 1)
		clients, ears = append(clients, c), append(ears, ear)
	}
	waitForClients(t, s, len(clients))
	first := make(chan struct{})
	for n := range times {
		require.NoError(t, s.Broadcast("/cast", castNumber(0, n, 200)))
		if n == 0 {
			runtime.AddCleanup(s.casts.last, func(ch chan struct{}) { close(ch) }, first)
		}
	}
	for _, ear := range ears {
		ear.heard(t, times)
	}
	require.Eventually(t, func() bool {
		runtime.GC()
		select {
		case <-first:
			return true
		default:
			return false
		}
	}, 10*time.Second, time.Millisecond)
	for _, c := range clients {
		c.Stop()
	}
	require.Eventually(t, func() bool {
		joined, apart := s.casts.count()
		return joined+apart == 0
	}, 10*time.Second, time.Millisecond)
}

func TestShutdownSendsWhatWasBroadcast(t *testing.T) {
	const times = 1000
	s, dial := castServer(t)
	_, ear := castClient(t, dial, 1)
	waitForClients(t, s, 1)
	for n := range times {
		require.NoError(t, s.Broadcast("/cast", castNumber(0, n, 100)))
	}
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	require.NoError(t, s.Shutdown(ctx))
	ear.heard(t, times)
}

// What a broadcast was made of may change at once, and the log goes on in another piece.
func TestTheLogCopies(t *testing.T) {
	s, dial := castServer(t)
	got := make(chan []byte, 100)
	h := NewHandler()
	h.Handle("/cast", func(ctx *Context) { got <- bytes.Clone(ctx.Body()) }, false)
	c, err := NewClient(dial, WithHandler(h))
	require.NoError(t, err)
	t.Cleanup(c.Stop)
	waitForClients(t, s, 1)
	body := make([]byte, castMost-100)
	for i := range 50 {
		for k := range body {
			body[k] = byte(i)
		}
		require.NoError(t, s.Broadcast("/cast", body))
	}
	for i := range 50 {
		require.Equal(t, bytes.Repeat([]byte{byte(i)}, len(body)), <-got)
	}
}

// What a connection takes along when it parts from the log is written, although no
// round comes to it any more.
func TestWhatAPartingConnectionTakesIsWritten(t *testing.T) {
	s, dial := castServer(t)
	_, ear := castClient(t, dial, 1)
	waitForClients(t, s, 1)
	require.NoError(t, s.Broadcast("/cast", castNumber(0, 0, 100)))
	ear.heard(t, 1)
	c := s.Clients()[0].conn.Load()
	settled(t, c)
	apart, logged := s.casts.append(s.NewMessage(wire.CmdNotify, "/cast", castNumber(0, 1, 100)).Buffer)
	require.True(t, logged)
	require.Empty(t, apart)
	s.casts.part(c) // before who broadcasts has told the flushers
	ear.heard(t, 2)
}

// A connection that is pushed to all the time does not keep the others from the log.
func TestTheLogGetsItsTurn(t *testing.T) {
	s, dial := castServer(t)
	castClient(t, dial, 1)
	castClient(t, dial, 1)
	waitForClients(t, s, 2)
	f := &s.Handler.flushers
	f.mu.Lock()
	f.running = 1 << 20 // so that none is started
	f.mu.Unlock()
	busy := s.Clients()[0]
	msg := s.NewMessage(wire.CmdNotify, "/x", "x")
	msg.lent = true
	require.NoError(t, busy.PushMsg(msg, TimeZero))
	require.NoError(t, s.Broadcast("/cast", castNumber(0, 0, 100)))
	c := f.take(false)
	for visits := 0; c == busy.conn.Load(); visits++ {
		require.Less(t, visits, 3)
		buf, _ := c.takeShared()
		n, _ := c.writeNow(buf, nil)
		require.NoError(t, busy.PushMsg(msg, TimeZero)) // meanwhile
		if c.wroteShared(buf, n) {
			f.add(c)
		}
		c = f.take(false)
	}
	require.NotNil(t, c)
	for ; c != nil; c = f.take(false) {
		c.flushShared()
	}
}

// A peer that has not said yet what it takes is not in the log.
func TestBroadcastsKeepToWhatThePeerTakes(t *testing.T) {
	s, dial := castServer(t)
	nc, err := dial()
	require.NoError(t, err)
	defer nc.Close()
	require.Eventually(t, func() bool { return len(s.Clients()) == 1 }, 10*time.Second, time.Millisecond)
	require.NoError(t, s.Broadcast("/cast", "early"))
	hello := wire.Hello{Features: features, MaxBody: 1024}
	_, err = nc.Write(appendFrame(nil, wire.Header{Cmd: wire.CmdPing}, "", payload{b: hello.Append(nil, true)}))
	require.NoError(t, err)
	settled(t, s.Clients()[0].conn.Load())
	require.NoError(t, s.Broadcast("/cast", castNumber(0, 1, 10<<10)))
	require.NoError(t, s.Broadcast("/cast", "late"))
	for got := ""; got != "/castlate"; {
		head := make([]byte, wire.HeaderLen)
		_, err := io.ReadFull(nc, head)
		require.NoError(t, err)
		body := make([]byte, wire.ParseHeader(head).BodyLen)
		_, err = io.ReadFull(nc, body)
		require.NoError(t, err)
		require.LessOrEqual(t, len(body), 1024)
		got = string(body)
	}
}

// A client that is being shut down begins nothing new, broadcasts included.
func TestAClientThatShutsDownGetsNoBroadcast(t *testing.T) {
	s, dial := castServer(t)
	h := NewHandler()
	got, hold := make(chan string, 10), make(chan struct{})
	h.Handle("/news", func(ctx *Context) { got <- string(ctx.Body()) }, false)
	h.Handle("/hold", func(ctx *Context) { <-hold; ctx.Write(nil) })
	c, err := NewClient(dial, WithHandler(h), WithReconnect(0, 0, 0), WithVersions(1, 1)) // which is not told
	require.NoError(t, err)
	t.Cleanup(c.Stop)
	require.NoError(t, c.Notify("/hello", nil, time.Minute))
	waitForClients(t, s, 1)
	require.NoError(t, s.Broadcast("/news", "first"))
	require.Equal(t, "first", <-got)
	leaving := s.Clients()[0]
	settled(t, leaving.conn.Load())
	held, ended := make(chan error, 1), make(chan error, 1)
	go func() { held <- leaving.Call("/hold", nil, nil, time.Minute) }()
	require.Eventually(t, func() bool { return leaving.Inflight() == 1 }, 10*time.Second, time.Millisecond)
	go func() { ended <- leaving.Shutdown(context.Background()) }()
	require.Eventually(t, func() bool { joined, _ := s.casts.count(); return joined == 0 }, 10*time.Second, time.Millisecond)
	require.NoError(t, s.Broadcast("/news", "late"))
	close(hold)
	require.NoError(t, <-held)
	require.NoError(t, <-ended)
	c.Stop()
	require.Empty(t, got)
}

// Servers may share a Handler, each with a log of its own.
func TestServersWithOneHandlerBroadcast(t *testing.T) {
	const times = 2000
	h := NewHandler()
	var sending sync.WaitGroup
	var ears []*castEar
	for range 3 {
		s, dial := castServer(t, WithHandler(h))
		for range 3 {
			_, ear := castClient(t, dial, 1)
			ears = append(ears, ear)
		}
		waitForClients(t, s, 3)
		sending.Go(func() {
			for n := range times {
				if err := s.Broadcast("/cast", castNumber(0, n, 100)); err != nil {
					t.Errorf("message %d: %v", n, err)
				}
			}
		})
	}
	sending.Wait()
	for _, ear := range ears {
		ear.heard(t, times)
	}
}
