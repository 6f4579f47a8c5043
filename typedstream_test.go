package arpc_test

import (
	"context"
	"errors"
	"io"
	"testing"

	"github.com/arpc-go/arpc"
	"github.com/arpc-go/arpc/arpctest"
	"github.com/stretchr/testify/require"
)

var (
	typedEcho  = arpc.NewStreamMethod[typedRequest, typedReply]("/echo")
	typedBytes = arpc.NewStreamMethod[[]byte, string]("/bytes")
)

// typedEchoes answers each name, until the opener has sent them all.
func typedEchoes(_ context.Context, s *arpc.TypedStream[typedReply, typedRequest]) error {
	for req, err := range s.RecvSeq() {
		if err != nil {
			return err
		}
		if err := s.Send(&typedReply{Text: "hello " + req.Name}); err != nil {
			return err
		}
	}
	return nil
}

func typedEchoed(t *testing.T, s *arpc.TypedStream[typedRequest, typedReply], name string) {
	t.Helper()
	require.NoError(t, s.Send(&typedRequest{Name: name}))
	reply, err := s.Recv()
	require.NoError(t, err)
	require.Equal(t, "hello "+name, reply.Text)
}

// typedOpen opens a stream that is closed with the test.
func typedOpen[In, Out any](t *testing.T, m arpc.StreamMethod[In, Out], caller arpc.Caller) *arpc.TypedStream[In, Out] {
	t.Helper()
	s, err := m.Open(t.Context(), caller)
	require.NoError(t, err)
	t.Cleanup(func() { s.Close() })
	return s
}

func TestTypedStreamFromBothEnds(t *testing.T) {
	arpctest.Each(t, func(t *testing.T, p *arpctest.Pair) {
		for name, c := range typedEnds(p) {
			s := typedOpen(t, typedEcho, c)
			require.Equal(t, "/echo", typedEcho.Name())
			require.Equal(t, "/echo", s.Stream().Method())
			require.Equal(t, s.Stream().Context(), s.Context())
			typedEchoed(t, s, name)
			typedEchoed(t, s, "again")
			require.NoError(t, s.CloseSend())
			_, err := s.Recv()
			require.ErrorIs(t, err, io.EOF)
			suiteNext(t, s.Context().Done())
		}
	}, typedBoth(func(h *arpc.Handler) { typedEcho.Handle(h, typedEchoes) }))
}

// A stream that ends in time ends a RecvSeq without an error.
func TestTypedStreamRecvSeq(t *testing.T) {
	count := arpc.NewStreamMethod[int, int]("/count")
	arpctest.Each(t, func(t *testing.T, p *arpctest.Pair) {
		s := typedOpen(t, count, p.Client)
		require.NoError(t, s.Send(new(4)))
		var got []int
		for n, err := range s.RecvSeq() {
			require.NoError(t, err)
			got = append(got, *n)
			if *n == 1 {
				break
			}
		}
		for n, err := range s.RecvSeq() {
			require.NoError(t, err)
			got = append(got, *n)
		}
		require.Equal(t, []int{0, 1, 2, 3}, got)
	}, typedBoth(func(h *arpc.Handler) {
		count.Handle(h, func(_ context.Context, s *arpc.TypedStream[int, int]) error {
			to, err := s.Recv()
			if err != nil {
				return err
			}
			for i := range *to {
				if err := s.Send(&i); err != nil {
					return err
				}
			}
			return nil
		})
	}))
}

// The error of a handler ends the stream at its opener, both ways and with its code.
func TestTypedStreamHandlerFails(t *testing.T) {
	for name, c := range map[string]struct {
		err  error
		code arpc.Code
		text string
	}{
		"coded":  {arpc.NewError(arpc.CodeNotFound, "no such tea"), arpc.CodeNotFound, "no such tea"},
		"plain":  {errors.New("out of tea"), arpc.CodeUnknown, "out of tea"},
		"io.EOF": {io.EOF, arpc.CodeUnknown, "EOF"},
	} {
		t.Run(name, func(t *testing.T) {
			arpctest.Each(t, func(t *testing.T, p *arpctest.Pair) {
				s := typedOpen(t, typedEcho, p.Client)
				require.NoError(t, s.Send(nil))
				var last error
				for _, err := range s.RecvSeq() {
					last = err
				}
				if p.Version == 1 { // which knows only the orderly end
					require.NoError(t, last)
					return
				}
				suiteRemote(t, last, c.text)
				require.NotErrorIs(t, last, io.EOF)
				require.Equal(t, c.code, arpc.CodeOf(last))
				suiteNext(t, s.Context().Done())
				require.Error(t, s.Send(nil))
			}, typedBoth(func(h *arpc.Handler) {
				typedEcho.Handle(h, func(_ context.Context, s *arpc.TypedStream[typedReply, typedRequest]) error {
					if _, err := s.Recv(); err != nil {
						return err
					}
					return c.err
				})
			}))
		})
	}
}

