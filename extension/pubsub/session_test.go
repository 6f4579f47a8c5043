package pubsub_test

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/arpc-go/arpc"
	"github.com/arpc-go/arpc/extension/pubsub"
	"github.com/arpc-go/arpc/extension/pubsub/internal/proto"
	"github.com/stretchr/testify/require"
)

// Row 32: nothing is left of a connection that has ended, in whatever state it was.
func TestRow32NothingIsLeftOfAConnection(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		b := &countingBroker{Broker: remembering(1000)}
		s := serveMemory(t, pubsub.WithBroker(b), pubsub.WithServerOptions(arpc.WithSendQueue(10, 1<<20), arpc.WithWriteTimeout(0)))
		s.publishNumbers("kept.a", 1, 500)
		watcher := s.peer()
		watcher.mustOpen(proto.Opening{Number: 1, Filter: "present.*", Events: true})
		run := func() {
			p, old := s.peer(), s.oldPeer()
			p.subscribe(1, "a")
			p.subscribe(2, "a.*")
			p.mustOpen(proto.Opening{Number: 3, Filter: "kept.a", Start: proto.StartAll, WindowMessages: 1, WindowBytes: wide})
			p.mustOpen(proto.Opening{Number: 4, Filter: "a", Group: "g"})
			p.mustOpen(proto.Opening{Number: 5, Filter: "kept.b", Group: "g", Ack: true})
			p.mustOpen(proto.Opening{Number: 6, Filter: "present.a", MemberID: "me", Events: true})
			p.mustOpen(proto.Opening{Number: 7, Filter: "b", Policy: proto.PolicyBlock, WindowMessages: 1, WindowBytes: wide})
			will := proto.Publication[string]{Topic: "wills", Data: []byte("gone")}
			require.NoError(t, p.Call(proto.Will, will.Append(nil), nil, time.Minute))
			require.NoError(t, old.old(proto.Subscribe, "a", ""))
			s.mustPublish("kept.b", "1", "2")
			s.faultsTo(p).Stall()
			s.faultsTo(old).Stall()
			large := string(make([]byte, 8<<10))
			for range 40 {
				s.mustPublish("a", large) // so that the pump is at work
			}
			synctest.Wait()
			s.faultsTo(p).Cut()
			s.faultsTo(old).Cut()
			p.Stop()
			old.Stop()
			time.Sleep(time.Second)
			synctest.Wait()
		}
		run()
		goroutines := runtime.NumGoroutine()
		for range 20 {
			run()
		}
		require.LessOrEqual(t, runtime.NumGoroutine(), goroutines)
		require.Equal(t, int64(1), b.held.Load())
		now := s.Statistics()
		require.Equal(t, []int{1, 1, 0, 0, 0, 0}, []int{now.Server.Connections, now.Subscriptions, now.GroupMembers, now.Replays, now.Queued, now.Present})
		require.Equal(t, 1, now.Filters)
		require.Equal(t, uint64(21), now.Wills)
		require.Equal(t, with("started at 500", times(21, "joined me  of present.a", "left me  of present.a")), watcher.take())
	})
}

// countingBroker counts what is watched and joined and not given back.
type countingBroker struct {
	pubsub.Broker
	held atomic.Int64
}

func (b *countingBroker) Watch(filter string, w pubsub.Watcher) (func(), error) {
	stop, err := b.Broker.Watch(filter, w)
	if err != nil {
		return nil, err
	}
	return b.hold(stop), nil
}

func (b *countingBroker) Join(filter, group string, o pubsub.GroupOptions, m pubsub.Member) (func(), error) {
	leave, err := b.Broker.Join(filter, group, o, m)
	if err != nil {
		return nil, err
	}
	return b.hold(leave), nil
}

func (b *countingBroker) hold(end func()) func() {
	b.held.Add(1)
	return func() {
		end()
		b.held.Add(-1)
	}
}

func times(n int, texts ...string) (all []string) {
	for range n {
		all = append(all, texts...)
	}
	return all
}

// slowBroker does what it is asked for when it is let go.
type slowBroker struct {
	pubsub.Broker
	asked, let chan struct{}
	err        error
}

func newSlowBroker() *slowBroker {
	return &slowBroker{Broker: pubsub.NewMemoryBroker(), asked: make(chan struct{}, 100), let: make(chan struct{})}
}

func (b *slowBroker) wait() error {
	b.asked <- struct{}{}
	<-b.let
	return b.err
}

func (b *slowBroker) Publish(ctx context.Context, m *pubsub.Message) (pubsub.Position, error) {
	if err := b.wait(); err != nil {
		return pubsub.Position{}, err
	}
	return b.Broker.Publish(ctx, m)
}

func (b *slowBroker) Watch(filter string, w pubsub.Watcher) (func(), error) {
	if err := b.wait(); err != nil {
		return nil, err
	}
	return b.Broker.Watch(filter, w)
}

