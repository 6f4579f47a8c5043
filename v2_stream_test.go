package arpc_test

import (
	"context"
	"errors"
	"io"
	"strconv"
	"testing"
	"testing/synctest"
	"time"

	"github.com/arpc-go/arpc"
	"github.com/arpc-go/arpc/arpctest"
	"github.com/stretchr/testify/require"
)

func engEchoStream(s *arpc.Stream) {
	for b, err := range s.RecvSeq() {
		if err != nil || s.Send(b) != nil {
			return
		}
	}
}

// engStreams registers an echo at both ends, for calls and streams.
func engStreams(server *arpc.Server, client *arpc.Handler) {
	suiteWithEcho(server, client)
	for _, h := range []*arpc.Handler{server.Handler, client} {
		engDetails(h)
		h.HandleStream("/echo", engEchoStream)
	}
}

// engServed has h pass on its ends of the streams of method. Their handlers run
// until the test ends.
func engServed(t testing.TB, h *arpc.Handler, method string) <-chan *arpc.Stream {
	served := make(chan *arpc.Stream, 1000)
	over := make(chan struct{})
	t.Cleanup(func() { close(over) })
	h.HandleStream(method, func(s *arpc.Stream) { served <- s; <-over })
	return served
}

func engOpen(t testing.TB, ctx context.Context, c *arpc.Client, method string) *arpc.Stream {
	t.Helper()
	s, err := c.OpenStream(ctx, method)
	require.NoError(t, err)
	return s
}

// engEnds returns both ends of a new stream, on each world, opened by either side.
func engEnds(t *testing.T, body func(t *testing.T, near, far *arpc.Stream)) {
	t.Helper()
	engEach(t, func(t *testing.T, p *arpctest.Pair) {
		atServer, atClient := engServed(t, p.Server.Handler, "/x"), engServed(t, p.Client.Handler, "/x")
		near := engOpen(t, t.Context(), p.Client, "/x")
		body(t, near, suiteNext(t, atServer))
		near = engOpen(t, t.Context(), p.Peer(), "/x")
		body(t, near, suiteNext(t, atClient))
		suiteAlive(t, p)
	}, arpctest.Setup(engStreams))
}

func engSendAll(t testing.TB, s *arpc.Stream, from, to int) {
	t.Helper()
	for i := from; i < to; i++ {
		require.NoError(t, s.Send(i))
	}
}

func engRecvAll(t testing.TB, s *arpc.Stream, from, to int) {
	t.Helper()
	for i := from; i < to; i++ {
		got := -1
		require.NoError(t, s.Recv(&got))
		require.Equal(t, i, got)
	}
}

// A stream is open before the first message: the side that was called may speak
// first.
func TestV2StreamOpensAtOnce(t *testing.T) {
	engEnds(t, func(t *testing.T, near, far *arpc.Stream) {
		require.Equal(t, "/x", far.Method())
		require.Equal(t, near.ID(), far.ID())
		engSendAll(t, far, 0, 3)
		engRecvAll(t, near, 0, 3)
		require.NoError(t, far.Close())
		require.ErrorIs(t, near.Recv(nil), io.EOF)
		require.NoError(t, near.Close())
	})
}

func TestV2StreamHalfClose(t *testing.T) {
	engEnds(t, func(t *testing.T, near, far *arpc.Stream) {
		engSendAll(t, near, 0, 3)
		require.NoError(t, near.CloseSend())
		require.NoError(t, near.CloseSend())
		require.ErrorIs(t, near.Send(3), arpc.ErrStreamClosed)
		engRecvAll(t, far, 0, 3)
		require.ErrorIs(t, far.Recv(nil), io.EOF)
		engSendAll(t, far, 0, 3)
		require.NoError(t, far.Context().Err())
		require.NoError(t, far.CloseSend())
		engRecvAll(t, near, 0, 3)
		require.ErrorIs(t, near.Recv(nil), io.EOF)
		suiteNext(t, near.Context().Done())
		suiteNext(t, far.Context().Done())
		require.ErrorIs(t, context.Cause(near.Context()), arpc.ErrStreamClosed)
	})
}

