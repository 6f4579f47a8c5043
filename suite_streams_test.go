package arpc_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strconv"
	"testing"

	"github.com/arpc-go/arpc"
	"github.com/arpc-go/arpc/arpctest"
	"github.com/stretchr/testify/require"
)

// suiteEchoStream sends back what comes until the peer closes its half.
func suiteEchoStream(s *arpc.Stream) {
	for b, err := range s.RecvSeq() {
		if err != nil || s.Send(b) != nil {
			return
		}
	}
}

func suiteEchoed(t testing.TB, s *arpc.Stream, text string) {
	t.Helper()
	var reply string
	require.NoError(t, s.Send(text))
	require.NoError(t, s.Recv(&reply))
	require.Equal(t, text, reply)
}

func suiteWithStreams(server *arpc.Server, client *arpc.Handler) {
	suiteWithEcho(server, client)
	server.Handler.HandleStream("/echo", suiteEchoStream)
	client.HandleStream("/echo", suiteEchoStream)
}

func suiteOpen(t testing.TB, c *arpc.Client, method string) *arpc.Stream {
	t.Helper()
	s, err := c.OpenStream(t.Context(), method)
	require.NoError(t, err)
	return s
}

func TestSuiteStreamBothWays(t *testing.T) {
	arpctest.Each(t, func(t *testing.T, p *arpctest.Pair) {
		for _, c := range []*arpc.Client{p.Client, p.Peer()} {
			s := suiteOpen(t, c, "/echo")
			require.Equal(t, "/echo", s.Method())
			require.Same(t, c, s.Client())
			for i := range 100 {
				suiteEchoed(t, s, strconv.Itoa(i))
			}
			require.NoError(t, s.CloseSend())
			require.NoError(t, s.CloseSend(), "the second does nothing")
			require.ErrorIs(t, s.Recv(new(string)), io.EOF)
			require.ErrorIs(t, s.Recv(new(string)), io.EOF, "it stays so")
			require.ErrorIs(t, s.Send("x"), arpc.ErrStreamClosed)
			suiteNext(t, s.Context().Done())
		}
		suiteAlive(t, p)
	}, arpctest.Setup(suiteWithStreams))
}

// What a stream carries, and what it is received into.
func TestSuiteStreamValues(t *testing.T) {
	arpctest.Each(t, func(t *testing.T, p *arpctest.Pair) {
		s := suiteOpen(t, p.Client, "/echo")
		require.NoError(t, s.Send(suiteBook{"Emma", 474}))
		var book suiteBook
		require.NoError(t, s.Recv(&book))
		require.Equal(t, suiteBook{"Emma", 474}, book)
		for _, empty := range []any{nil, "", []byte{}} {
			require.NoError(t, s.Send(empty))
			b := []byte("not empty")
			require.NoError(t, s.Recv(&b))
			require.Empty(t, b, "an empty message is a message")
		}
		require.NoError(t, s.Send("not a number"))
		require.Error(t, s.Recv(new(int)))
		suiteEchoed(t, s, "and it goes on")
		suiteUnsent(t, s.Send(make(chan int)), arpc.CodeInternal)
		suiteEchoed(t, s, "and on")
		require.NoError(t, s.Close())
	}, arpctest.Setup(suiteWithStreams))
}

// After half a close the other half goes on.
func TestSuiteStreamHalfClose(t *testing.T) {
	arpctest.Each(t, func(t *testing.T, p *arpctest.Pair) {
		p.Server.Handler.HandleStream("/sum", func(s *arpc.Stream) {
			sum, n := 0, 0
			for s.Recv(&n) == nil {
				sum += n
			}
			for i := range 3 {
				s.Send(sum + i)
			}
		})
		s := suiteOpen(t, p.Client, "/sum")
		for i := range 10 {
			require.NoError(t, s.Send(i))
		}
		require.NoError(t, s.CloseSend())
		for i := range 3 {
			var sum int
			require.NoError(t, s.Recv(&sum))
			require.Equal(t, 45+i, sum)
		}
		require.ErrorIs(t, s.Recv(new(int)), io.EOF)
	})
}

// A stream that is closed without a message is one nevertheless.
func TestSuiteStreamWithoutMessages(t *testing.T) {
	arpctest.Each(t, func(t *testing.T, p *arpctest.Pair) {
		p.Server.Handler.HandleStream("/count", func(s *arpc.Stream) {
			n := 0
			for range s.RecvSeq() {
				n++
			}
			s.Send(n)
		})
		s := suiteOpen(t, p.Client, "/count")
		require.NoError(t, s.CloseSend())
		n := -1
		require.NoError(t, s.Recv(&n))
		require.Zero(t, n)
	})
}

