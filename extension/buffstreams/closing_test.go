package buffstreams_test

import (
	"context"
	"io"
	"net"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/arpc-go/arpc/arpctest"
	"github.com/arpc-go/arpc/extension/buffstreams"
	"github.com/stretchr/testify/require"
)

func TestCloseSendsWhatWaits(t *testing.T) {
	each(t, func(t *testing.T, w wire) {
		in := newInbox()
		w.listen(t, buffstreams.ListenerConfig{Callback: in.add})
		c := w.connect(t, buffstreams.ConnConfig{})
		want := numbered("message", 5000)
		sendAll(t, c, want)
		require.NoError(t, c.Close())
		require.Equal(t, want, in.wait(t, len(want)))
		require.ErrorIs(t, c.Send(t.Context(), nil), buffstreams.ErrClosed)
		_, err := c.Write(nil)
		require.ErrorIs(t, err, buffstreams.ErrClosed)
		_, err = c.Receive(t.Context())
		require.ErrorIs(t, err, buffstreams.ErrClosed)
		_, err = c.Read(nil)
		require.ErrorIs(t, err, buffstreams.ErrClosed)
		require.ErrorIs(t, c.Err(), buffstreams.ErrClosed)
		require.NoError(t, c.Flush(t.Context()))
	})
}

func TestCloseOfAStalledConnectionTakesAWriteTimeout(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		lost := newInbox()
		c, _ := pipe(t, buffstreams.ConnConfig{WriteTimeout: 5 * time.Second, Undelivered: lost.undelivered},
			func(f arpctest.Faults) { f.Stall() })
		for range 30 {
			require.NoError(t, c.Send(t.Context(), make([]byte, 4000)))
		}
		start := time.Now()
		require.NoError(t, c.Close())
		require.Equal(t, 5*time.Second, time.Since(start))
		<-c.Done()
		stats := c.Stats()
		require.Equal(t, 30, int(stats.Sent+stats.Undelivered))
		require.Len(t, lost.all(), int(stats.Undelivered))
		require.NotEmpty(t, lost.all())
	})
}

// Close does not wait for a server that is down.
func TestCloseDuringAnOutageGivesUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNetwork()
		c := n.connect(t, buffstreams.ConnConfig{Retry: buffstreams.Retry{Attempts: buffstreams.Forever}})
		n.setDown(errDown)
		sendAll(t, c, numbered("message", 7))
		time.Sleep(time.Minute)
		start := time.Now()
		err := c.Close()
		require.Zero(t, time.Since(start))
		var undelivered *buffstreams.UndeliveredError
		require.ErrorAs(t, err, &undelivered)
		require.Equal(t, 7, undelivered.Messages)
		<-c.Done()
		dials := len(n.log())
		time.Sleep(time.Minute)
		require.Len(t, n.log(), dials)
	})
}

// Shutdown waits for the server to come back, if it does.
func TestShutdownDuringAnOutageWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNetwork()
		c := n.connect(t, buffstreams.ConnConfig{Retry: buffstreams.Retry{Attempts: buffstreams.Forever}})
		n.setDown(errDown)
		want := numbered("message", 7)
		sendAll(t, c, want)
		time.AfterFunc(time.Minute, func() { n.setDown(nil) })
		require.NoError(t, c.Shutdown(t.Context()))
		require.Equal(t, want, n.in.all(), "the peer has read all")
	})
}

func TestShutdownEndsWithItsContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, far := pipe(t, buffstreams.ConnConfig{}, func(f arpctest.Faults) { f.Stall() })
		for range 20 {
			require.NoError(t, c.Send(t.Context(), make([]byte, 4000)))
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		err := c.Shutdown(ctx)
		require.ErrorIs(t, err, context.DeadlineExceeded)
		var undelivered *buffstreams.UndeliveredError
		require.ErrorAs(t, err, &undelivered)
		_, err = far.Write([]byte("x"))
		require.Error(t, err)
	})
}