// A close ends both halves. What was sent before is received.
func TestV2StreamClose(t *testing.T) {
	engEnds(t, func(t *testing.T, near, far *arpc.Stream) {
		engSendAll(t, near, 0, 100)
		require.NoError(t, near.Close())
		require.NoError(t, near.Close())
		require.ErrorIs(t, near.Send(1), arpc.ErrStreamClosed)
		require.ErrorIs(t, near.Recv(nil), arpc.ErrStreamClosed)
		suiteNext(t, far.Context().Done())
		engRecvAll(t, far, 0, 100)
		require.ErrorIs(t, far.Recv(nil), io.EOF)
		require.ErrorIs(t, far.Send(1), arpc.ErrStreamClosed)
	})
}

// A failure comes behind the messages that were sent before it, with all that an
// error has, and is why both ends are over.
func TestV2StreamFail(t *testing.T) {
	fails := map[string]func(near, far *arpc.Stream) (failing, other *arpc.Stream){
		"opener":  func(near, far *arpc.Stream) (*arpc.Stream, *arpc.Stream) { return near, far },
		"handler": func(near, far *arpc.Stream) (*arpc.Stream, *arpc.Stream) { return far, near },
	}
	for name, which := range fails {
		t.Run(name, func(t *testing.T) {
			engEnds(t, func(t *testing.T, near, far *arpc.Stream) {
				failing, other := which(near, far)
				engSendAll(t, failing, 0, 100)
				why := arpc.NewError(arpc.CodeDataLoss, "the disk is gone").WithDetail(engQuota{"ann", 3})
				failing.Fail(why)
				failing.Fail(errors.New("too late"))
				require.ErrorIs(t, failing.Send(1), why)
				require.ErrorIs(t, failing.Recv(nil), why)
				require.ErrorIs(t, context.Cause(failing.Context()), why)
				suiteNext(t, other.Context().Done())
				engRecvAll(t, other, 0, 100)
				for _, err := range []error{other.Recv(nil), other.Send(1), engLast(other)} {
					require.EqualError(t, err, "the disk is gone")
					require.Equal(t, arpc.CodeDataLoss, arpc.CodeOf(err))
					require.True(t, arpc.IsRemote(err))
					engRequireDetails(t, err, []string{"quota"})
				}
				require.EqualError(t, context.Cause(other.Context()), "the disk is gone")
			})
		})
	}
}

// engLast returns the last error of RecvSeq, nil if it has none.
func engLast(s *arpc.Stream) (last error) {
	for _, err := range s.RecvSeq() {
		last = err
	}
	return last
}

// A failure behind a half close still comes through.
func TestV2StreamFailAfterHalfClose(t *testing.T) {
	engEnds(t, func(t *testing.T, near, far *arpc.Stream) {
		require.NoError(t, near.CloseSend())
		require.ErrorIs(t, far.Recv(nil), io.EOF)
		engSendAll(t, far, 0, 1)
		far.Fail(arpc.NewError(arpc.CodeAborted, "no"))
		engRecvAll(t, near, 0, 1)
		require.Equal(t, arpc.CodeAborted, arpc.CodeOf(near.Recv(nil)))
	})
	engEnds(t, func(t *testing.T, near, far *arpc.Stream) {
		engSendAll(t, near, 0, 1)
		require.NoError(t, near.CloseSend())
		near.Fail(arpc.NewError(arpc.CodeAborted, "no"))
		suiteNext(t, far.Context().Done())
		require.Equal(t, arpc.CodeAborted, arpc.CodeOf(context.Cause(far.Context())))
		require.Equal(t, arpc.CodeAborted, arpc.CodeOf(far.Send(1)))
	})
}

// A handler that panics, or ends its goroutine, has failed.
func TestV2StreamHandlerPanics(t *testing.T) {
	engEach(t, func(t *testing.T, p *arpctest.Pair) {
		p.Server.Handler.HandleStream("/x", func(s *arpc.Stream) {
			s.Send(0)
			panic("secret")
		})
		s := engOpen(t, t.Context(), p.Client, "/x")
		engRecvAll(t, s, 0, 1)
		err := s.Recv(nil)
		require.Equal(t, arpc.CodeInternal, arpc.CodeOf(err), "%v", err)
		require.NotContains(t, err.Error(), "secret")
		suiteAlive(t, p)
	}, arpctest.Setup(engStreams))
}

