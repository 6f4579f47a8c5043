package arpc_test

import (
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/arpc-go/arpc"
	"github.com/arpc-go/arpc/arpctest"
	"github.com/stretchr/testify/require"
)

// poolServer is a server that can go and come back at its address.
type poolServer struct {
	name    string
	opts    []arpc.Option
	handled atomic.Int64

	mu     sync.Mutex
	ln     *arpctest.MemoryListener
	server *arpc.Server
	held   []*arpc.Context // of /hold, until release
}

// poolListen starts a server: "/name" answers with the name, "/hold" when release
// is called, "/echo" with what it gets, a stream too.
func poolListen(t testing.TB, name string, opts ...arpc.Option) *poolServer {
	s := &poolServer{name: name, opts: opts}
	s.up(t)
	t.Cleanup(s.down)
	return s
}

func (s *poolServer) up(t testing.TB) {
	server, ln := arpc.NewServer(s.opts...), arpctest.ListenMemory()
	server.Handler.Handle("/name", func(ctx *arpc.Context) { s.handled.Add(1); ctx.Write(s.name) })
	server.Handler.Handle("/echo", suiteEcho)
	server.Handler.Handle("/hold", s.hold)
	server.Handler.HandleStream("/echo", poolEchoStream)
	s.mu.Lock()
	s.server, s.ln = server, ln
	s.mu.Unlock()
	go server.Serve(ln)
}

func poolEchoStream(st *arpc.Stream) {
	for data, err := range st.RecvSeq() {
		if err != nil || st.Send(&data) != nil {
			return
		}
	}
	st.CloseSend()
}

func (s *poolServer) hold(ctx *arpc.Context) {
	s.handled.Add(1)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.held = append(s.held, ctx.Detach())
}

func (s *poolServer) release() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, ctx := range s.held {
		ctx.Write(s.name)
	}
	s.held = nil
}

func (s *poolServer) down() { s.current().Stop() }

func (s *poolServer) current() *arpc.Server {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.server
}

func (s *poolServer) dial() (net.Conn, error) {
	s.mu.Lock()
	ln := s.ln
	s.mu.Unlock()
	return ln.Dial()
}

// poolStart returns a pool with a member for each of so many servers.
func poolStart(t testing.TB, size int, opts ...arpc.Option) (*arpc.ClientPool, []*poolServer) {
	t.Helper()
	servers := make([]*poolServer, size)
	dialers := make([]arpc.DialerFunc, size)
	for i := range servers {
		servers[i] = poolListen(t, strconv.Itoa(i))
		dialers[i] = servers[i].dial
	}
	pool, err := arpc.NewClientPoolFromDialers(dialers, opts...)
	require.NoError(t, err)
	t.Cleanup(pool.Stop)
	return pool, servers
}

func poolEmpty(t testing.TB, opts ...arpc.Option) *arpc.ClientPool {
	t.Helper()
	pool, err := arpc.NewPool(opts...)
	require.NoError(t, err)
	t.Cleanup(pool.Stop)
	return pool
}

func poolClients(pool *arpc.ClientPool) []*arpc.Client {
	var clients []*arpc.Client
	for _, m := range pool.Members() {
		clients = append(clients, m.Client())
	}
	return clients
}

func poolNames(pool *arpc.ClientPool) []string {
	var names []string
	for _, m := range pool.Members() {
		names = append(names, m.Name())
	}
	return names
}

func TestPoolNamesTheMembersOfItsConstructors(t *testing.T) {
	pool, _ := poolStart(t, 3)
	require.Equal(t, []string{"0", "1", "2"}, poolNames(pool))
	for i, m := range pool.Members() {
		require.Same(t, pool.Get(i), m.Client())
		require.Same(t, pool.Handler(), m.Client().Handler)
	}
	pool.Members()[0] = nil
	require.NotNil(t, pool.Members()[0], "the list is the caller's own")
}

func TestPoolWithoutMembers(t *testing.T) {
	pool := poolEmpty(t)
	require.Zero(t, pool.Size())
	require.Nil(t, pool.Next())
	require.Nil(t, pool.Get(3))
	require.Empty(t, pool.Members())
	for name, err := range poolUse(t, pool) {
		suiteUnsent(t, err, arpc.CodeUnavailable)
		require.ErrorContains(t, err, "no members", name)
	}
	require.NoError(t, pool.Shutdown(t.Context()))
	for name, err := range poolUse(t, pool) {
		require.ErrorIs(t, err, arpc.ErrClosed, name)
		suiteUnsent(t, err, arpc.CodeUnavailable)
	}
}

