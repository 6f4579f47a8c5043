package pubsub_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/arpc-go/arpc"
	"github.com/arpc-go/arpc/arpctest"
	"github.com/arpc-go/arpc/extension/pubsub"
	"github.com/arpc-go/arpc/extension/pubsub/internal/proto"
)

// Everything at the same time, over connections that are cut: nothing hangs, nothing
// panics, and nothing is left behind.
func TestClientUnderEverythingAtOnce(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s := serveMemory(t, kept(50))
		c := s.client(pubsub.WithClientOptions(arpc.WithWaitForReady(true)))
		ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
		defer cancel()
		var all sync.WaitGroup
		for i := range 20 {
			random := rand.New(rand.NewPCG(uint64(i), 1))
			all.Go(func() {
				for ctx.Err() == nil {
					useAtRandom(ctx, c, random)
					time.Sleep(time.Duration(random.Int64N(int64(time.Second))))
				}
			})
		}
		all.Go(func() {
			random := rand.New(rand.NewPCG(7, 7))
			for ctx.Err() == nil {
				time.Sleep(time.Duration(random.Int64N(int64(3 * time.Second))))
				arpctest.FaultsOf(c.Conn()).CutAfter(random.Int64N(200))
			}
		})
		all.Wait()
		for _, sub := range c.Statistics().Subscriptions {
			if sub.Group == "" {
				require.NoError(t, ignoreNotFound(c.Unsubscribe(sub.Filter, patience)))
			}
		}
		time.Sleep(time.Minute)
		synctest.Wait()
		_, err := c.PublishWith(within(t), "t", "still here", pubsub.WithMessageID("a cut may be due still"))
		require.NoError(t, err)
		synctest.Wait()
		require.Zero(t, pubsub.TablesOf(c))
		require.Zero(t, s.Statistics().Subscriptions)
	})
}

func ignoreNotFound(err error) error {
	if arpc.CodeOf(err) == arpc.CodeNotFound {
		return nil
	}
	return err
}

func useAtRandom(ctx context.Context, c *pubsub.Client, random *rand.Rand) {
	topic := fmt.Sprint("t", random.IntN(4))
	short, cancel := context.WithTimeout(ctx, time.Duration(1+random.Int64N(int64(2*time.Second))))
	defer cancel()
	switch random.IntN(6) {
	case 0:
		c.Subscribe(topic, func(m *pubsub.Topic) { time.Sleep(time.Millisecond) }, time.Second)
	case 1:
		c.Unsubscribe(topic, time.Second)
	case 2:
		c.PublishWith(short, topic, "x", pubsub.WithMessageID(fmt.Sprint(random.Uint64())))
	case 3:
		c.PublishWith(short, topic, "x", pubsub.NoAck())
	case 4:
		sub, err := c.SubscribeWith(short, topic, func(m *pubsub.Topic) { m.Nak() }, pubsub.WithGroupAck(fmt.Sprint(random.IntN(3)), pubsub.GroupOptions{}))
		if err == nil {
			sub.Unsubscribe(ctx)
		}
	case 5:
		for _, err := range c.SubscribeSeq(short, ">") {
			if err != nil {
				break
			}
		}
	}
}

// Who leaves and comes again at once does not meet himself.
func TestClientSubscribesAgainWhileTheServerForgets(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s := newScript(t)
		refusals := 2
		s.onOpen = func(proto.Opening) (proto.Opened, error) {
			if refusals--; refusals >= 0 {
				return proto.Opened{}, arpc.NewError(arpc.CodeAlreadyExists, "there is one")
			}
			return proto.Opened{}, nil
		}
		c := s.client()
		require.NoError(t, c.Subscribe("t", nothing, time.Minute))
		require.Len(t, s.asked(), 3)
	})
}

func TestClientInlineCallbacks(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s := newScript(t)
		c := s.client()
		var d diary
		sub, err := c.SubscribeWith(within(t), "t", func(m *pubsub.Topic) {
			d.message(m)
			switch string(m.Data) {
			case "panic":
				panic("boom")
			case "leave":
				d.add("%v", errors.Is(c.Unsubscribe("t", time.Second), nil))
			}
		}, pubsub.WithInline(), pubsub.OnEvent(d.event), pubsub.WithWindow(4, 1<<20))
		require.NoError(t, err)
		synctest.Wait()
		for _, text := range []string{"1", "2", "panic", "3", "leave", "4"} {
			s.deliver(message("t", text))
		}
		require.Equal(t, []string{"started true", "1", "2", "panic", "3", "leave", "true"}, d.take())
		<-sub.Done()
		require.Equal(t, uint64(1), c.Statistics().Panics)
		require.Len(t, look(s, &s.credits), 2)
	})
}