func TestTypedStreamRawValues(t *testing.T) {
	arpctest.Each(t, func(t *testing.T, p *arpctest.Pair) {
		s := typedOpen(t, typedBytes, p.Client)
		require.NoError(t, s.Send(new([]byte("\x00{\xff"))))
		text, err := s.Recv()
		require.NoError(t, err)
		require.Equal(t, "got \x00{\xff", *text)
	}, typedBoth(func(h *arpc.Handler) {
		typedBytes.Handle(h, func(_ context.Context, s *arpc.TypedStream[string, []byte]) error {
			for b, err := range s.RecvSeq() {
				if err != nil {
					return err
				}
				if err := s.Send(new("got " + string(*b))); err != nil {
					return err
				}
			}
			return nil
		})
	}))
}

// Messages can be received into one value; a message that is none is an error,
// and the next one may be received.
func TestTypedStreamRecvInto(t *testing.T) {
	arpctest.Each(t, func(t *testing.T, p *arpctest.Pair) {
		p.Server.Handler.HandleStream("/echo", func(s *arpc.Stream) {
			s.Send(`{"Text":"first"}`)
			s.Send(`no JSON`)
			s.Send(`{}`)
		})
		s := typedOpen(t, typedEcho, p.Client)
		require.NoError(t, s.CloseSend())
		reply := typedReply{}
		require.NoError(t, s.RecvInto(&reply))
		require.Equal(t, "first", reply.Text)
		err := s.RecvInto(&reply)
		require.Equal(t, arpc.CodeInternal, arpc.CodeOf(err))
		require.ErrorContains(t, err, "typedReply")
		require.NoError(t, s.RecvInto(&reply))
		require.Equal(t, "first", reply.Text, "what the message leaves out stays")
		require.ErrorIs(t, s.RecvInto(&reply), io.EOF)
	})
}

// Who gives up sending or waiting may go on with the stream.
func TestTypedStreamContexts(t *testing.T) {
	arpctest.Each(t, func(t *testing.T, p *arpctest.Pair) {
		s := typedOpen(t, typedEcho, p.Client)
		require.NoError(t, s.SendContext(t.Context(), &typedRequest{Name: "x"}))
		reply, err := s.RecvContext(t.Context())
		require.NoError(t, err)
		require.Equal(t, "hello x", reply.Text)
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		reply, err = s.RecvContext(ctx)
		require.ErrorIs(t, err, context.Canceled)
		require.Nil(t, reply)
		typedEchoed(t, s, "again")
	}, typedBoth(func(h *arpc.Handler) { typedEcho.Handle(h, typedEchoes) }))
}

// The handler's context and its receiving end when the opener closes.
func TestTypedStreamOpenerCloses(t *testing.T) {
	arpctest.Each(t, func(t *testing.T, p *arpctest.Pair) {
		over := make(chan error, 1)
		typedEcho.Handle(p.Server.Handler, func(ctx context.Context, s *arpc.TypedStream[typedReply, typedRequest]) error {
			err := typedEchoes(ctx, s)
			over <- err
			return err
		})
		s := typedOpen(t, typedEcho, p.Client)
		typedEchoed(t, s, "x")
		require.NoError(t, s.Close())
		require.NoError(t, suiteNext(t, over))
		_, err := s.Recv()
		require.ErrorIs(t, err, arpc.ErrStreamClosed)
	})
}

func TestTypedStreamOpenFails(t *testing.T) {
	p := arpctest.New(t, arpctest.Memory())
	p.Client.Stop()
	s, err := typedEcho.Open(t.Context(), p.Client)
	require.ErrorIs(t, err, arpc.ErrClosed)
	require.Nil(t, s)
}
