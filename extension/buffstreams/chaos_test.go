package buffstreams_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/arpc-go/arpc/arpctest"
	"github.com/arpc-go/arpc/extension/buffstreams"
	"github.com/stretchr/testify/require"
)

// Connections that are cut anywhere, dials that fail, and reopening, at random, under
// three senders: each message is received, or handed over, or its Send failed, and
// only one of these.
func TestEveryMessageIsAccountedForWhateverHappens(t *testing.T) {
	for seed := range uint64(60) {
		synctest.Test(t, func(t *testing.T) {
			chaos := &chaos{rand: rand.New(rand.NewPCG(seed, 0)), n: newNetwork(), lost: newInbox()}
			retry := buffstreams.Retry{Attempts: []int{0, 1, 4, buffstreams.Forever}[seed%4]}
			chaos.c = chaos.n.connect(t, buffstreams.ConnConfig{SendQueue: 300, Retry: retry, Undelivered: chaos.lost.undelivered})
			accepted := chaos.run(t)
			chaos.n.mu.Lock()
			chaos.n.down, chaos.n.fault = nil, func(arpctest.Faults) {}
			chaos.n.mu.Unlock()
			if seed%3 == 0 {
				chaos.c.Flush(t.Context())
			}
			chaos.c.Close()
			<-chaos.c.Done()
			synctest.Wait()

			got, lost := chaos.n.in.all(), chaos.lost.all()
			require.ElementsMatch(t, accepted, append(slices.Clone(got), lost...), "seed %d", seed)
			stats := chaos.c.Stats()
			require.Len(t, got, int(stats.Sent))
			require.Len(t, lost, int(stats.Undelivered))
			require.Zero(t, stats.Queued)
			requireOrder(t, got)
			requireOrder(t, lost)
		})
	}
}

type chaos struct {
	n    *network
	lost *inbox
	c    *buffstreams.Conn

	mu   sync.Mutex
	rand *rand.Rand
}

func (ch *chaos) intN(n int) int {
	ch.mu.Lock()
	defer ch.mu.Unlock()
	return ch.rand.IntN(n)
}

func (ch *chaos) sleep() {
	if ms := ch.intN(40); ms > 20 {
		time.Sleep(time.Duration(ms) * time.Millisecond)
	}
}

// run sends and disturbs, and returns what was accepted.
func (ch *chaos) run(t *testing.T) (accepted []string) {
	var mu sync.Mutex
	var senders, disturber sync.WaitGroup
	for id := range 3 {
		senders.Go(func() {
			for n := range 60 {
				ch.sleep()
				message := fmt.Sprintf("%d %d ", id, n)
				message += message[:ch.intN(len(message))]
				if ch.c.Send(background, []byte(message)) == nil {
					mu.Lock()
					accepted = append(accepted, message)
					mu.Unlock()
				}
			}
		})
	}
	stop := make(chan struct{})
	disturber.Go(func() {
		for {
			select {
			case <-stop:
				return
			default:
				ch.disturb()
			}
		}
	})
	senders.Wait()
	close(stop)
	disturber.Wait()
	return accepted
}

func (ch *chaos) disturb() {
	time.Sleep(time.Duration(ch.intN(100)+1) * time.Millisecond)
	switch ch.intN(4) {
	case 0:
		arpctest.FaultsOf(ch.c.NetConn()).CutAfter(int64(ch.intN(60)))
	case 1:
		ch.n.mu.Lock()
		ch.n.down = []error{nil, errDown}[ch.intN(2)]
		ch.n.mu.Unlock()
	case 2:
		cut := int64(ch.intN(500))
		ch.n.mu.Lock()
		ch.n.fault = func(f arpctest.Faults) { f.CutAfter(cut) }
		ch.n.mu.Unlock()
	case 3:
		ch.c.Reopen()
	}
}

// requireOrder expects of each sender what it has sent in the order in which it has,
// and nothing twice.
func requireOrder(t *testing.T, messages []string) {
	t.Helper()
	last := [4]int{-1, -1, -1, -1}
	for _, message := range messages {
		words := strings.SplitN(message, " ", 3)
		id, err := strconv.Atoi(words[0])
		require.NoError(t, err)
		n, err := strconv.Atoi(words[1])
		require.NoError(t, err)
		if n <= last[id] {
			t.Fatalf("%q came behind number %d", message, last[id])
		}
		last[id] = n
	}
}

// A server that dies without notice, again and again, over sockets: what it was sent
// before may be lost with it, but what failed or was handed over has never arrived,
// and nothing arrives twice.
func TestWhatFailedHasNotArrived(t *testing.T) {
	for name, attempts := range map[string]int{"without Retry": 0, "with Retry": buffstreams.Forever} {
		t.Run(name, func(t *testing.T) {
			in, lost, failed := newInbox(), newInbox(), newInbox()
			server := newRestarted(t, in)
			c, err := buffstreams.Dial(t.Context(), buffstreams.ConnConfig{
				Address:      server.address,
				Retry:        buffstreams.Retry{Attempts: attempts, Base: time.Millisecond, Max: time.Millisecond},
				Undelivered:  lost.undelivered,
				WriteTimeout: long,
				DialTimeout:  long,
			})
			require.NoError(t, err)
			stop := keepSending(c, failed)
			for range 5 {
				in.wait(t, len(in.all())+500)
				server.restart(t)
			}
			total := stop()
			require.NoError(t, c.Shutdown(t.Context()))
			<-c.Done()
			require.NoError(t, server.l.Close())
			require.NoError(t, server.l.Wait())

			requireOrder(t, in.all())
			seen := map[string]bool{}
			for _, message := range slices.Concat(in.all(), lost.all(), failed.all()) {
				require.False(t, seen[message], "%s twice", message)
				seen[message] = true
			}
			stats := c.Stats()
			require.Len(t, lost.all(), int(stats.Undelivered))
			require.Equal(t, total, int(stats.Sent)+len(lost.all())+len(failed.all()))
		})
	}
}

// keepSending sends from four goroutines until stop, which returns how much that was.
func keepSending(c *buffstreams.Conn, failed *inbox) (stop func() int) {
	var total atomic.Int64
	var stopped atomic.Bool
	var all sync.WaitGroup
	for id := range 4 {
		all.Go(func() {
			for n := 0; !stopped.Load(); n++ {
				total.Add(1)
				message := fmt.Appendf(nil, "%d %d", id, n)
				if err := c.Send(background, message); err != nil {
					failed.add(message)
					c.Reopen()
				}
			}
		})
	}
	return func() int {
		stopped.Store(true)
		all.Wait()
		return int(total.Load())
	}
}

// restarted is a server on one port.
type restarted struct {
	address string
	in      *inbox
	l       *buffstreams.Listener
}

func newRestarted(t *testing.T, in *inbox) *restarted {
	s := &restarted{address: "127.0.0.1:0", in: in}
	s.start(t)
	s.address = s.l.Addr().String()
	return s
}

func (s *restarted) start(t *testing.T) {
	var err error
	s.l, err = buffstreams.Listen(buffstreams.ListenerConfig{Address: s.address, Callback: s.in.add})
	require.NoError(t, err)
	require.NoError(t, s.l.StartListeningAsync())
}

func (s *restarted) restart(t *testing.T) {
	require.NoError(t, s.l.Close())
	require.NoError(t, s.l.Wait())
	s.start(t)
}