// The end of the opener's context ends the stream at both ends, within a trip, and
// its cause is known there.
func TestV2StreamOpenerGivesUp(t *testing.T) {
	engBubble(t, func(t *testing.T, p *arpctest.Pair) {
		served := engServed(t, p.Server.Handler, "/x")
		engSlow(p)
		cause := errors.New("had enough")
		ctx, cancel := context.WithCancelCause(t.Context())
		s := engOpen(t, ctx, p.Client, "/x")
		engSendAll(t, s, 0, 3)
		far := suiteNext(t, served)
		start := time.Now()
		cancel(cause)
		synctest.Wait()
		require.Equal(t, cause, context.Cause(s.Context()))
		for _, err := range []error{s.Recv(nil), s.Send(1)} {
			require.ErrorIs(t, err, context.Canceled)
			require.ErrorIs(t, err, cause)
			require.False(t, arpc.IsRemote(err))
		}
		require.Equal(t, start, time.Now())
		end := engEnded(far.Context())
		require.Equal(t, start.Add(engLatency), end.at)
		require.Equal(t, arpc.CodeCanceled, arpc.CodeOf(end.cause))
		require.ErrorContains(t, end.cause, "had enough")
		engRecvAll(t, far, 0, 3)
		err := far.Recv(nil)
		require.Equal(t, arpc.CodeCanceled, arpc.CodeOf(err))
		require.True(t, arpc.IsRemote(err))
		suiteAlive(t, p)
	}, arpctest.Setup(engStreams))
}

func TestV2StreamHasTheOpenersDeadline(t *testing.T) {
	engBubble(t, func(t *testing.T, p *arpctest.Pair) {
		served := engServed(t, p.Server.Handler, "/x")
		start := time.Now()
		ctx, cancel := context.WithTimeout(t.Context(), engSecond)
		defer cancel()
		s := engOpen(t, ctx, p.Client, "/x")
		far := suiteNext(t, served)
		deadline, ok := far.Context().Deadline()
		require.True(t, ok)
		require.Equal(t, start.Add(engSecond), deadline)
		require.ErrorIs(t, s.Recv(nil), context.DeadlineExceeded)
		end := engEnded(far.Context())
		require.Equal(t, engSecond, end.at.Sub(start))
		require.Equal(t, arpc.CodeDeadlineExceeded, arpc.CodeOf(end.cause))
		require.Equal(t, arpc.CodeDeadlineExceeded, arpc.CodeOf(far.Recv(nil)))

		s = engOpen(t, t.Context(), p.Client, "/x")
		_, ok = suiteNext(t, served).Context().Deadline()
		require.False(t, ok)
		require.NoError(t, s.Close())
	}, arpctest.Setup(engStreams))
}

// Calls that the handler of a stream makes with its context have its deadline and
// end with it.
func TestV2StreamContextReachesFurther(t *testing.T) {
	engBubble(t, func(t *testing.T, p *arpctest.Pair) {
		ends := make(chan engEnd, 1)
		p.Client.Handler.Handle("/back", func(ctx *arpc.Context) { ends <- engEnded(ctx); ctx.Error(ctx.Err()) })
		p.Server.Handler.HandleStream("/x", func(s *arpc.Stream) {
			s.Client().CallWith(s.Context(), "/back", nil, nil)
		})
		ctx, cancel := context.WithCancel(t.Context())
		engOpen(t, ctx, p.Client, "/x")
		time.AfterFunc(time.Second, cancel)
		suiteNext(t, ends).requireCanceled(t)
	})
}

// Who gives up sending or receiving goes on later.
func TestV2StreamSendAndRecvWithContext(t *testing.T) {
	engBubble(t, func(t *testing.T, p *arpctest.Pair) {
		served := engServed(t, p.Server.Handler, "/x")
		s := engOpen(t, t.Context(), p.Client, "/x")
		far := suiteNext(t, served)
		require.NoError(t, s.Send(make([]byte, 4096)))
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		err := s.SendContext(ctx, "second")
		suiteUnsent(t, err, arpc.CodeDeadlineExceeded)
		require.ErrorIs(t, err, context.DeadlineExceeded)
		err = s.RecvContext(ctx, nil)
		require.ErrorIs(t, err, context.DeadlineExceeded)
		require.NoError(t, far.Recv(nil))
		require.NoError(t, s.Send("third"))
		var text string
		require.NoError(t, far.Recv(&text))
		require.Equal(t, "third", text)
		require.NoError(t, s.Close())
	}, arpctest.ServerOptions(arpc.WithStreamWindow(4096)))
}