// poolUse sends with each method of the pool and returns the errors.
func poolUse(t testing.TB, pool *arpc.ClientPool) map[string]error {
	st, opened := pool.OpenStream(t.Context(), "/echo")
	require.Equal(t, opened == nil, st != nil)
	if st != nil {
		st.Close()
	}
	return map[string]error{
		"Call":       pool.Call("/echo", "x", nil, suitePatience),
		"CallWith":   pool.CallWith(t.Context(), "/echo", "x", nil),
		"CallAsync":  pool.CallAsync("/echo", "x", func(*arpc.Context) {}, suitePatience),
		"Notify":     pool.Notify("/echo", "x", suitePatience),
		"NotifyWith": pool.NotifyWith(t.Context(), "/echo", "x"),
		"OpenStream": opened,
	}
}

func TestPoolAddedMembersGetCalls(t *testing.T) {
	pool := poolEmpty(t)
	for i, name := range []string{"a", "b", "c"} {
		c, err := pool.Add(name, poolListen(t, name).dial)
		require.NoError(t, err)
		require.Same(t, pool.Handler(), c.Handler)
		require.Same(t, pool.Get(i), c)
		require.Equal(t, i+1, pool.Size())
		for what, err := range poolUse(t, pool) {
			require.NoError(t, err, what)
		}
	}
	counts := make(map[string]int)
	for range 6 {
		var name string
		require.NoError(t, pool.Call("/name", nil, &name, suitePatience))
		counts[name]++
	}
	require.Equal(t, map[string]int{"a": 2, "b": 2, "c": 2}, counts)
}

func TestPoolAddRefuses(t *testing.T) {
	pool, servers := poolStart(t, 2)
	fails := func() (net.Conn, error) { return nil, errSuiteNowhere }
	for name, c := range map[string]struct {
		name   string
		dialer arpc.DialerFunc
		code   arpc.Code
		text   string
	}{
		"no name":      {"", servers[0].dial, arpc.CodeInvalidArgument, "needs a name"},
		"a name twice": {"1", servers[0].dial, arpc.CodeAlreadyExists, `"1"`},
		"no dialer":    {"x", nil, arpc.CodeInvalidArgument, "dialer is nil"},
		"nobody there": {"x", fails, arpc.CodeUnavailable, errSuiteNowhere.Error()},
		"a panic":      {"x", func() (net.Conn, error) { panic("a test panics") }, arpc.CodeInternal, "panicked"},
	} {
		t.Run(name, func(t *testing.T) {
			client, err := pool.Add(c.name, c.dialer)
			require.Nil(t, client)
			require.Equal(t, c.code, arpc.CodeOf(err))
			require.ErrorContains(t, err, c.text)
			require.Equal(t, []string{"0", "1"}, poolNames(pool))
		})
	}
	_, err := pool.Add("x", servers[0].dial)
	require.NoError(t, err, "a name that failed is free")
}

// Of two that add the same name at the same time one dials.
func TestPoolAddReservesTheName(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		pool, server := poolEmpty(t), poolListen(t, "a")
		dial, added := make(chan struct{}), make(chan error, 1)
		go func() {
			_, err := pool.Add("a", func() (net.Conn, error) { <-dial; return server.dial() })
			added <- err
		}()
		synctest.Wait()
		_, err := pool.Add("a", func() (net.Conn, error) { panic("dials a name that is taken") })
		require.Equal(t, arpc.CodeAlreadyExists, arpc.CodeOf(err))
		_, err = pool.Remove("a")
		require.Equal(t, arpc.CodeNotFound, arpc.CodeOf(err))
		close(dial)
		require.NoError(t, <-added)
		require.Equal(t, []string{"a"}, poolNames(pool))
	})
}

