package arpc_test

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"regexp"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/arpc-go/arpc"
	"github.com/arpc-go/arpc/internal/memconn"
)

// The tests in rows_*_test.go guard against failures that predecessors of this
// package had. The numbers in their names are those of the failures; the gaps are
// failures of what stands around this package.

const (
	// rowPatience is the deadline of calls that must end long before it.
	rowPatience = 5 * time.Minute
	// rowGuard ends a test that hangs.
	rowGuard = time.Minute
)

// rowNet is what a test listens on and dials.
type rowNet interface {
	net.Listener
	Dial() (net.Conn, error)
}

type rowTCPNet struct{ net.Listener }

func (n rowTCPNet) Dial() (net.Conn, error) { return net.Dial("tcp", n.Addr().String()) }

func rowTCP(t testing.TB) rowNet {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	t.Cleanup(func() { ln.Close() })
	return rowTCPNet{ln}
}

// rowEach runs a test over a socket and over a connection that is none.
func rowEach(t *testing.T, test func(t *testing.T, ln rowNet)) {
	t.Run("tcp", func(t *testing.T) { test(t, rowTCP(t)) })
	t.Run("memory", func(t *testing.T) { test(t, memconn.Listen()) })
}

// rowVersions runs a test for peers that speak each version of the wire.
func rowVersions(t *testing.T, name string, test func(t *testing.T, version arpc.Option)) {
	for version := 1; version <= 2; version++ {
		t.Run(fmt.Sprintf("%s, version %d", name, version), func(t *testing.T) { test(t, arpc.WithVersions(1, version)) })
	}
}

func rowServe(t testing.TB, ln net.Listener, opts ...arpc.Option) *arpc.Server {
	t.Helper()
	s := arpc.NewServer(opts...)
	rowGoServe(t, s, ln)
	return s
}

func rowGoServe(t testing.TB, s *arpc.Server, ln net.Listener) {
	served := make(chan error, 1)
	go func() { served <- s.Serve(ln) }()
	t.Cleanup(func() {
		rowSoon(t, "the server stops", s.Stop)
		assert.ErrorIs(t, rowNext(t, "Serve returns", served), arpc.ErrServerClosed)
	})
}

// rowDial returns a client that comes back at once.
func rowDial(t testing.TB, dialer arpc.DialerFunc, opts ...arpc.Option) *arpc.Client {
	t.Helper()
	opts = append([]arpc.Option{arpc.WithReconnect(time.Millisecond, time.Millisecond, arpc.Forever)}, opts...)
	c, err := arpc.NewClient(dialer, opts...)
	require.NoError(t, err)
	t.Cleanup(func() { rowSoon(t, "the client stops", c.Stop) })
	return c
}

// rowPair returns a server and a client of it, to which routes can be added.
func rowPair(t testing.TB, ln rowNet, opts ...arpc.Option) (*arpc.Server, *arpc.Client) {
	t.Helper()
	return rowServe(t, ln, opts...), rowDial(t, ln.Dial, opts...)
}

func rowEcho(ctx *arpc.Context) { ctx.Write(ctx.Body()) }

// rowNext receives from a channel that must have something soon.
func rowNext[T any](t testing.TB, what string, ch <-chan T) (v T) {
	t.Helper()
	timer := time.NewTimer(rowGuard)
	defer timer.Stop()
	select {
	case v = <-ch:
	case <-timer.C:
		buf := make([]byte, 1<<20)
		t.Fatalf("this hangs: %s\n%s", what, buf[:runtime.Stack(buf, true)])
	}
	return v
}

// rowSoon runs f, which must return soon.
func rowSoon(t testing.TB, what string, f func()) {
	t.Helper()
	done := make(chan struct{})
	go func() { defer close(done); f() }()
	rowNext(t, what, done)
}

// rowEventually waits for what nothing tells of.
func rowEventually(t testing.TB, what string, holds func() bool) {
	t.Helper()
	require.Eventually(t, holds, rowGuard, time.Millisecond, what)
}

