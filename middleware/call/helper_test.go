package call_test

import (
	"context"
	"errors"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/arpc-go/arpc"
	"github.com/arpc-go/arpc/arpctest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// connect returns a pair in memory whose client has interceptors.
func connect(t testing.TB, register func(*arpc.Handler), around ...arpc.CallInterceptor) *arpctest.Pair {
	t.Helper()
	return arpctest.New(t, arpctest.Memory(), arpctest.Setup(func(s *arpc.Server, client *arpc.Handler) {
		register(s.Handler)
		for _, fn := range around {
			client.UseCall(fn)
		}
	}))
}

// connectPool returns a pool with a member for each server, in their order, and
// with interceptors.
func connectPool(t testing.TB, servers []func(*arpc.Handler), around ...arpc.CallInterceptor) *arpc.ClientPool {
	t.Helper()
	var dialers []arpc.DialerFunc
	for _, register := range servers {
		ln := arpctest.ListenMemory()
		s := arpc.NewServer()
		register(s.Handler)
		served := make(chan struct{})
		go func() { defer close(served); s.Serve(ln) }()
		t.Cleanup(func() { s.Stop(); <-served })
		dialers = append(dialers, ln.Dial)
	}
	pool, err := arpc.NewClientPoolFromDialers(dialers)
	require.NoError(t, err)
	t.Cleanup(pool.Stop)
	for _, fn := range around {
		pool.Handler().UseCall(fn)
	}
	return pool
}

// script is a CallFunc that returns these errors in turn, and then none.
type script struct {
	errs []error

	mu    sync.Mutex
	calls []arpc.Call
}

func (s *script) next(_ context.Context, call *arpc.Call) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.calls = append(s.calls, *call)
	if n := len(s.calls); n <= len(s.errs) {
		return s.errs[n-1]
	}
	return nil
}

// tally counts by name.
type tally struct {
	mu     sync.Mutex
	counts map[string]int
}

func (c *tally) add(name string) int {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.counts == nil {
		c.counts = make(map[string]int)
	}
	c.counts[name]++
	return c.counts[name]
}

func (c *tally) of(name string) int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.counts[name]
}

// unsent is an error of which nothing was sent.
func unsent(code arpc.Code) error { return arpc.Unsent(arpc.NewError(code, "not sent")) }

// sent is one of which something was.
func sent(code arpc.Code) error { return arpc.NewError(code, "sent") }

// aClient is in calls that nobody sends.
var aClient = new(arpc.Client)

var errMine = errors.New("mine")