// Row 47: the answer comes when the Broker has accepted the message, and says if it has
// not.
func TestRow47PublishingIsAcknowledgedWhenItIsDone(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		b := newSlowBroker()
		s := serveMemory(t, pubsub.WithBroker(b))
		publishers := map[string]func(*peer) error{
			"new": func(p *peer) error { return p.publish("a", "b") },
			"old": func(p *peer) error { return p.old(proto.Publish, "a", "b") },
		}
		for name, publish := range publishers {
			done := make(chan error, 1)
			p := s.peer()
			go func() { done <- publish(p) }()
			<-b.asked
			time.Sleep(time.Second)
			require.Empty(t, done, name)
			b.let <- struct{}{}
			require.NoError(t, <-done)

			b.err = errors.New("the disk is full")
			go func() { done <- publish(p) }()
			<-b.asked
			b.let <- struct{}{}
			require.ErrorContains(t, <-done, "the disk is full")
			b.err = nil
		}
		require.Equal(t, uint64(2), s.Statistics().Published)
	})
}

// What is opened while the connection ends is closed again.
func TestAConnectionThatEndsWhileItSubscribesLeavesNothing(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		b := newSlowBroker()
		s := serveMemory(t, pubsub.WithBroker(b))
		for _, open := range []func(*peer){
			func(p *peer) { p.open(proto.Opening{Number: 1, Filter: "a"}) },
			func(p *peer) { p.old(proto.Subscribe, "a", "") },
			func(p *peer) { // which gives up, and stays
				ctx, cancel := context.WithTimeout(t.Context(), time.Second)
				defer cancel()
				o := proto.Opening{Number: 1, Filter: "a"}
				p.CallWith(ctx, proto.Open, o.Append(nil), nil)
			},
		} {
			p := s.peer()
			go open(p)
			<-b.asked
			time.Sleep(2 * time.Second)
			if open != nil {
				p.Stop()
			}
			b.let <- struct{}{}
			synctest.Wait()
			require.Zero(t, s.Statistics().Subscriptions)
			require.Zero(t, s.Statistics().Filters)
		}
	})
}

// Many who subscribe to the same filter at the same time watch it once, and hear of it
// when that fails.
func TestAFilterIsWatchedOnce(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		b := newSlowBroker()
		s := serveMemory(t, pubsub.WithBroker(b))
		b.err = errAway
		done := make(chan error, 10)
		open := func() {
			p := s.peer()
			_, err := p.open(proto.Opening{Number: 1, Filter: "a"})
			done <- err
		}
		for range 10 {
			go open()
		}
		synctest.Wait()
		require.Len(t, b.asked, 1)
		close(b.let)
		for range 10 {
			require.ErrorContains(t, <-done, errAway.Error())
		}
		require.Zero(t, s.Statistics().Filters)
		b.err = nil
		for range 10 {
			go open()
		}
		for range 10 {
			require.NoError(t, <-done)
		}
		require.Equal(t, 1, s.Statistics().Filters)
		s.Stop()
		require.Zero(t, s.Statistics().Filters)
	})
}

func TestAWillIsPublishedWhenTheConnectionIsLost(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		s := serveMemory(t)
		watcher := s.peer()
		watcher.subscribe(1, "wills")
		will := func(p *peer, data string) {
			t.Helper()
			m := proto.Publication[string]{Topic: "wills", Data: []byte(data)}
			require.NoError(t, p.Call(proto.Will, m.Append(nil), nil, time.Minute))
		}
		p := s.peer()
		will(p, "first")
		will(p, "second")
		s.faultsTo(p).Cut()
		require.Equal(t, []string{"wills second"}, watcher.take())

		p = s.peer()
		m := proto.Publication[string]{ToOne: true, Topic: "wills", Data: []byte("to one")}
		require.NoError(t, p.Call(proto.Will, m.Append(nil), nil, time.Minute))
		p.Stop()
		require.Equal(t, []string{"wills to one for 1"}, watcher.take())

		p = s.peer()
		will(p, "taken back")
		require.NoError(t, p.Call(proto.Will, nil, nil, time.Minute))
		p.Stop()
		require.Empty(t, watcher.take())
		require.Equal(t, uint64(2), s.Statistics().Wills)
	})
}

// It is not the clients who are gone.
func TestAServerThatEndsPublishesNoWills(t *testing.T) {
	for name, end := range map[string]func(*served){"Stop": func(s *served) { s.Stop() }, "Shutdown": func(s *served) { s.Shutdown(context.Background()) }} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *testing.T) {
				b := remembering(10)
				s := serveMemory(t, pubsub.WithBroker(b))
				p := s.peer()
				m := proto.Publication[string]{Topic: "kept.wills", Data: []byte("gone")}
				require.NoError(t, p.Call(proto.Will, m.Append(nil), nil, time.Minute))
				end(s)
				synctest.Wait()
				page, err := b.Read(t.Context(), ">", pubsub.Start{Kind: pubsub.StartAll}, 10)
				require.NoError(t, err)
				require.Empty(t, page.Messages)
			})
		})
	}
}

