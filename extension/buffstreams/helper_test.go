package buffstreams_test

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/arpc-go/arpc/arpctest"
	"github.com/arpc-go/arpc/extension/buffstreams"
	"github.com/stretchr/testify/require"
)

// patience is for what happens at once.
const patience = 30 * time.Second

// long is for timeouts that a test is not about, so that it stands being stopped.
const long = time.Hour

// tick is how often is looked for what cannot be waited for.
const tick = time.Millisecond

// background is for what a test does not want to end with it.
var background = context.Background()

// wire is what a test runs over.
type wire struct {
	ln   net.Listener
	dial func() (net.Conn, error)
}

func memory(faults ...func(arpctest.Faults)) wire {
	ln := arpctest.ListenMemory(faults...)
	return wire{ln, ln.Dial}
}

func tcp(t testing.TB) wire {
	ln, dialer := arpctest.TCP().Listen(t)
	return wire{ln, dialer}
}

// each runs a test over all kinds of connections.
func each(t *testing.T, body func(t *testing.T, w wire)) {
	for _, world := range arpctest.Worlds() {
		t.Run(world.Name, func(t *testing.T) {
			ln, dialer := world.Listen(t)
			body(t, wire{ln, dialer})
		})
	}
}

// listen serves until the test ends.
func (w wire) listen(t testing.TB, cfg buffstreams.ListenerConfig) *buffstreams.Listener {
	t.Helper()
	cfg.WriteTimeout = cmp.Or(cfg.WriteTimeout, long)
	l, err := buffstreams.NewListener(w.ln, cfg)
	require.NoError(t, err)
	require.NoError(t, l.StartListeningAsync())
	t.Cleanup(func() {
		require.NoError(t, l.Close())
		require.NoError(t, l.Wait())
	})
	return l
}

// connect connects until the test ends.
func (w wire) connect(t testing.TB, cfg buffstreams.ConnConfig) *buffstreams.Conn {
	t.Helper()
	cfg.WriteTimeout = cmp.Or(cfg.WriteTimeout, long)
	cfg.DialTimeout = cmp.Or(cfg.DialTimeout, long)
	cfg.Dial = func(context.Context) (net.Conn, error) { return w.dial() }
	c, err := buffstreams.Dial(t.Context(), cfg)
	require.NoError(t, err)
	closeLater(t, c)
	return c
}

func closeLater(t testing.TB, c *buffstreams.Conn) {
	t.Cleanup(func() {
		c.Close()
		<-c.Done()
	})
}

// pipe returns a Conn and the other end of its connection, which nothing reads.
func pipe(t testing.TB, cfg buffstreams.ConnConfig, faults ...func(arpctest.Faults)) (*buffstreams.Conn, net.Conn) {
	t.Helper()
	near, far := arpctest.Pipe(faults...)
	c, err := buffstreams.NewConn(near, cfg)
	require.NoError(t, err)
	closeLater(t, c)
	t.Cleanup(func() { far.Close() })
	return c, far
}

// inbox is what callbacks have got.
type inbox struct {
	mu       sync.Mutex
	changed  chan struct{}
	messages []string
}

func newInbox() *inbox { return &inbox{changed: make(chan struct{}, 1)} }

func (in *inbox) add(message []byte) error {
	in.mu.Lock()
	in.messages = append(in.messages, string(message))
	in.mu.Unlock()
	select {
	case in.changed <- struct{}{}:
	default:
	}
	return nil
}

// undelivered is add for ConnConfig.Undelivered.
func (in *inbox) undelivered(message []byte, _ error) { in.add(message) }

func (in *inbox) all() []string {
	in.mu.Lock()
	defer in.mu.Unlock()
	return slices.Clone(in.messages)
}

// wait returns the first n messages.
func (in *inbox) wait(t testing.TB, n int) []string {
	t.Helper()
	for timeout := time.After(patience); ; {
		if all := in.all(); len(all) >= n {
			return all
		}
		select {
		case <-in.changed:
		case <-timeout:
			t.Fatalf("%d messages came, not %d", len(in.all()), n)
		}
	}
}

// next returns what comes from a channel.
func next[T any](t testing.TB, what string, ch <-chan T) (v T) {
	t.Helper()
	select {
	case v = <-ch:
	case <-time.After(patience):
		t.Fatalf("%s: nothing came", what)
	}
	return v
}

// numbered returns messages "from 0" and so on.
func numbered(from string, n int) (list []string) {
	for i := range n {
		list = append(list, fmt.Sprintf("%s %d", from, i))
	}
	return list
}

func sendAll(t testing.TB, c *buffstreams.Conn, list []string) {
	t.Helper()
	for _, message := range list {
		require.NoError(t, c.Send(background, []byte(message)))
	}
}

var errDown = errors.New("down on purpose")
