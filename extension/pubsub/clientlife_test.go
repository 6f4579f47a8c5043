package pubsub_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/arpc-go/arpc"
	"github.com/arpc-go/arpc/extension/pubsub"
	"github.com/arpc-go/arpc/extension/pubsub/internal/proto"
)

// loginBook has a server write down the credentials in hellos.
func loginBook(s *script, refuse func(credentials string) error) {
	s.server.Handler.HandleAuth(func(_ context.Context, _ *arpc.Client, credentials []byte) error {
		s.note(func() { s.logins = append(s.logins, "hello "+string(credentials)) })
		return refuse(string(credentials))
	})
}

func anybody(string) error { return nil }

func TestClientPasswordIsInEachHello(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s := newScript(t)
		loginBook(s, anybody)
		s.client(pubsub.WithPassword("secret"))
		s.cut()
		require.Equal(t, []string{"hello secret", "hello secret"}, look(s, &s.logins))
	})
}

func TestClientTokenIsAskedForAnew(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s := newScript(t)
		loginBook(s, anybody)
		n := 0
		s.client(pubsub.WithToken(func(context.Context) ([]byte, error) {
			n++
			return fmt.Append(nil, "token ", n), nil
		}))
		s.cut()
		require.Equal(t, []string{"hello token 1", "hello token 2"}, look(s, &s.logins))
		_, err := pubsub.NewClient(s.ln.Dial, pubsub.WithToken(func(context.Context) ([]byte, error) { return nil, errors.New("no token today") }))
		require.ErrorContains(t, err, "no token today")
	})
}

// A password that was set after NewClient goes with Authenticate, and from then on in
// each hello.
func TestClientAuthenticatesLater(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s := newScript(t)
		s.onLogin = func(password string) error {
			if password != "secret" {
				return arpc.NewError(arpc.CodeUnauthenticated, "invalid password")
			}
			return nil
		}
		loginBook(s, anybody)
		c := s.client()
		c.Password = "wrong"
		require.Equal(t, arpc.CodeUnauthenticated, arpc.CodeOf(c.Authenticate()))
		c.Password = "secret"
		require.NoError(t, c.Authenticate())
		s.cut()
		require.Equal(t, []string{"hello ", "wrong", "secret", "hello secret"}, look(s, &s.logins))
	})
}

func TestClientThatIsNotLetInAnyMoreEndsItsSubscriptions(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s := newScript(t)
		var locked atomic.Bool
		loginBook(s, func(string) error {
			if locked.Load() {
				return arpc.NewError(arpc.CodeUnauthenticated, "the token has expired")
			}
			return nil
		})
		c := s.client(pubsub.WithPassword("secret"))
		var d diary
		sub, err := c.SubscribeWith(within(t), "t", d.message, pubsub.OnEvent(d.event))
		require.NoError(t, err)
		synctest.Wait()
		locked.Store(true)
		s.peer().Stop()
		<-sub.Done()
		require.Equal(t, []string{"started true", "interrupted", "ended Unauthenticated"}, d.take())
		require.ErrorContains(t, sub.Err(), "the token has expired")
	})
}

func TestClientOptionsThatAreNoneOfAClient(t *testing.T) {
	_, err := pubsub.NewClient(func() (net.Conn, error) { return nil, errors.New("no server") }, pubsub.WithServerOptions())
	require.Equal(t, arpc.CodeInvalidArgument, arpc.CodeOf(err))
	require.ErrorContains(t, err, "WithServerOptions is an option of servers")
	_, err = pubsub.NewClient(func() (net.Conn, error) { return nil, errors.New("no server") })
	require.ErrorContains(t, err, "no server")
	require.Equal(t, "keep latest", pubsub.KeepLatest.String())
	require.Equal(t, "unknown policy", pubsub.Policy(99).String())
}

