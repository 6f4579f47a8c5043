package arpc_test

import (
	"strconv"
	"sync/atomic"
	"testing"

	"github.com/arpc-go/arpc"
	"github.com/arpc-go/arpc/arpctest"
	"github.com/stretchr/testify/require"
)

// suiteOrder is a handler whose first message waits. It notes the order, and
// whether two ever ran at the same time.
type suiteOrder struct {
	began, release chan struct{}
	order          chan int
	running        atomic.Int32
	overlapped     atomic.Bool
}

func newSuiteOrder() *suiteOrder {
	return &suiteOrder{began: make(chan struct{}), release: make(chan struct{}), order: make(chan int, 1000)}
}

func (o *suiteOrder) handle(ctx *arpc.Context) {
	if o.running.Add(1) > 1 {
		o.overlapped.Store(true)
	}
	defer o.running.Add(-1)
	var i int
	ctx.Bind(&i)
	if i == 0 {
		close(o.began)
		<-o.release
	}
	o.order <- i
	ctx.Write(i)
}

// requireOrdered sends 100 messages, of which the first waits, and requires that
// the others wait for it, while echoes do not.
func (o *suiteOrder) requireOrdered(t *testing.T, p *arpctest.Pair, send func(i int) error) {
	t.Helper()
	for i := range 100 {
		require.NoError(t, send(i))
	}
	suiteNext(t, o.began)
	suiteAlive(t, p)
	require.Empty(t, o.order, "the first has not returned")
	close(o.release)
	for i := range 100 {
		require.Equal(t, i, suiteNext(t, o.order))
	}
	require.False(t, o.overlapped.Load())
	suiteAlive(t, p)
}

// requireConcurrent is requireOrdered for what does not wait.
func (o *suiteOrder) requireConcurrent(t *testing.T, p *arpctest.Pair, send func(i int) error) {
	t.Helper()
	require.NoError(t, send(0))
	suiteNext(t, o.began)
	seen := make(map[int]bool)
	for i := 1; i < 100; i++ {
		require.NoError(t, send(i))
	}
	for range 99 {
		seen[suiteNext(t, o.order)] = true
	}
	require.Len(t, seen, 99)
	suiteAlive(t, p)
	close(o.release)
	require.Equal(t, 0, suiteNext(t, o.order))
}

// Which mode a route has, by how it is registered and by what is sent.
func TestSuiteModes(t *testing.T) {
	tests := map[string]struct {
		async          []bool // of Handle
		ordered        bool   // SetAsyncResponse(false)
		orderedRequest bool   // what is wanted
		orderedNotify  bool
	}{
		"default":                 {orderedNotify: true},
		"concurrent":              {async: []bool{true}},
		"ordered":                 {async: []bool{false}, orderedRequest: true, orderedNotify: true},
		"orderedByDefault":        {ordered: true, orderedRequest: true, orderedNotify: true},
		"concurrentNotTheDefault": {ordered: true, async: []bool{true}},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			arpctest.Each(t, func(t *testing.T, p *arpctest.Pair) {
				notified, requested := newSuiteOrder(), newSuiteOrder()
				p.Server.Handler.SetAsyncResponse(!test.ordered)
				p.Server.Handler.Handle("/notified", notified.handle, test.async...)
				p.Server.Handler.Handle("/requested", requested.handle, test.async...)
				check := map[bool]func(*suiteOrder, *testing.T, *arpctest.Pair, func(int) error){
					true:  (*suiteOrder).requireOrdered,
					false: (*suiteOrder).requireConcurrent,
				}
				check[test.orderedNotify](notified, t, p, func(i int) error {
					return p.Client.Notify("/notified", i, suitePatience)
				})
				check[test.orderedRequest](requested, t, p, func(i int) error {
					return p.Client.CallAsync("/requested", i, func(*arpc.Context) {}, suitePatience)
				})
			}, arpctest.Setup(suiteWithEcho))
		})
	}
}

// Ordered requests and notifications of all routes are in one order.
func TestSuiteOrderedRoutesShareTheOrder(t *testing.T) {
	arpctest.Each(t, func(t *testing.T, p *arpctest.Pair) {
		o := newSuiteOrder()
		for _, method := range []string{"/a", "/b", "/c"} {
			p.Server.Handler.Handle(method, o.handle, false)
		}
		o.requireOrdered(t, p, func(i int) error {
			switch i % 3 {
			case 0:
				return p.Client.Notify("/a", i, suitePatience)
			case 1:
				return p.Client.Notify("/b", i, suitePatience)
			}
			return p.Client.CallAsync("/c", i, func(*arpc.Context) {}, suitePatience)
		})
	}, arpctest.Setup(suiteWithEcho))
}

// The order holds for each connection, not between them.
func TestSuiteOrderIsPerConnection(t *testing.T) {
	arpctest.Each(t, func(t *testing.T, p *arpctest.Pair) {
		gate := newSuiteGate()
		p.Server.Handler.Handle("/wait", gate.handle)
		other := p.Dial()
		require.NoError(t, p.Client.Notify("/wait", nil, suitePatience))
		suiteNext(t, gate.began)
		require.NoError(t, other.Notify("/wait", nil, suitePatience))
		suiteNext(t, gate.began)
		close(gate.release)
	})
}

// A route that is slow at times keeps its order, and the answers of others.
func TestSuiteSlowNowAndThen(t *testing.T) {
	arpctest.Each(t, func(t *testing.T, p *arpctest.Pair) {
		got := make(chan int, 300)
		p.Server.Handler.Handle("/n", func(ctx *arpc.Context) {
			var i int
			ctx.Bind(&i)
			if i%50 == 25 { // over its own connection, which takes a while
				ctx.Client.Call("/echo", nil, nil, suitePatience)
			}
			got <- i
		})
		var outcomes []<-chan suiteOutcome
		for i := range cap(got) {
			require.NoError(t, p.Client.Notify("/n", i, suitePatience))
			outcomes = append(outcomes, suiteAsync(t, p.Client, "/echo", strconv.Itoa(i)))
		}
		for i, outcome := range outcomes {
			require.Equal(t, i, suiteNext(t, got))
			require.Equal(t, suiteOutcome{text: strconv.Itoa(i)}, suiteNext(t, outcome))
		}
	}, arpctest.Setup(suiteWithEcho))
}

// Handle may be called while messages arrive.
func TestSuiteHandleWhileServing(t *testing.T) {
	arpctest.Each(t, func(t *testing.T, p *arpctest.Pair) {
		for i := range 50 {
			method := "/new" + strconv.Itoa(i)
			require.ErrorIs(t, p.Client.Call(method, nil, nil, suitePatience), arpc.ErrMethodNotFound)
			p.Server.Handler.Handle(method, suiteEcho)
			require.NoError(t, p.Client.Call(method, nil, nil, suitePatience))
		}
	})
}
