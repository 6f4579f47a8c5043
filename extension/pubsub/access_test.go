package pubsub_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/arpc-go/arpc"
	"github.com/arpc-go/arpc/extension/pubsub"
	"github.com/arpc-go/arpc/extension/pubsub/internal/proto"
	"github.com/stretchr/testify/require"
)

func withCredentials(text string) arpc.Option {
	return arpc.WithCredentials(func(context.Context) ([]byte, error) { return []byte(text), nil })
}

// Row 17: who is not let in is told so, whatever it asks for, old peers too.
func TestRow17UnauthenticatedRequestsAreAnswered(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		s := serveMemory(t, pubsub.WithPassword("secret"))
		s.Handler.Handle("/other", func(ctx *arpc.Context) { ctx.Write("served") })
		s.Handler.HandleStream("/stream", func(stream *arpc.Stream) { stream.Send("served") })
		for _, p := range []*peer{s.peer(), s.oldPeer()} {
			for _, method := range []string{
				"/other", proto.Subscribe, proto.Unsubscribe, proto.Publish, proto.PublishToOne, proto.Open, proto.Close,
				proto.Send, proto.Will, proto.Presence, proto.Credit, proto.Settle,
			} {
				err := p.Call(method, oldTopic("a", ""), nil, time.Minute)
				require.ErrorContains(t, err, "authenticate", method)
				if p.Peer().Version == 2 {
					require.Equal(t, arpc.CodeUnauthenticated, arpc.CodeOf(err))
				}
			}
			stream, err := p.OpenStream(t.Context(), "/stream")
			require.NoError(t, err)
			require.NoError(t, stream.CloseSend())
			require.Error(t, stream.Recv(new(string)))

			require.NoError(t, s.Broadcast("ps.note", "not for them"))
			require.Empty(t, s.Clients())
			require.EqualError(t, p.Call(proto.Authenticate, "wrong", nil, time.Minute), "invalid password")
			require.NoError(t, p.Call(proto.Authenticate, "secret", nil, time.Minute))
			require.NoError(t, p.old(proto.Subscribe, "a", ""))
			require.NoError(t, p.Call("/other", nil, nil, time.Minute))
			require.Len(t, s.Clients(), 1)
			s.mustPublish("a", "b")
			require.Equal(t, []string{"old a b"}, p.take())
			p.Stop()
			synctest.Wait()
		}
	})
}

func TestThePasswordTravelsInTheHello(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		s := serveMemory(t, pubsub.WithPassword("secret"))
		s.peer(withCredentials("secret")).subscribe(1, "a")

		_, err := arpc.NewClient(s.dial, withCredentials("wrong"))
		require.Equal(t, arpc.CodeUnauthenticated, arpc.CodeOf(err))
		require.ErrorContains(t, err, "invalid password")
	})
}

func TestWhoDoesNotAuthenticateIsCut(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		s := serveMemory(t, pubsub.WithPassword("secret"), pubsub.WithAuthTimeout(3*time.Second))
		late, old, inTime := s.peer(), s.oldPeer(), s.peer()
		silent, err := s.dial()
		require.NoError(t, err)
		defer silent.Close()
		time.Sleep(2 * time.Second)
		require.NoError(t, inTime.Call(proto.Authenticate, "secret", nil, time.Minute))
		require.Equal(t, arpc.StateConnected, late.State())
		time.Sleep(2 * time.Second)
		synctest.Wait()
		require.Equal(t, arpc.StateClosed, late.State())
		require.Equal(t, arpc.StateClosed, old.State())
		_, err = silent.Read(make([]byte, 1))
		require.Error(t, err)
		require.Equal(t, arpc.StateConnected, inTime.State())
	})
}

func TestWhoGuessesPasswordsIsCut(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		p := serveMemory(t, pubsub.WithPassword("secret")).peer()
		for i := range 9 {
			require.EqualError(t, p.Call(proto.Authenticate, fmt.Sprint(i), nil, time.Minute), "invalid password")
		}
		synctest.Wait()
		require.Equal(t, arpc.StateConnected, p.State())
		require.Error(t, p.Call(proto.Authenticate, "9", nil, time.Minute))
		synctest.Wait()
		require.Equal(t, arpc.StateClosed, p.State())
	})
}