// The limit of the peer is kept without asking it.
func TestV2StreamLimitOfThePeer(t *testing.T) {
	engEach(t, func(t *testing.T, p *arpctest.Pair) {
		var open []*arpc.Stream
		for range 3 {
			open = append(open, engOpen(t, t.Context(), p.Client, "/echo"))
		}
		_, err := p.Client.OpenStream(t.Context(), "/echo")
		suiteUnsent(t, err, arpc.CodeResourceExhausted)
		require.ErrorContains(t, err, "WithMaxStreams")
		require.NoError(t, open[0].CloseSend())
		require.ErrorIs(t, open[0].Recv(nil), io.EOF)
		require.NoError(t, engOpen(t, t.Context(), p.Client, "/echo").Close())
		suiteAlive(t, p)
	}, arpctest.Setup(engStreams), arpctest.ServerOptions(arpc.WithMaxStreams(3)))
}

// The loss of the connection is why all of its streams are over.
func TestV2StreamConnectionLost(t *testing.T) {
	engBubble(t, func(t *testing.T, p *arpctest.Pair) {
		served := engServed(t, p.Server.Handler, "/x")
		s := engOpen(t, t.Context(), p.Client, "/x")
		far := suiteNext(t, served)
		require.NoError(t, s.Send(make([]byte, 1024)))
		errs := make(chan error, 2)
		go func() { errs <- s.Send("beyond the window") }()
		go func() { errs <- s.Recv(nil) }()
		synctest.Wait()
		arpctest.FaultsOf(p.Client.Conn()).Cut()
		require.Equal(t, arpc.CodeUnavailable, arpc.CodeOf(suiteNext(t, errs)))
		require.Equal(t, arpc.CodeUnavailable, arpc.CodeOf(suiteNext(t, errs)))
		require.Equal(t, arpc.CodeUnavailable, arpc.CodeOf(context.Cause(s.Context())))
		suiteNext(t, far.Context().Done())
		require.NoError(t, far.Recv(nil), "what came before")
		require.Equal(t, arpc.CodeUnavailable, arpc.CodeOf(far.Recv(nil)))
		require.Equal(t, arpc.CodeUnavailable, arpc.CodeOf(far.Send(1)))
	}, arpctest.ClientOptions(arpc.WithReconnect(0, 0, 0)), arpctest.ServerOptions(arpc.WithStreamWindow(1024)))
}

// With a peer of version 1 at either end streams are as they were: the first frame
// opens, a queue that overruns ends that stream, and a failure is an end.
func TestV2StreamWithVersion1(t *testing.T) {
	for name, opt := range map[string]arpctest.Option{"client": arpctest.ClientOptions(engOld), "server": arpctest.ServerOptions(engOld)} {
		t.Run(name, func(t *testing.T) {
			engBubble(t, func(t *testing.T, p *arpctest.Pair) {
				atServer, atClient := engServed(t, p.Server.Handler, "/x"), engServed(t, p.Client.Handler, "/x")
				for c, served := range map[*arpc.Client]<-chan *arpc.Stream{p.Client: atServer, p.Peer(): atClient} {
					s := engOpen(t, t.Context(), c, "/x")
					synctest.Wait()
					require.Empty(t, served, "nobody was told")
					engSendAll(t, s, 0, 100) // more than a window
					far := suiteNext(t, served)
					engRecvAll(t, far, 0, 100)
					far.Fail(arpc.NewError(arpc.CodeAborted, "no"))
					require.ErrorIs(t, s.Recv(nil), io.EOF)
					require.NoError(t, s.Close())

					s = engOpen(t, t.Context(), c, "/x")
					for i := range 300 {
						require.NoError(t, s.Send(strconv.Itoa(i)))
					}
					far = suiteNext(t, served)
					suiteNext(t, far.Context().Done())
					require.ErrorIs(t, context.Cause(far.Context()), arpc.ErrStreamOverrun)
					require.NoError(t, s.Close())
				}
				suiteAlive(t, p)
			}, opt, arpctest.Setup(engStreams), arpctest.ServerOptions(arpc.WithStreamQueue(200, 1<<20), arpc.WithStreamWindow(1024)),
				arpctest.ClientOptions(arpc.WithStreamQueue(200, 1<<20), arpc.WithStreamWindow(1024)))
		})
	}
}
