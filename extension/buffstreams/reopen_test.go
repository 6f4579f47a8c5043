package buffstreams_test

import (
	"context"
	"io"
	"net"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/arpc-go/arpc/arpctest"
	"github.com/arpc-go/arpc/extension/buffstreams"
	"github.com/stretchr/testify/require"
)

// network dials connections whose far ends gather what comes, or fails.
type network struct {
	mu    sync.Mutex
	down  error
	dials []time.Duration // since start
	start time.Time
	far   []net.Conn
	fault func(arpctest.Faults)
	in    *inbox
	ended sync.WaitGroup
}

func newNetwork() *network {
	return &network{start: time.Now(), in: newInbox(), fault: func(arpctest.Faults) {}}
}

func (n *network) dial(context.Context) (net.Conn, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.dials = append(n.dials, time.Since(n.start))
	if n.down != nil {
		return nil, n.down
	}
	near, far := arpctest.Pipe()
	n.fault(arpctest.FaultsOf(near))
	n.far = append(n.far, far)
	n.ended.Go(func() { n.gather(far) })
	return near, nil
}

func (n *network) gather(far net.Conn) {
	c, _ := buffstreams.NewConn(far, buffstreams.ConnConfig{})
	defer c.Close()
	for message, err := range c.Messages(background) {
		if err == nil {
			n.in.add(message)
		}
	}
}

func (n *network) setDown(err error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.down = err
	for _, far := range n.far {
		if err != nil {
			arpctest.FaultsOf(far).Cut()
		}
	}
}

func (n *network) log() []time.Duration {
	n.mu.Lock()
	defer n.mu.Unlock()
	return slices.Clone(n.dials)
}

// connect returns a Conn, closed before the bubble ends.
func (n *network) connect(t *testing.T, cfg buffstreams.ConnConfig) *buffstreams.Conn {
	cfg.Dial = n.dial
	c, err := buffstreams.Dial(t.Context(), cfg)
	require.NoError(t, err)
	t.Cleanup(func() {
		c.Close()
		<-c.Done()
		n.setDown(errDown)
		n.ended.Wait()
	})
	return c
}

func TestFirstDialErrorIsReturned(t *testing.T) {
	for name, dial := range map[string]func(context.Context) (net.Conn, error){
		"an error": func(context.Context) (net.Conn, error) { return nil, errDown },
		"a panic":  func(context.Context) (net.Conn, error) { panic("down on purpose") },
	} {
		t.Run(name, func(t *testing.T) {
			_, err := buffstreams.Dial(t.Context(), buffstreams.ConnConfig{Dial: dial, Retry: buffstreams.Retry{Attempts: buffstreams.Forever}})
			require.ErrorContains(t, err, "down on purpose")
		})
	}
	_, err := buffstreams.Dial(t.Context(), buffstreams.ConnConfig{Dial: func(context.Context) (net.Conn, error) { return nil, nil }})
	require.ErrorContains(t, err, "neither a connection nor an error")
	_, err = buffstreams.Dial(t.Context(), buffstreams.ConnConfig{})
	require.ErrorContains(t, err, "neither an Address nor a Dial function")
	_, err = buffstreams.DialTCP(&buffstreams.TCPConnConfig{Address: "127.0.0.1:1"})
	require.ErrorIs(t, err, syscall.ECONNREFUSED)
}

func TestDialTimeoutLimitsADial(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		start := time.Now()
		_, err := buffstreams.Dial(t.Context(), buffstreams.ConnConfig{DialTimeout: 3 * time.Second, Dial: func(ctx context.Context) (net.Conn, error) {
			<-ctx.Done()
			return nil, ctx.Err()
		}})
		require.ErrorIs(t, err, context.DeadlineExceeded)
		require.Equal(t, 3*time.Second, time.Since(start))
	})
}

func TestSettingsMakeSense(t *testing.T) {
	near, _ := arpctest.Pipe()
	for name, cfg := range map[string]buffstreams.ConnConfig{
		"MaxMessageSize": {MaxMessageSize: -1},
		"DialTimeout":    {DialTimeout: -1},
		"WriteTimeout":   {WriteTimeout: -1},
		"SendQueue":      {SendQueue: -1},
		"Attempts":       {Retry: buffstreams.Retry{Attempts: -1}},
		"Base":           {Retry: buffstreams.Retry{Base: -1}},
		"Max":            {Retry: buffstreams.Retry{Max: -1}},
	} {
		_, err := buffstreams.NewConn(near, cfg)
		require.Error(t, err, name)
		_, err = buffstreams.Dial(t.Context(), cfg)
		require.Error(t, err, name)
	}
	for name, cfg := range map[string]buffstreams.ListenerConfig{
		"MaxMessageSize": {MaxMessageSize: -1},
		"MaxConns":       {MaxConns: -1},
		"IdleTimeout":    {IdleTimeout: -1},
		"WriteTimeout":   {WriteTimeout: -1},
		"SendQueue":      {SendQueue: -1},
	} {
		_, err := buffstreams.Listen(cfg)
		require.Error(t, err, name)
		_, err = buffstreams.NewListener(nil, cfg)
		require.Error(t, err, name)
	}
}