// When Shutdown returns the callback has seen everything.
func TestShutdownWaitsUntilThePeerHasReadEverything(t *testing.T) {
	each(t, func(t *testing.T, w wire) {
		in := newInbox()
		w.listen(t, buffstreams.ListenerConfig{Handler: func(ctx context.Context, c *buffstreams.Conn, message []byte) error {
			in.add(message)
			return c.Send(ctx, message) // nobody reads the answers
		}})
		c := w.connect(t, buffstreams.ConnConfig{})
		want := numbered("message", 3000)
		sendAll(t, c, want)
		require.NoError(t, c.Shutdown(t.Context()))
		require.Equal(t, want, in.all())
	})
}

func TestShutdownLeavesAnswersToAReader(t *testing.T) {
	w := tcp(t)
	w.listen(t, buffstreams.ListenerConfig{Handler: func(ctx context.Context, c *buffstreams.Conn, message []byte) error {
		return c.Send(ctx, message)
	}})
	c := w.connect(t, buffstreams.ConnConfig{})
	got := newInbox()
	started := make(chan struct{})
	var reader sync.WaitGroup
	reader.Go(func() {
		for message, err := range c.Messages(background) {
			if len(got.all()) == 0 {
				close(started)
			}
			if err != nil {
				t.Error(err)
				return
			}
			got.add(message)
		}
	})
	want := numbered("message", 1000)
	sendAll(t, c, want)
	next(t, "answer", started)
	require.NoError(t, c.Shutdown(t.Context()))
	reader.Wait()
	require.Equal(t, want, got.all())
}

// Senders, readers and those who wait hear of a Close at once.
func TestCloseEndsWhoWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNetwork()
		n.fault = func(f arpctest.Faults) { f.Stall() }
		c := n.connect(t, buffstreams.ConnConfig{SendQueue: 100})
		for c.Stats().Queued == 0 {
			require.NoError(t, c.Send(t.Context(), make([]byte, 4000)))
			synctest.Wait()
		}
		ended := make(chan error, 4)
		go func() { ended <- c.Send(background, make([]byte, 4000)) }()
		go func() { _, err := c.Receive(background); ended <- err }()
		go func() { _, err := c.Read(nil); ended <- err }()
		synctest.Wait()
		canceled, cancel := context.WithCancel(t.Context())
		cancel()
		require.ErrorIs(t, c.Shutdown(canceled), context.Canceled)
		require.ErrorIs(t, <-ended, buffstreams.ErrClosed)
		require.ErrorIs(t, <-ended, buffstreams.ErrClosed)
		require.ErrorIs(t, <-ended, buffstreams.ErrClosed)
		<-c.Done()
	})
}

func TestCloseMayBeCalledInUndelivered(t *testing.T) {
	down := &brokenConn{fail: make(chan struct{})}
	down.Conn, _ = arpctest.Pipe()
	var c *buffstreams.Conn
	lost := newInbox()
	ready := make(chan struct{})
	c, err := buffstreams.NewConn(down, buffstreams.ConnConfig{Undelivered: func(message []byte, _ error) {
		<-ready
		c.Close()
		lost.add(message)
	}})
	close(ready)
	require.NoError(t, err)
	sendAll(t, c, numbered("message", 3))
	close(down.fail)
	next(t, "Done", c.Done())
	require.Equal(t, numbered("message", 3), lost.all())
}

func TestAddressesStayKnown(t *testing.T) {
	w := tcp(t)
	w.listen(t, buffstreams.ListenerConfig{Callback: func([]byte) error { return nil }})
	c := w.connect(t, buffstreams.ConnConfig{})
	require.Equal(t, w.ln.Addr().String(), c.RemoteAddr().String())
	require.IsType(t, (*net.TCPConn)(nil), c.NetConn())
	local := c.LocalAddr()
	require.NoError(t, c.Close())
	require.Equal(t, w.ln.Addr().String(), c.RemoteAddr().String())
	require.Equal(t, local, c.LocalAddr())
}

// A peer that only reads gets everything, then the end.
func TestPlainPeerSeesFramesAndTheEnd(t *testing.T) {
	c, far := pipe(t, buffstreams.ConnConfig{})
	sendAll(t, c, []string{"a", "", "bc"})
	require.NoError(t, c.Close())
	got, err := io.ReadAll(far)
	require.NoError(t, err)
	require.Equal(t, frames("a", "", "bc"), got)
}