func TestSuiteStreamRecvSeq(t *testing.T) {
	arpctest.Each(t, func(t *testing.T, p *arpctest.Pair) {
		p.Server.Handler.HandleStream("/count", func(s *arpc.Stream) {
			for i := range 1000 {
				s.Send(i)
			}
		})
		s := suiteOpen(t, p.Client, "/count")
		if p.Version == 1 {
			require.NoError(t, s.Send(nil)) // the peer learns of the stream now
		}
		i := 0
		for b, err := range s.RecvSeq() {
			require.NoError(t, err)
			require.Equal(t, strconv.Itoa(i), string(b))
			i++
		}
		require.Equal(t, 1000, i)
	})
}

// A loop that is left early leaves the rest to who comes next.
func TestSuiteStreamRecvSeqBreak(t *testing.T) {
	arpctest.Each(t, func(t *testing.T, p *arpctest.Pair) {
		s := suiteOpen(t, p.Client, "/echo")
		for i := range 3 {
			require.NoError(t, s.Send(i))
		}
		require.NoError(t, s.CloseSend())
		for b, err := range s.RecvSeq() {
			require.NoError(t, err)
			require.Equal(t, "0", string(b))
			break
		}
		i := 0
		require.NoError(t, s.Recv(&i))
		require.Equal(t, 1, i)
	}, arpctest.Setup(suiteWithStreams))
}

// Thousands of messages each way arrive in order.
func TestSuiteStreamManyMessages(t *testing.T) {
	const count = 5000
	room := arpc.WithStreamQueue(count, 16<<20)
	arpctest.Each(t, func(t *testing.T, p *arpctest.Pair) {
		s := suiteOpen(t, p.Client, "/echo")
		sent := make(chan error, 1)
		go func() {
			for i := range count {
				if err := s.Send(i); err != nil {
					sent <- fmt.Errorf("message %d: %w", i, err)
					return
				}
			}
			sent <- s.CloseSend()
		}()
		for i := range count {
			got := -1
			require.NoError(t, s.Recv(&got))
			require.Equal(t, i, got)
		}
		require.ErrorIs(t, s.Recv(new(int)), io.EOF)
		require.NoError(t, suiteNext(t, sent))
	}, arpctest.Setup(suiteWithStreams), arpctest.ServerOptions(room), arpctest.ClientOptions(room))
}

// Many streams on one connection, opened by both ends, do not mix.
func TestSuiteStreamsSideBySide(t *testing.T) {
	arpctest.Each(t, func(t *testing.T, p *arpctest.Pair) {
		done := make(chan error, 40)
		for i := range cap(done) {
			c := []*arpc.Client{p.Client, p.Peer()}[i%2]
			go func() { done <- suiteTalk(c, strconv.Itoa(i)) }()
		}
		for range cap(done) {
			require.NoError(t, suiteNext(t, done))
		}
		suiteAlive(t, p)
	}, arpctest.Setup(suiteWithStreams))
}

// suiteTalk sends and receives a text over a stream of its own, many times.
func suiteTalk(c *arpc.Client, text string) error {
	s, err := c.OpenStream(context.Background(), "/echo")
	if err != nil {
		return err
	}
	defer s.Close()
	for range 50 {
		var reply string
		if err := errors.Join(s.Send(text), s.Recv(&reply)); err != nil {
			return err
		}
		if reply != text {
			return fmt.Errorf("got %q, want %q", reply, text)
		}
	}
	return nil
}

// A peer without such a stream says so at once.
func TestSuiteStreamUnknownMethod(t *testing.T) {
	arpctest.Each(t, func(t *testing.T, p *arpctest.Pair) {
		for range 3 {
			s := suiteOpen(t, p.Client, "/nowhere")
			s.Send("anybody there?")
			err := s.Recv(new(string))
			suiteReset(t, p, err, arpc.CodeUnimplemented)
			require.Equal(t, p.Version > 1, errors.Is(err, arpc.ErrMethodNotFound))
			require.NoError(t, s.Close())
		}
		suiteAlive(t, p)
	}, arpctest.Setup(suiteWithEcho))
}

// A handler that returns, however, closes its stream both ways. One that fails is
// no end in good order.
func TestSuiteStreamHandlerEnds(t *testing.T) {
	ends := map[string]func(){"return": func() {}}
	for name, fail := range suiteFailures {
		ends[name] = fail
	}
	arpctest.Each(t, func(t *testing.T, p *arpctest.Pair) {
		for name, end := range ends {
			p.Server.Handler.HandleStream(name, func(s *arpc.Stream) {
				s.Recv(nil)
				s.Send("the last")
				end()
			})
			s := suiteOpen(t, p.Client, name)
			require.NoError(t, s.Send("x"))
			var text string
			require.NoError(t, s.Recv(&text))
			require.Equal(t, "the last", text)
			err := s.Recv(&text)
			if name == "return" {
				require.ErrorIs(t, err, io.EOF)
			} else {
				suiteReset(t, p, err, arpc.CodeInternal)
			}
			for range 100 { // which in version 1 the peer throws away
				require.Equal(t, p.Version == 1, s.Send("x") == nil)
			}
			require.NoError(t, s.Close())
			require.NoError(t, s.Close(), "the second does nothing")
		}
		suiteAlive(t, p)
	}, arpctest.Setup(suiteWithEcho))
}
