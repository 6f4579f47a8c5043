package arpc_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"testing"
	"time"

	"github.com/arpc-go/arpc"
	"github.com/arpc-go/arpc/arpctest"
	"github.com/stretchr/testify/require"
)

// suiteReceived passes on what a stream handler gets: messages, then the error.
func suiteReceived(h *arpc.Handler, method string, begin <-chan struct{}) <-chan suiteOutcome {
	got := make(chan suiteOutcome, 10000)
	h.HandleStream(method, func(s *arpc.Stream) {
		<-begin
		for {
			var o suiteOutcome
			o.err = s.Recv(&o.text)
			got <- o
			if o.err != nil {
				return
			}
		}
	})
	return got
}

// suiteOldWorlds are all worlds, with an old client or an old server.
func suiteOldWorlds() (worlds []arpctest.World) {
	for _, world := range arpctest.Worlds() {
		worlds = append(worlds, arpctest.OldClient(world), arpctest.OldServer(world))
	}
	return worlds
}

var suiteNow = func() chan struct{} { ch := make(chan struct{}); close(ch); return ch }()

// The end of a stream's context ends the stream, on both ends, and nothing else.
func TestSuiteStreamContextEnds(t *testing.T) {
	arpctest.Each(t, func(t *testing.T, p *arpctest.Pair) {
		got := suiteReceived(p.Server.Handler, "/x", suiteNow)
		ctx, cancel := context.WithCancelCause(t.Context())
		s, err := p.Client.OpenStream(ctx, "/x")
		require.NoError(t, err)
		require.NoError(t, s.Send("first"))
		require.Equal(t, "first", suiteNext(t, got).text)
		received := make(chan error, 1)
		go func() { received <- s.Recv(new(string)) }()
		cancel(errors.New("had enough"))
		require.ErrorIs(t, suiteNext(t, received), context.Canceled)
		suiteReset(t, p, suiteNext(t, got).err, arpc.CodeCanceled)
		suiteNext(t, s.Context().Done())
		require.Eventually(t, func() bool { return errors.Is(s.Send("x"), context.Canceled) }, suitePatience, suiteTick)
		suiteAlive(t, p)
	}, arpctest.Setup(suiteWithEcho))
}

func TestSuiteStreamEndedContext(t *testing.T) {
	arpctest.Each(t, func(t *testing.T, p *arpctest.Pair) {
		p.Server.Handler.HandleStream("/x", func(*arpc.Stream) { t.Error("the stream was opened") })
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		_, err := p.Client.OpenStream(ctx, "/x")
		require.ErrorIs(t, err, context.Canceled)
		suiteUnsent(t, err, arpc.CodeCanceled)
		suiteAlive(t, p)
	}, arpctest.Setup(suiteWithEcho))
}

// Who gives up waiting for a message may wait again.
func TestSuiteStreamRecvContext(t *testing.T) {
	arpctest.Each(t, func(t *testing.T, p *arpctest.Pair) {
		s := suiteOpen(t, p.Client, "/echo")
		ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
		defer cancel()
		err := s.RecvContext(ctx, new(string))
		require.ErrorIs(t, err, context.DeadlineExceeded)
		require.False(t, arpc.IsRemote(err))
		suiteEchoed(t, s, "again")
		require.NoError(t, s.Close())
	}, arpctest.Setup(suiteWithStreams))
}