// Several clients may be made from one handler, which stays as it is.
func TestClientClonesTheHandlerItIsGiven(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s := newScript(t)
		h := arpc.NewHandler()
		h.Handle("own", func(ctx *arpc.Context) { ctx.Write("here") })
		for range 2 {
			s.client(pubsub.WithClientHandler(h))
			synctest.Wait()
			var answer string
			require.NoError(t, s.peer().Call("own", nil, &answer, time.Second))
			require.Equal(t, "here", answer)
		}
		require.Len(t, h.Routes(), 1)
	})
}

func TestClientStopWaitsForCallbacksAndDropsTheRest(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s := newScript(t)
		c := s.client()
		var d diary
		sub, err := c.SubscribeWith(within(t), "t", func(m *pubsub.Topic) {
			time.Sleep(time.Minute)
			d.message(m)
		})
		require.NoError(t, err)
		s.deliver(message("t", "one"), message("t", "two"))
		synctest.Wait()
		c.Stop()
		require.Equal(t, []string{"one"}, d.take())
		require.ErrorIs(t, sub.Err(), arpc.ErrClosed)
		require.ErrorIs(t, c.Subscribe("t", nothing, time.Second), arpc.ErrClosed)
		require.ErrorIs(t, c.Publish("t", "x", time.Second), arpc.ErrClosed)
		c.Stop()
		time.Sleep(time.Hour)
		require.Empty(t, d.take())
	})
}

func TestClientStopsInACallback(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s := newScript(t)
		c := s.client()
		stopped := make(chan struct{})
		require.NoError(t, c.Subscribe("t", func(*pubsub.Topic) {
			c.Stop()
			close(stopped)
		}, time.Second))
		s.deliver(message("t", "one"))
		<-stopped
	})
}

func TestClientShutdownWorksOffWhatHasCome(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s := newScript(t)
		c := s.client()
		var d, group diary
		slowly := func(d *diary) func(*pubsub.Topic) {
			return func(m *pubsub.Topic) {
				time.Sleep(time.Minute)
				d.message(m)
			}
		}
		require.NoError(t, c.Subscribe("t", slowly(&d), time.Second))
		_, err := c.SubscribeWith(within(t), "jobs", slowly(&group), pubsub.WithGroupAck("g", pubsub.GroupOptions{}))
		require.NoError(t, err)
		s.deliver(message("t", "one"), message("t", "two"))
		for tag := range uint64(2) {
			s.deliver(proto.Delivered[string]{Number: 2, Topic: "jobs", Tag: tag + 1, Data: fmt.Append(nil, tag+1)})
		}
		synctest.Wait()
		require.NoError(t, c.Shutdown(context.Background()))
		require.Equal(t, []string{"one", "two"}, d.take())
		require.Equal(t, []string{"1"}, group.take()) // the other one is for another member
		require.Equal(t, []proto.Settled{{Number: 2, Acknowledged: true, Tag: 1}}, look(s, &s.settled))
	})
}

func TestClientShutdownGivesUpWithItsContext(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s := newScript(t)
		c := s.client()
		require.NoError(t, c.Subscribe("t", func(*pubsub.Topic) { time.Sleep(time.Hour) }, time.Second))
		s.deliver(message("t", "one"))
		synctest.Wait()
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		require.ErrorIs(t, c.Shutdown(ctx), context.DeadlineExceeded)
		require.Equal(t, arpc.StateClosed, c.State())
		time.Sleep(time.Hour)
	})
}

// The embedded client may be stopped by itself.
func TestClientWhoseConnectionIsStoppedEndsItsSubscriptions(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s := newScript(t)
		c := s.client()
		var d diary
		sub, err := c.SubscribeWith(within(t), "t", d.message, pubsub.OnEvent(d.event))
		require.NoError(t, err)
		synctest.Wait()
		c.Client.Stop()
		<-sub.Done()
		require.ErrorIs(t, sub.Err(), arpc.ErrClosed)
		require.Equal(t, []string{"started true", "interrupted", "ended Unavailable"}, d.take())
	})
}
