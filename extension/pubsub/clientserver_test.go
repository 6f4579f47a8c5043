package pubsub_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/arpc-go/arpc"
	"github.com/arpc-go/arpc/arpctest"
	"github.com/arpc-go/arpc/extension/pubsub"
)

// client returns a client of a server in memory, which is stopped at the end.
func (s *served) client(opts ...pubsub.Option) *pubsub.Client {
	s.t.Helper()
	c, err := pubsub.NewClient(s.dial, opts...)
	require.NoError(s.t, err)
	s.t.Cleanup(c.Stop)
	return c
}

func kept(messages int) pubsub.Option {
	return pubsub.WithBroker(pubsub.NewMemoryBroker(pubsub.WithHistory(">", pubsub.History{Messages: messages})))
}

func TestClientAndServer(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s := serveMemory(t, pubsub.WithPassword("secret"))
		c := s.client(pubsub.WithPassword("secret"))
		var d, wild diary
		require.NoError(t, c.Subscribe("orders.created", d.message, time.Second))
		_, err := c.SubscribeWith(within(t), "orders.*", wild.message)
		require.NoError(t, err)
		publisher := s.client()
		publisher.Password = "wrong"
		require.Equal(t, arpc.CodeUnauthenticated, arpc.CodeOf(publisher.Authenticate()))
		require.Error(t, publisher.Publish("orders.created", "x", time.Second))
		publisher.Password = "secret"
		publisher, err = pubsub.NewClient(s.dial)
		require.NoError(t, err)
		defer publisher.Stop()
		publisher.Password = "secret"
		require.NoError(t, publisher.Authenticate())
		require.NoError(t, publisher.Publish("orders.created", "from a client", time.Second))
		require.NoError(t, s.Publish("orders.created", "from the server"))
		require.NoError(t, publisher.PublishToOne("orders.created", "to one", time.Second))
		synctest.Wait()
		require.Len(t, append(d.take(), wild.take()...), 5)
	})
}

// Random cuts: of both directions, at any byte, also while subscribing and before any
// message. With a history that is long enough everybody sees each message once and in
// order, and is told so.
func TestClientRecoversAfterRandomCuts(t *testing.T) {
	for seed := range uint64(cutRuns) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			bubble(t, func(t *testing.T) { randomCuts(t, seed, 0) })
		})
	}
}

// With one that is too short a gap is never silent, and nobody is told of one that is
// none.
func TestClientIsToldOfEachGapAfterRandomCuts(t *testing.T) {
	for seed := range uint64(cutRuns / 4) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			bubble(t, func(t *testing.T) { randomCuts(t, seed, 3) })
		})
	}
}

// randomCuts publishes to subscribers whose connections are cut. With short, which is
// the length of the history, messages may be missing where a subscriber is told.
func randomCuts(t *testing.T, seed uint64, short int) {
	const messages = 60
	random, dialling := rand.New(rand.NewPCG(seed, seed)), rand.New(rand.NewPCG(seed, 0))
	var mu sync.Mutex // of dialling and calm
	calm := false
	history := 10 * messages
	if short > 0 {
		history = short
	}
	s := serveMemory(t, kept(history))
	dial := func() (net.Conn, error) {
		nc, err := s.dial()
		if err == nil {
			mu.Lock()
			defer mu.Unlock()
			if !calm {
				faults := arpctest.FaultsOf(nc)
				faults.CutAfter(dialling.Int64N(900))
				faults.Split(1 + dialling.IntN(200))
				faults.ShortWrites(1 + dialling.IntN(200))
			}
		}
		return nc, err
	}
	filters := []string{"a.b", "a.*", ">"}
	books := make([]book, 2*len(filters))
	var clients []*pubsub.Client
	var subscribed sync.WaitGroup
	for i := range books {
		c := dialUntilItWorks(t, dial)
		clients = append(clients, c)
		subscribed.Go(func() {
			opts := []pubsub.SubscribeOption{pubsub.OnEvent(books[i].event)}
			if i%2 == 1 {
				opts = append(opts, pubsub.WithWindow(3, 1<<20))
			}
			_, err := c.SubscribeWith(context.Background(), filters[i/2], books[i].message, opts...)
			if err != nil {
				t.Error(err)
			}
		})
	}
	subscribed.Wait()
	for i := range messages {
		_, err := s.PublishWith(t.Context(), "a.b", fmt.Append(nil, i))
		require.NoError(t, err)
		time.Sleep(time.Duration(random.Int64N(int64(200 * time.Millisecond))))
		if random.IntN(4) == 0 {
			cutOne(clients[random.IntN(len(clients))].Client, random)
		}
		if peers := s.Clients(); len(peers) > 0 && random.IntN(4) == 0 {
			cutOne(peers[random.IntN(len(peers))], random)
		}
	}
	mu.Lock()
	calm = true
	mu.Unlock()
	time.Sleep(time.Minute)
	synctest.Wait()
	for i, c := range clients {
		t.Logf("%d: %+v", i, c.Statistics())
		c.Stop()
	}
	for i := range books {
		books[i].check(t, messages, short > 0)
	}
}

// cutOne cuts the connection of either end, when that has written some more bytes.
func cutOne(c *arpc.Client, random *rand.Rand) {
	arpctest.FaultsOf(c.Conn()).CutAfter(random.Int64N(300))
}

func dialUntilItWorks(t *testing.T, dial arpc.DialerFunc) *pubsub.Client {
	for range 100 {
		if c, err := pubsub.NewClient(dial); err == nil {
			return c
		}
	}
	t.Fatal("never connected")
	return nil
}