// A sender waits for a receiver that does not keep up, and nothing else waits.
func TestSuiteStreamHeldUp(t *testing.T) {
	const window, message = 1024, "ten bytes."
	fits := window/(len(message)+16) + 1 // the last may go beyond
	arpctest.Each(t, func(t *testing.T, p *arpctest.Pair) {
		begin := make(chan struct{})
		got := suiteReceived(p.Server.Handler, "/x", begin)
		other := suiteOpen(t, p.Client, "/echo")
		s := suiteOpen(t, p.Client, "/x")
		for range fits {
			require.NoError(t, s.Send(message))
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
		defer cancel()
		suiteUnsent(t, s.SendContext(ctx, message), arpc.CodeDeadlineExceeded)
		sent := make(chan error, 1)
		go func() { sent <- s.Send(message) }()
		suiteEchoed(t, other, "meanwhile")
		suiteAlive(t, p)
		require.Empty(t, sent)

		close(begin)
		require.NoError(t, suiteNext(t, sent))
		require.NoError(t, s.CloseSend())
		for range fits + 1 {
			require.Equal(t, suiteOutcome{text: message}, suiteNext(t, got))
		}
		require.ErrorIs(t, suiteNext(t, got).err, io.EOF)
		require.NoError(t, other.Close())
	}, arpctest.Setup(suiteWithStreams), arpctest.ServerOptions(arpc.WithStreamWindow(window)), arpctest.Over(arpctest.Worlds()...))
}

// A receiver that does not keep up with a peer of version 1, which knows no better,
// loses that stream, and nothing else.
func TestSuiteStreamOverrun(t *testing.T) {
	bounds := map[string]struct {
		queue  arpc.Option
		before int // messages received before the error
	}{
		"messages": {arpc.WithStreamQueue(8, 1<<20), 8},
		"bytes":    {arpc.WithStreamQueue(1000, 40), 4},
	}
	for name, bound := range bounds {
		t.Run(name, func(t *testing.T) {
			arpctest.Each(t, func(t *testing.T, p *arpctest.Pair) {
				begin := make(chan struct{})
				got := suiteReceived(p.Server.Handler, "/x", begin)
				other := suiteOpen(t, p.Client, "/echo")
				suiteEchoed(t, other, "before")
				s := suiteOpen(t, p.Client, "/x")
				for range 20 {
					require.NoError(t, s.Send("ten bytes."))
				}
				require.ErrorIs(t, s.Recv(new(string)), io.EOF)
				suiteEchoed(t, other, "after")
				suiteAlive(t, p)
				close(begin)
				for range bound.before {
					require.Equal(t, suiteOutcome{text: "ten bytes."}, suiteNext(t, got))
				}
				require.ErrorIs(t, suiteNext(t, got).err, arpc.ErrStreamOverrun)
				require.NoError(t, s.Close())
				require.NoError(t, other.Close())
			}, arpctest.Setup(suiteWithStreams), arpctest.ServerOptions(bound.queue), arpctest.Over(suiteOldWorlds()...))
		})
	}
}

// The loss of the connection is not an end of file.
func TestSuiteStreamConnectionLost(t *testing.T) {
	arpctest.Each(t, func(t *testing.T, p *arpctest.Pair) {
		got := suiteReceived(p.Server.Handler, "/x", suiteNow)
		s := suiteOpen(t, p.Client, "/x")
		require.NoError(t, s.Send("first"))
		require.Equal(t, "first", suiteNext(t, got).text)
		p.Client.Conn().Close()
		for _, err := range []error{s.Recv(new(string)), suiteNext(t, got).err} {
			require.NotErrorIs(t, err, io.EOF)
			require.Equal(t, arpc.CodeUnavailable, arpc.CodeOf(err))
			require.False(t, arpc.SafeToRetry(err))
		}
		require.Equal(t, arpc.CodeUnavailable, arpc.CodeOf(s.Send("x")))
		suiteNext(t, s.Context().Done())
	})
}

// Close at one end, with messages of the other under way.
func TestSuiteStreamCloseEarly(t *testing.T) {
	arpctest.Each(t, func(t *testing.T, p *arpctest.Pair) {
		stopped := make(chan error, 1)
		p.Server.Handler.HandleStream("/talk", func(s *arpc.Stream) {
			s.Recv(nil)
			go func() {
				for i := 0; i < 1000 && s.Send("and another thing") == nil; i++ {
				}
			}()
			stopped <- s.Recv(new(string))
		})
		for range 20 {
			s := suiteOpen(t, p.Client, "/talk")
			require.NoError(t, s.Send("tell me"))
			require.NoError(t, s.Recv(new(string)))
			require.NoError(t, s.Close(), "with more under way")
			require.ErrorIs(t, s.Recv(new(string)), arpc.ErrStreamClosed)
			require.ErrorIs(t, s.Send("x"), arpc.ErrStreamClosed)
			require.ErrorIs(t, suiteNext(t, stopped), io.EOF)
		}
		suiteAlive(t, p)
	}, arpctest.Setup(suiteWithEcho))
}

func TestSuiteStreamLimit(t *testing.T) {
	arpctest.Each(t, func(t *testing.T, p *arpctest.Pair) {
		first, second := suiteOpen(t, p.Client, "/echo"), suiteOpen(t, p.Client, "/echo")
		suiteEchoed(t, first, "one")
		suiteEchoed(t, second, "two")
		_, err := p.Client.OpenStream(t.Context(), "/echo")
		require.ErrorContains(t, err, "WithMaxStreams")
		suiteUnsent(t, err, arpc.CodeResourceExhausted)
		require.NoError(t, first.Close())
		third := suiteOpen(t, p.Client, "/echo")
		suiteEchoed(t, third, "three")
		suiteEchoed(t, second, "two again")
		suiteAlive(t, p)
	}, arpctest.Setup(suiteWithStreams), arpctest.ClientOptions(arpc.WithMaxStreams(2)))
}

// A stream over the peer's limit is not opened, or in version 1 ends at once, and
// the others go on.
func TestSuiteStreamLimitOfThePeer(t *testing.T) {
	arpctest.Each(t, func(t *testing.T, p *arpctest.Pair) {
		first := suiteOpen(t, p.Client, "/echo")
		suiteEchoed(t, first, "one")
		second, err := p.Client.OpenStream(t.Context(), "/echo")
		if p.Version == 1 {
			require.NoError(t, err)
			require.NoError(t, second.Send("two"))
			require.ErrorIs(t, second.Recv(new(string)), io.EOF)
		} else {
			require.ErrorContains(t, err, "the limit of the peer (WithMaxStreams)")
			suiteUnsent(t, err, arpc.CodeResourceExhausted)
		}
		suiteEchoed(t, first, "one again")
	}, arpctest.Setup(suiteWithStreams), arpctest.ServerOptions(arpc.WithMaxStreams(1)))
}

// Messages of a stream that nobody is going to receive do not count as held for
// ever: the limit on them would shut the connection.
func TestSuiteStreamAbandoned(t *testing.T) {
	ways := map[string]func(t *testing.T, s *arpc.Stream, cancel context.CancelFunc){
		"contextEnds": func(t *testing.T, s *arpc.Stream, cancel context.CancelFunc) { cancel() },
		"close":       func(t *testing.T, s *arpc.Stream, cancel context.CancelFunc) { s.Close() },
		"contextEndsAfterCloseSend": func(t *testing.T, s *arpc.Stream, cancel context.CancelFunc) {
			require.NoError(t, s.CloseSend())
			suiteNext(t, s.Context().Done()) // both halves are closed, and cause it
			cancel()
		},
	}
	for name, abandon := range ways {
		t.Run(name, func(t *testing.T) {
			arpctest.Each(t, func(t *testing.T, p *arpctest.Pair) {
				p.Server.Handler.HandleStream("/fill", func(s *arpc.Stream) {
					s.Recv(nil)
					for range 4 {
						s.Send(make([]byte, 15<<10))
					}
				})
				p.Server.Handler.HandleStream("/burst", func(s *arpc.Stream) {
					s.Recv(nil)
					for range 4 {
						s.Send(make([]byte, 10<<10))
					}
				})
				for range 3 {
					ctx, cancel := context.WithCancel(t.Context())
					s, err := p.Client.OpenStream(ctx, "/fill")
					require.NoError(t, err)
					require.NoError(t, s.Send("fill"))
					require.NoError(t, s.Recv(new(string)))
					suiteAlive(t, p)
					abandon(t, s, cancel)
					cancel()
				}
				for tries := 0; !suiteBurst(t, p); tries++ {
					require.Less(t, tries, 1000, "the ends of contexts are noticed a moment later")
				}
				got := make(chan []byte, 10)
				p.Client.Handler.Handle("/n", func(ctx *arpc.Context) { got <- bytes.Clone(ctx.Body()) })
				for range cap(got) {
					require.NoError(t, p.Peer().Notify("/n", make([]byte, 10<<10), suitePatience))
				}
				for range cap(got) {
					require.Len(t, suiteNext(t, got), 10<<10)
				}
			}, arpctest.Setup(suiteWithEcho), arpctest.ClientOptions(arpc.WithMaxInflightBytes(64<<10)))
		})
	}
}

// suiteBurst reports whether there is room at the client for a stream of 40 KiB
// that it receives later.
func suiteBurst(t testing.TB, p *arpctest.Pair) bool {
	t.Helper()
	s := suiteOpen(t, p.Client, "/burst")
	defer s.Close()
	require.NoError(t, s.Send("fill"))
	suiteAlive(t, p)
	for range 4 {
		if s.Recv(new(string)) != nil {
			return false
		}
	}
	return true
}