// The Write that finds its connection broken fails, and the next has another.
func TestNextWriteReopensAfterAFailure(t *testing.T) {
	var mu sync.Mutex
	var dialled []net.Conn
	w := tcp(t)
	in := newInbox()
	w.listen(t, buffstreams.ListenerConfig{Callback: in.add})
	c, err := buffstreams.Dial(t.Context(), buffstreams.ConnConfig{Dial: func(context.Context) (net.Conn, error) {
		nc, err := w.dial()
		mu.Lock()
		defer mu.Unlock()
		dialled = append(dialled, nc)
		return nc, err
	}})
	require.NoError(t, err)
	closeLater(t, c)
	for i, message := range []string{"first", "second", "third"} {
		n, err := c.Write([]byte(message))
		require.NoError(t, err)
		require.Equal(t, len(message), n)
		in.wait(t, i+1)
		dialled[i].Close() // under the feet of the Conn
		n, err = c.Write([]byte("lost"))
		require.ErrorIs(t, err, net.ErrClosed)
		require.ErrorIs(t, err, buffstreams.ErrNotConnected)
		require.Zero(t, n)
	}
	require.Equal(t, []string{"first", "second", "third"}, in.all())
	require.Equal(t, buffstreams.Stats{Sent: 3, Reopened: 2}, c.Stats())
}

// What is sent after the peer has closed goes over a new connection: a socket would
// take it for nobody.
func TestNothingIsSentToAPeerThatHasClosed(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("sockets cannot be looked at there without reading them")
	}
	w := tcp(t)
	accepted := make(chan net.Conn, 1)
	accept := func() {
		nc, err := w.ln.Accept()
		if err == nil {
			accepted <- nc
		}
	}
	go accept()
	c := w.connect(t, buffstreams.ConnConfig{})
	for _, goroutine := range []bool{false, true} { // who flushes
		next(t, "accept", accepted).Close()
		_, err := c.NetConn().Read(make([]byte, 1))
		require.ErrorIs(t, err, io.EOF, "it has heard of it")
		go accept()
		if goroutine {
			for range 10 { // one right behind the other
				require.NoError(t, c.Send(t.Context(), []byte("message")))
			}
		} else {
			require.NoError(t, c.Send(t.Context(), []byte("message")))
		}
		require.NoError(t, c.Flush(t.Context()))
		far := next(t, "accept", accepted)
		frame := make([]byte, 10)
		_, err = io.ReadFull(far, frame)
		require.NoError(t, err)
		require.Equal(t, "\x0e\x00\x00message", string(frame))
		accepted <- far
	}
	next(t, "accept", accepted).Close()
	require.Zero(t, c.Stats().Undelivered)
}

// The same when a reader notices it, however many messages wait.
func TestReaderThatSeesTheEndLosesNoMessages(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNetwork()
		first := &endingConn{end: make(chan struct{}), closed: make(chan struct{})}
		first.Conn, _ = arpctest.Pipe()
		c, err := buffstreams.NewConn(first, buffstreams.ConnConfig{Dial: n.dial})
		require.NoError(t, err)
		want := numbered("message", 20)
		sendAll(t, c, want)
		synctest.Wait() // somebody writes
		close(first.end)
		_, err = c.Receive(t.Context())
		require.ErrorIs(t, err, io.EOF)
		require.Equal(t, want, n.in.wait(t, 20))
		require.NoError(t, c.Close())
		<-c.Done()
		n.ended.Wait()
	})
}

// endingConn has writes wait until Close, and reads until the end.
type endingConn struct {
	net.Conn
	end, closed chan struct{}
	once        sync.Once
}

func (c *endingConn) Write([]byte) (int, error) {
	<-c.closed
	return 0, net.ErrClosed
}

func (c *endingConn) Read([]byte) (int, error) {
	<-c.end
	return 0, io.EOF
}

func (c *endingConn) Close() error {
	c.once.Do(func() { close(c.closed) })
	return c.Conn.Close()
}