// rowClient returns the one client of a server, once it is accepted.
func rowClient(t testing.TB, s *arpc.Server) (c *arpc.Client) {
	t.Helper()
	rowEventually(t, "the server has a client", func() bool {
		list := s.Clients()
		if len(list) == 1 {
			c = list[0]
		}
		return c != nil
	})
	return c
}

// rowReconnected waits until a client is connected; any goroutine may call it.
func rowReconnected(t testing.TB, c *arpc.Client) {
	t.Helper()
	connected := func() bool { return c.State() == arpc.StateConnected }
	assert.Eventually(t, connected, rowGuard, time.Millisecond, "the client comes back")
}

// rowCut breaks a connection, so that both ends get an error.
func rowCut(nc net.Conn) {
	switch nc := nc.(type) {
	case *memconn.Conn:
		nc.Cut()
	case *net.TCPConn:
		nc.SetLinger(0)
		nc.Close()
	default:
		nc.Close()
	}
}

// rowLine is a dialer whose connection can be cut, and that can fail or wait.
type rowLine struct {
	net rowNet

	mu    sync.Mutex
	down  error
	last  net.Conn
	dials int
}

func (l *rowLine) Dial() (net.Conn, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.dials++
	if l.down != nil {
		return nil, l.down
	}
	nc, err := l.net.Dial()
	if err == nil {
		l.last = nc
	}
	return nc, err
}

func (l *rowLine) cut() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.last != nil {
		rowCut(l.last)
	}
}

var errRowDown = errors.New("the line is down")

func (l *rowLine) setDown(down bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.down = nil
	if down {
		l.down = errRowDown
	}
}

func (l *rowLine) count() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.dials
}

// rowTally counts how often something happened to whom.
type rowTally struct {
	mu sync.Mutex
	n  map[string]int
}

func (y *rowTally) add(key string) int {
	y.mu.Lock()
	defer y.mu.Unlock()
	if y.n == nil {
		y.n = make(map[string]int)
	}
	y.n[key]++
	return y.n[key]
}

func (y *rowTally) of(key string) int {
	y.mu.Lock()
	defer y.mu.Unlock()
	return y.n[key]
}

// atLeast returns to how many it happened n times or more.
func (y *rowTally) atLeast(n int) (count int) {
	y.mu.Lock()
	defer y.mu.Unlock()
	for _, v := range y.n {
		if v >= n {
			count++
		}
	}
	return count
}

func (y *rowTally) total() (sum int) {
	y.mu.Lock()
	defer y.mu.Unlock()
	for _, n := range y.n {
		sum += n
	}
	return sum
}

// rowBytes returns n bytes that begin with the number id and tell from it what
// the rest is.
func rowBytes(id, n int) []byte {
	b := make([]byte, max(n, 4))
	binary.LittleEndian.PutUint32(b, uint32(id))
	for i := 4; i < len(b); i++ {
		b[i] = byte(id + i)
	}
	return b
}

// rowID returns the number of bytes made by rowBytes, -1 if they are damaged.
func rowID(b []byte) int {
	if len(b) < 4 {
		return -1
	}
	id := int(binary.LittleEndian.Uint32(b))
	for i := 4; i < len(b); i++ {
		if b[i] != byte(id+i) {
			return -1
		}
	}
	return id
}

// rowInChild runs the rest of a test in a process of its own, for failures that
// would take this one down.
func rowInChild(t *testing.T, test func(t *testing.T)) {
	t.Helper()
	if os.Getenv("ARPC_ROW_CHILD") != "" {
		test(t)
		return
	}
	var path []string
	for part := range strings.SplitSeq(t.Name(), "/") {
		path = append(path, "^"+regexp.QuoteMeta(part)+"$")
	}
	cmd := exec.Command(os.Args[0], "-test.run", strings.Join(path, "/"), "-test.timeout", "90s", "-test.v")
	cmd.Env = append(os.Environ(), "ARPC_ROW_CHILD=1", "GORACE=atexit_sleep_ms=0")
	out, err := cmd.CombinedOutput()
	require.NoError(t, err, "%s", out)
	require.Contains(t, string(out), "--- PASS: "+t.Name()+" ")
}