// Clients are told to go elsewhere before the connection goes away.
func TestShutdownEndsSubscriptions(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		s := serveMemory(t, pubsub.WithBroker(remembering(10)))
		p, member, old := s.peer(), s.peer(), s.oldPeer()
		p.subscribe(1, "a")
		p.mustOpen(proto.Opening{Number: 2, Filter: "kept.a", Start: proto.StartAll})
		member.join(proto.Opening{Ack: true})
		require.NoError(t, old.old(proto.Subscribe, "a", ""))
		s.mustPublish("a", "1")
		s.mustPublish("kept.a", "2")
		require.NoError(t, s.Shutdown(context.Background()))
		require.NoError(t, s.Shutdown(context.Background()))
		require.ElementsMatch(t, []string{"a 1", "started", "kept.a 2 at 1", "ended Unavailable", "ended Unavailable"}, p.take())
		require.Equal(t, []string{"ended Unavailable"}, member.take())
		require.Equal(t, []string{"old a 1"}, old.take())
		require.Zero(t, s.Statistics().Subscriptions)
		require.ErrorIs(t, s.Publish("a", "b"), arpc.ErrServerClosed)
	})
}

func TestNothingIsOpenedWhileTheServerGoes(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		s := serveMemory(t)
		s.Handler.Handle("/work", func(ctx *arpc.Context) {
			time.Sleep(5 * time.Second)
			ctx.Write(nil)
		})
		p := s.peer()
		p.subscribe(1, "a")
		work := make(chan error, 1)
		go func() { work <- p.Call("/work", nil, nil, time.Minute) }()
		time.Sleep(time.Second)
		old := s.oldPeer()
		go s.Shutdown(context.Background())
		synctest.Wait()
		require.Error(t, old.old(proto.Subscribe, "a", ""))
		require.NoError(t, <-work)
		require.Zero(t, s.Statistics().Subscriptions)
	})
}

func TestStopMayBeCalledFromHandlersAndHooks(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		s := serveMemory(t)
		s.Handler.Handle("/stop", func(*arpc.Context) { s.Stop() })
		p := s.peer()
		require.Error(t, p.Call("/stop", nil, nil, time.Minute))
		s.Stop()

		s = serveMemory(t)
		stopped := make(chan struct{})
		s.HandleSlow(func(pubsub.SlowConsumer) {
			s.Stop()
			close(stopped)
		})
		p = s.peer()
		p.slowed(proto.PolicyDropOldest, 1, 1)
		for i := range 5 {
			s.Publish("a", fmt.Sprint(i))
		}
		<-stopped
		require.NoError(t, s.Shutdown(context.Background()))
	})
}

func TestHandlersMayPublish(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		s := serveMemory(t)
		s.Handler.Handle("/say", func(ctx *arpc.Context) {
			if err := s.Publish("said", string(ctx.Body())); err != nil {
				ctx.Error(err)
				return
			}
			ctx.Write(nil)
		})
		s.Handler.HandleDisconnected(func(*arpc.Client) { s.Publish("said", "bye") })
		p, q := s.peer(), s.peer()
		p.subscribe(1, "said")
		require.NoError(t, q.Call("/say", "hello", nil, time.Minute))
		q.Stop()
		require.Equal(t, []string{"said hello", "said bye"}, p.take())
	})
}

// A value is encoded as calls encode it, and bytes may be reused.
func TestValuesAreEncodedAsInCalls(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		s := serveMemory(t)
		p := s.peer()
		p.slowed(proto.PolicyDropOldest, 0, 100)
		b := []byte("bytes")
		s.mustPublish("a", "text")
		require.NoError(t, s.Publish("a", b))
		require.NoError(t, s.Publish("a", &b))
		clear(b)
		require.NoError(t, s.Publish("a", nil))
		require.NoError(t, s.Publish("a", map[string]int{"n": 1}))
		require.Equal(t, arpc.CodeInternal, arpc.CodeOf(s.Publish("a", make(chan int))))
		p.consume(1, 10)
		require.Equal(t, []string{"a text", "a bytes", "a bytes", "a ", `a {"n":1}`}, p.take())
	})
}

func TestMessagesHaveALimit(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		s := serveMemory(t, pubsub.WithServerOptions(arpc.WithMaxBodyLen(10_000)))
		p := s.peer()
		p.subscribe(1, ">")
		err := s.Publish("a", make([]byte, 9_990))
		require.Equal(t, arpc.CodeResourceExhausted, arpc.CodeOf(err))
		require.ErrorContains(t, err, "WithMaxBodyLen")
		require.NoError(t, s.Publish("a", make([]byte, 7_000)))
		require.Len(t, p.take(), 1)
	})
}