// Without Retry a Write that cannot dial fails, and those behind it do not all dial.
func TestSendersDoNotFloodAServerThatIsDown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNetwork()
		c := n.connect(t, buffstreams.ConnConfig{})
		sendAll(t, c, []string{"before"})
		n.in.wait(t, 1)
		n.setDown(errDown)
		failures := 0
		for range 10_000 { // ten seconds of a loop that sends and logs
			if _, err := c.Write([]byte("message")); err != nil {
				failures++
			}
			time.Sleep(time.Millisecond)
		}
		require.Greater(t, failures, 9_990)
		_, err := c.Write([]byte("message"))
		require.ErrorIs(t, err, buffstreams.ErrNotConnected)
		require.ErrorIs(t, err, errDown)
		require.Less(t, len(n.log()), 40)
		n.setDown(nil)
		time.Sleep(10 * time.Second)
		_, err = c.Write([]byte("after"))
		require.NoError(t, err)
		require.NoError(t, c.Flush(t.Context()))
		require.Equal(t, "after", n.in.wait(t, 2)[1])
	})
}

// Senders that find no connection share one dial, and each gets its own answer.
func TestSendersShareADial(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNetwork()
		c := n.connect(t, buffstreams.ConnConfig{})
		n.setDown(errDown)
		sendAll(t, c, []string{"lost"}) // nobody has noticed
		synctest.Wait()
		require.Error(t, c.Flush(t.Context()))
		n.setDown(nil)
		var all sync.WaitGroup
		for range 20 {
			all.Go(func() {
				if err := c.Send(t.Context(), []byte("message")); err != nil {
					t.Error(err)
				}
			})
		}
		all.Wait()
		n.in.wait(t, 20)
		require.Len(t, n.log(), 2)
	})
}

func TestSendThatDialsEndsWithItsContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var calls atomic.Int64
		near, far := arpctest.Pipe()
		c, err := buffstreams.NewConn(near, buffstreams.ConnConfig{DialTimeout: time.Minute, Dial: func(ctx context.Context) (net.Conn, error) {
			calls.Add(1)
			<-ctx.Done()
			return nil, ctx.Err()
		}})
		require.NoError(t, err)
		closeLater(t, c)
		far.Close()
		_, err = c.Receive(t.Context())
		require.ErrorIs(t, err, io.EOF)
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		err = c.Send(ctx, []byte("message"))
		require.ErrorIs(t, err, context.DeadlineExceeded)
		require.ErrorIs(t, err, buffstreams.ErrNotConnected)
		require.Equal(t, int64(1), calls.Load())
	})
}

func TestReopenReplacesTheConnection(t *testing.T) {
	each(t, func(t *testing.T, w wire) {
		in := newInbox()
		l := w.listen(t, buffstreams.ListenerConfig{Callback: in.add})
		c := w.connect(t, buffstreams.ConnConfig{})
		before := c.NetConn()
		sendAll(t, c, []string{"before"})
		require.NoError(t, c.Flush(t.Context()))
		require.NoError(t, c.Reopen())
		require.NotSame(t, before, c.NetConn())
		sendAll(t, c, []string{"after"})
		require.ElementsMatch(t, []string{"before", "after"}, in.wait(t, 2))
		require.Equal(t, uint64(2), l.Stats().Accepted)
		require.NoError(t, c.Close())
		require.ErrorIs(t, c.Reopen(), buffstreams.ErrClosed)
	})
}

// Reopen works where BuffStreams' does not: when the connection is broken already,
// and what waited goes over the new one.
func TestReopenTakesTheQueueAlong(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNetwork()
		n.fault = func(f arpctest.Faults) { f.CutAfter(10) }
		c := n.connect(t, buffstreams.ConnConfig{Retry: buffstreams.Retry{Attempts: 5, Base: time.Hour, Max: time.Hour}})
		want := numbered("message", 10)
		sendAll(t, c, want)
		synctest.Wait()
		require.Error(t, c.Err(), "it is cut, and pauses")
		n.fault = func(arpctest.Faults) {}
		start := time.Now()
		require.NoError(t, c.Reopen())
		require.Equal(t, want, n.in.wait(t, 10))
		require.Zero(t, time.Since(start))
	})
}

func TestReopenReturnsTheErrorOfTheDial(t *testing.T) {
	n := newNetwork()
	c := n.connect(t, buffstreams.ConnConfig{})
	n.setDown(errDown)
	require.ErrorIs(t, c.Reopen(), errDown)
	require.ErrorIs(t, c.Reopen(), errDown)
	n.setDown(nil)
	require.NoError(t, c.Reopen())
	require.NoError(t, c.Err())

	fixed, _ := pipe(t, buffstreams.ConnConfig{})
	require.ErrorContains(t, fixed.Reopen(), "no address")
}