// book is what a subscriber has got.
type book struct {
	mu   sync.Mutex
	next int  // the message that is due
	told bool // since the last message, that something may be missing
	bad  []string
	cuts int
	gaps int
}

func (b *book) message(m *pubsub.Topic) {
	var i int
	fmt.Sscan(string(m.Data), &i)
	b.mu.Lock()
	defer b.mu.Unlock()
	switch {
	case i < b.next:
		b.bad = append(b.bad, fmt.Sprintf("%d again, or late, for %d", i, b.next))
	case i > b.next && !b.told:
		b.bad = append(b.bad, fmt.Sprintf("%d for %d, and nobody said so", i, b.next))
	case i == b.next && b.told:
		b.bad = append(b.bad, fmt.Sprintf("nothing is missing before %d, but somebody said so", i))
	}
	b.next, b.told = i+1, false
}

func (b *book) event(e pubsub.Event) {
	b.mu.Lock()
	defer b.mu.Unlock()
	switch e.Kind {
	case pubsub.EventStarted:
		if !e.Recovered {
			b.told = true
			b.gaps++
		}
	case pubsub.EventInterrupted:
		b.cuts++
	case pubsub.EventGap, pubsub.EventEnded, pubsub.EventResumed:
		b.bad = append(b.bad, e.Kind.String())
	}
}

func (b *book) check(t *testing.T, messages int, gaps bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	require.Empty(t, b.bad)
	if !gaps {
		require.Zero(t, b.gaps)
	}
	if !b.told {
		require.Equal(t, messages, b.next)
	}
}

// A queue group whose members come and go handles each message, and none that is
// acknowledged again.
func TestClientGroupSurvivesItsMembers(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s := serveMemory(t, kept(1000))
		var mu sync.Mutex
		done := make(map[string]int)
		var refused atomic.Int32
		join := func() *pubsub.Client {
			c, err := pubsub.NewClient(s.dial)
			require.NoError(t, err)
			_, err = c.SubscribeWith(within(t), "jobs", func(m *pubsub.Topic) {
				if m.Attempt == 1 && len(m.Data)%2 == 0 {
					refused.Add(1)
					panic("not at the first time")
				}
				time.Sleep(10 * time.Millisecond)
				mu.Lock()
				done[string(m.Data)]++
				mu.Unlock()
			}, pubsub.WithGroupAck("workers", pubsub.GroupOptions{AckWait: time.Second, MaxPending: 5}))
			require.NoError(t, err)
			return c
		}
		members := []*pubsub.Client{join(), join(), join()}
		const jobs = 120
		for i := range jobs {
			_, err := s.PublishWith(t.Context(), "jobs", fmt.Append(nil, i))
			require.NoError(t, err)
			if i%20 == 10 {
				members[i/20%3].Client.Stop()
				members[i/20%3] = join()
			}
			time.Sleep(time.Millisecond)
		}
		time.Sleep(time.Minute)
		synctest.Wait()
		mu.Lock()
		require.Len(t, done, jobs)
		mu.Unlock()
		require.NotZero(t, refused.Load())
		for _, c := range members {
			c.Stop()
		}
	})
}

func TestServerSubscribesInItsOwnProcess(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s := serveMemory(t, pubsub.WithPassword("secret"), pubsub.WithAccess(pubsub.NewRules()))
		var got []order
		sub, err := created.Subscribe(within(t), s, func(v *order, _ *pubsub.Topic) { got = append(got, *v) })
		require.NoError(t, err)
		_, err = created.Publish(within(t), s, &order{ID: 7})
		require.NoError(t, err)
		synctest.Wait()
		require.Equal(t, []order{{7}}, got)
		require.NoError(t, sub.Unsubscribe(within(t)))
		synctest.Wait()
		require.Empty(t, s.Clients())

		var d diary
		sub, err = s.SubscribeWith(within(t), ">", d.message, pubsub.OnEvent(d.event))
		require.NoError(t, err)
		_, err = s.SubscribeWith(within(t), "a.>.b", d.message)
		require.Equal(t, arpc.CodeInvalidArgument, arpc.CodeOf(err))
		synctest.Wait()
		s.Stop()
		<-sub.Done()
		require.ErrorIs(t, sub.Err(), arpc.ErrClosed)
		_, err = s.SubscribeWith(within(t), "t", d.message)
		require.ErrorIs(t, err, arpc.ErrServerClosed)
	})
}

// A server that goes away while its clients have subscribed, and one that takes its
// place over the same Broker, lose nothing.
func TestClientsMoveWithTheirServer(t *testing.T) {
	bubble(t, func(t *testing.T) {
		broker := pubsub.NewMemoryBroker(pubsub.WithHistory(">", pubsub.History{Messages: 1000}))
		defer broker.Close()
		at := new(site)
		start := func() *pubsub.Server {
			ln := arpctest.ListenMemory()
			s := pubsub.NewServer(pubsub.WithBroker(broker))
			go s.Serve(ln)
			at.set(ln)
			return s
		}
		s := start()
		c, err := pubsub.NewClient(at.dial)
		require.NoError(t, err)
		defer c.Stop()
		var b book
		_, err = c.SubscribeWith(within(t), "t", b.message, pubsub.OnEvent(b.event))
		require.NoError(t, err)
		const messages = 100
		for i := range messages {
			_, err := s.PublishWith(t.Context(), "t", fmt.Append(nil, i))
			require.NoError(t, err)
			if i%20 == 10 {
				old := s
				s = start()
				go old.Shutdown(t.Context())
			}
			time.Sleep(10 * time.Millisecond)
		}
		time.Sleep(time.Minute)
		b.check(t, messages, false)
		require.NotZero(t, b.cuts)
		s.Stop()
	})
}