// Calls in flight on a member that is removed end as they would have.
func TestPoolRemoveLetsCallsFinish(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		pool, servers := poolStart(t, 2)
		called := make(chan error, 1)
		go func() { called <- pool.Get(0).Call("/hold", nil, nil, arpc.TimeForever) }()
		synctest.Wait()

		removed := pool.Get(0)
		c, err := pool.Remove("0")
		require.NoError(t, err)
		require.Same(t, removed, c)
		require.Equal(t, []string{"1"}, poolNames(pool))
		synctest.Wait()
		require.Equal(t, arpc.StateConnected, c.State())
		for range 4 {
			var name string
			require.NoError(t, pool.Call("/name", nil, &name, suitePatience))
			require.Equal(t, "1", name)
		}
		servers[0].release()
		require.NoError(t, <-called)
		<-c.Done()
		synctest.Wait()
		require.Empty(t, servers[0].current().Clients())
	})
}

// And so do streams.
func TestPoolRemoveLetsStreamsFinish(t *testing.T) {
	pool, _ := poolStart(t, 1)
	st, err := pool.OpenStream(t.Context(), "/echo")
	require.NoError(t, err)
	echo := func(text string) {
		var got string
		require.NoError(t, st.Send(text))
		require.NoError(t, st.Recv(&got))
		require.Equal(t, text, got)
	}
	echo("before")
	c, err := pool.Remove("0")
	require.NoError(t, err)
	echo("after")
	require.NotEqual(t, arpc.StateClosed, c.State())
	require.NoError(t, st.CloseSend())
	require.ErrorIs(t, st.Recv(nil), io.EOF)
	<-c.Done()
}

func TestPoolRemoveFreesTheName(t *testing.T) {
	pool, servers := poolStart(t, 2)
	first := pool.Get(0)
	_, err := pool.Remove("0")
	require.NoError(t, err)
	_, err = pool.Remove("0")
	require.Equal(t, arpc.CodeNotFound, arpc.CodeOf(err))
	require.ErrorContains(t, err, `"0"`)
	again, err := pool.Add("0", servers[0].dial)
	require.NoError(t, err)
	require.NotSame(t, first, again)
	require.Equal(t, []string{"1", "0"}, poolNames(pool))
	<-first.Done()
	suiteRequireEcho(t, again)
}

// Members come and go while everybody calls, and no call fails.
func TestPoolMembersComeAndGoUnderLoad(t *testing.T) {
	for name, picker := range poolPickers() {
		t.Run(name, func(t *testing.T) {
			pool, servers := poolStart(t, 2)
			pool.SetPicker(picker)
			stop := make(chan struct{})
			var callers sync.WaitGroup
			for i := range 4 {
				callers.Go(func() { poolCallUntil(t, pool, stop, i) })
			}
			for i := range 30 {
				name := fmt.Sprint("extra-", i)
				_, err := pool.Add(name, servers[i%2].dial)
				require.NoError(t, err)
				require.NoError(t, pool.Call("/name", nil, nil, suitePatience))
				c, err := pool.Remove(name)
				require.NoError(t, err)
				if i%3 == 0 {
					<-c.Done()
				}
			}
			close(stop)
			callers.Wait()
		})
	}
}

// poolCallUntil calls and notifies until stop is closed; nothing may fail.
func poolCallUntil(t *testing.T, pool *arpc.ClientPool, stop <-chan struct{}, caller int) {
	for i := 0; ; i++ {
		select {
		case <-stop:
			return
		default:
		}
		ctx := poolWithKey(t.Context(), fmt.Sprint(caller, i))
		if err := errors.Join(pool.CallWith(ctx, "/name", nil, nil), pool.NotifyWith(ctx, "/name", nil)); err != nil {
			t.Error(err)
			return
		}
	}
}

func ExampleNewPool() {
	server := arpc.NewServer()
	server.Handler.Handle("/greet", func(ctx *arpc.Context) { ctx.Write("hello " + string(ctx.Body())) })
	ln := arpctest.ListenMemory()
	go server.Serve(ln)
	defer server.Stop()

	pool, err := arpc.NewPool()
	if err != nil {
		fmt.Println(err)
		return
	}
	defer pool.Stop()
	if _, err := pool.Add("10.0.0.1:8888", ln.Dial); err != nil {
		fmt.Println(err)
		return
	}
	var reply string
	err = pool.Call("/greet", "you", &reply, time.Second)
	fmt.Println(reply, err)
	_, err = pool.Remove("10.0.0.1:8888")
	fmt.Println(pool.Size(), err)
	// Output:
	// hello you <nil>
	// 0 <nil>
}