func TestAnAuthenticatorSaysWhoSomebodyIs(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		asked := 0
		s := serveMemory(t, pubsub.WithAuthenticator(func(_ context.Context, _ *arpc.Client, credentials []byte) (any, error) {
			asked++
			switch string(credentials) {
			case "":
				return nil, errors.New("who are you?")
			case "later":
				return nil, arpc.NewError(arpc.CodeUnavailable, "not today")
			}
			return string(credentials), nil
		}))
		s.Handler.Handle("/whoami", func(ctx *arpc.Context) { ctx.Write(fmt.Sprint(ctx.Client.Identity())) })
		var name string
		p := s.peer(withCredentials("ann"))
		require.NoError(t, p.Call("/whoami", nil, &name, time.Minute))
		require.Equal(t, "ann", name)

		p = s.peer() // it is let in later
		require.Equal(t, 2, asked)
		require.Equal(t, arpc.CodeUnavailable, arpc.CodeOf(p.Call(proto.Authenticate, "later", nil, time.Minute)))
		require.EqualError(t, p.Call(proto.Authenticate, "", nil, time.Minute), "who are you?")
		require.NoError(t, p.Call(proto.Authenticate, "bob", nil, time.Minute))
		require.NoError(t, p.Call("/whoami", nil, &name, time.Minute))
		require.Equal(t, "bob", name)
	})
}

// A route that was there before would not be behind the gate.
func TestRoutesFromBeforeAreAnErrorWhereClientsAuthenticate(t *testing.T) {
	h := arpc.NewHandler()
	h.Handle("/early", func(ctx *arpc.Context) { ctx.Write("served") })
	s := pubsub.NewServer(pubsub.WithServerOptions(arpc.WithHandler(h)), pubsub.WithPassword("secret"))
	defer s.Stop()
	err := s.Run("127.0.0.1:0")
	require.Equal(t, arpc.CodeFailedPrecondition, arpc.CodeOf(err))
	require.ErrorContains(t, err, "/early")
}

func TestAccessIsAskedForEachOperation(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		isAdmin := func(c *arpc.Client) bool { return c.Identity() == "admin" }
		s := serveMemory(t,
			pubsub.WithAuthenticator(func(_ context.Context, _ *arpc.Client, credentials []byte) (any, error) {
				return string(credentials), nil
			}),
			pubsub.WithAccess(pubsub.NewRules(
				pubsub.Allow(pubsub.OpSubscribe, "news.>", "status"),
				pubsub.Allow(pubsub.OpPublish|pubsub.OpPresence, "chat.*"),
				pubsub.Allow(pubsub.OpPublish|pubsub.OpSubscribe|pubsub.OpPresence, ">").To(isAdmin),
			)))
		p, admin := s.peer(withCredentials("ann")), s.peer(withCredentials("admin"))
		denied := func(err error) {
			t.Helper()
			require.Equal(t, arpc.CodePermissionDenied, arpc.CodeOf(err), "%v", err)
		}
		for i, filter := range []string{"news.sport", "news.*", "news.>", "status"} {
			p.subscribe(uint64(i+1), filter)
		}
		for _, filter := range []string{"news", "*", ">", "*.sport", "chat.a"} {
			_, err := p.open(proto.Opening{Number: 100, Filter: filter})
			denied(err)
			require.Error(t, p.old(proto.Subscribe, "chat.a", ""))
		}
		require.NoError(t, p.publish("chat.a", "hi"))
		denied(p.publish("news.sport", "hi"))
		denied(p.old(proto.Publish, "news.sport", "hi"))
		denied(p.old(proto.PublishToOne, "news.sport", "hi"))
		will := proto.Publication[string]{Topic: "news.sport"}
		denied(p.Call(proto.Will, will.Append(nil), nil, time.Minute))
		require.NoError(t, p.Call(proto.Presence, "chat.a", nil, time.Minute))
		denied(p.Call(proto.Presence, "news.sport", nil, time.Minute))
		_, err := p.open(proto.Opening{Number: 101, Filter: "news.a", Events: true})
		denied(err)

		admin.subscribe(1, ">")
		require.NoError(t, admin.publish("news.sport", "hi"))
		s.mustPublish("anything", "the server may") // and is not asked
	})
}

// The text of an error without a code may say something that is not for the peer.
func TestOtherErrorsOfAccessStayHere(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		s := serveMemory(t, pubsub.WithAccess(func(_ *arpc.Client, _ pubsub.Operation, topic string) error {
			if topic == "coded" {
				return arpc.NewError(arpc.CodeResourceExhausted, "come back tomorrow")
			}
			return errors.New("the table of the users is broken")
		}))
		p := s.peer()
		require.EqualError(t, p.publish("coded", ""), "come back tomorrow")
		err := p.publish("other", "")
		require.Equal(t, arpc.CodePermissionDenied, arpc.CodeOf(err))
		require.NotContains(t, err.Error(), "table")
	})
}

func TestRulesThatCannotBeMeantPanic(t *testing.T) {
	require.PanicsWithValue(t, "pubsub: Allow: there is no pattern", func() { pubsub.Allow(pubsub.OpPublish) })
	require.Panics(t, func() { pubsub.Allow(pubsub.OpPublish, "a.>.b") })
}
