package arpc_test

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/arpc-go/arpc"
	"github.com/arpc-go/arpc/arpctest"
	"github.com/arpc-go/arpc/internal/wire"
	"github.com/stretchr/testify/require"
)

const engCost = wire.HeaderLen // of a message, beside its bytes

// engFill sends messages of size bytes until no more are taken, and returns how
// many were.
func engFill(t testing.TB, s *arpc.Stream, size int) (n int) {
	t.Helper()
	for {
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		err := s.SendContext(ctx, make([]byte, size))
		cancel()
		if err != nil {
			suiteUnsent(t, err, arpc.CodeDeadlineExceeded)
			return n
		}
		n++
	}
}

// A sender gets as far as the window, and on when the receiver has taken half of
// it.
func TestV2SenderStopsAtTheWindow(t *testing.T) {
	const window = 64 << 10
	for _, size := range []int{0, 1, 1000, window / 2, window - engCost, window, 10 * window} {
		t.Run(fmt.Sprint(size), func(t *testing.T) {
			engBubble(t, func(t *testing.T, p *arpctest.Pair) {
				served := engServed(t, p.Server.Handler, "/x")
				s := engOpen(t, t.Context(), p.Client, "/x")
				far := suiteNext(t, served)
				full := (window + size + engCost - 1) / (size + engCost)
				require.Equal(t, full, engFill(t, s, size))
				half := (window/2 + size + engCost - 1) / (size + engCost)
				for i := range half {
					require.Zero(t, engFill(t, s, size), "%d are taken", i)
					require.NoError(t, far.Recv(nil))
				}
				require.Equal(t, half, engFill(t, s, size))
				for range full {
					require.NoError(t, far.Recv(nil))
				}
				require.NoError(t, s.Close())
				require.ErrorIs(t, far.Recv(nil), io.EOF)
			}, arpctest.ServerOptions(arpc.WithStreamWindow(window)))
		})
	}
}

// The windows of the two directions are their receivers' and have nothing to do
// with each other.
func TestV2WindowsOfTheTwoDirections(t *testing.T) {
	engBubble(t, func(t *testing.T, p *arpctest.Pair) {
		served := engServed(t, p.Server.Handler, "/x")
		s := engOpen(t, t.Context(), p.Client, "/x")
		far := suiteNext(t, served)
		require.Equal(t, 100, engFill(t, s, 1000-engCost))
		require.Equal(t, 20, engFill(t, far, 1000-engCost))
		require.NoError(t, s.Close())
	}, arpctest.ServerOptions(arpc.WithStreamWindow(100000)), arpctest.ClientOptions(arpc.WithStreamWindow(20000)))
}

// engTalk sends numbered messages of random sizes, at random speed, and receives
// those of the other end, which does the same.
func engTalk(s *arpc.Stream, seed uint64, messages, most int) error {
	sent := make(chan error, 1)
	go func() {
		random := rand.New(rand.NewPCG(seed, 1))
		for i := range messages {
			b := make([]byte, 4+random.IntN(most))
			binary.LittleEndian.PutUint32(b, uint32(i))
			if err := s.Send(b); err != nil {
				sent <- fmt.Errorf("message %d: %w", i, err)
				return
			}
			time.Sleep(time.Duration(random.IntN(3)) * time.Millisecond)
		}
		sent <- s.CloseSend()
	}()
	random := rand.New(rand.NewPCG(seed, 2))
	next := 0
	for b, err := range s.RecvSeq() {
		if err != nil {
			return fmt.Errorf("message %d: %w", next, err)
		}
		if got := int(binary.LittleEndian.Uint32(b)); got != next {
			return fmt.Errorf("message %d came in the place of %d", got, next)
		}
		next++
		time.Sleep(time.Duration(random.IntN(3)) * time.Millisecond)
	}
	if next != messages {
		return fmt.Errorf("%d messages came of %d", next, messages)
	}
	return <-sent
}

func TestV2NothingIsLostOrReordered(t *testing.T) {
	const streams, messages, most = 20, 200, 5000
	for _, window := range []int{1024, 10000, 256 << 10} {
		t.Run(fmt.Sprint(window), func(t *testing.T) {
			opt := arpc.WithStreamWindow(window)
			engBubble(t, func(t *testing.T, p *arpctest.Pair) {
				results := make(chan error, 2*streams)
				serve := func(s *arpc.Stream) { results <- engTalk(s, s.ID(), messages, most) }
				p.Server.Handler.HandleStream("/x", serve)
				p.Client.Handler.HandleStream("/x", serve)
				for i := range streams {
					s := engOpen(t, t.Context(), []*arpc.Client{p.Client, p.Peer()}[i%2], "/x")
					go func() { results <- engTalk(s, 100+s.ID(), messages, most) }()
				}
				for range 2 * streams {
					require.NoError(t, <-results)
				}
				suiteAlive(t, p)
			}, arpctest.ServerOptions(opt), arpctest.ClientOptions(opt), arpctest.Setup(suiteWithEcho))
		})
	}
}

// A stream that nobody receives from holds up its sender, and nobody else.
func TestV2StuckStreamDelaysNobody(t *testing.T) {
	engEach(t, func(t *testing.T, p *arpctest.Pair) {
		served := engServed(t, p.Server.Handler, "/stuck")
		for range 10 {
			s := engOpen(t, t.Context(), p.Client, "/stuck")
			go func() {
				for s.Send(make([]byte, 10000)) == nil {
				}
			}()
			far := suiteNext(t, served)
			go func() {
				for far.Send(make([]byte, 10000)) == nil {
				}
			}()
		}
		results := make(chan error, 1010)
		for i := range 1000 {
			go func() {
				var body []byte
				err := []*arpc.Client{p.Client, p.Peer()}[i%2].Call("/echo", make([]byte, i), &body, suitePatience)
				if err == nil && len(body) != i {
					err = errors.New("a wrong answer")
				}
				results <- err
			}()
		}
		p.Server.Handler.HandleStream("/talk", func(s *arpc.Stream) { results <- engTalk(s, s.ID(), 20, 5000) })
		for range 5 {
			s := engOpen(t, t.Context(), p.Client, "/talk")
			go func() { results <- engTalk(s, s.ID(), 20, 5000) }()
		}
		for range 1010 {
			require.NoError(t, suiteNext(t, results))
		}
	}, arpctest.Setup(suiteWithEcho))
}

// However many streams are stuck, within its windows the peer has done no wrong.
func TestV2ManyStuckStreamsAreNoOverrun(t *testing.T) {
	engBubble(t, func(t *testing.T, p *arpctest.Pair) {
		served := engServed(t, p.Server.Handler, "/x")
		var far []*arpc.Stream
		for range 50 {
			s := engOpen(t, t.Context(), p.Client, "/x")
			far = append(far, suiteNext(t, served))
			go func() {
				for s.Send(make([]byte, 1000)) == nil {
				}
			}()
		}
		suiteAlive(t, p)
		for _, s := range far {
			require.NoError(t, context.Cause(s.Context()))
		}
	}, arpctest.Setup(suiteWithEcho), arpctest.ServerOptions(arpc.WithMaxInflightBytes(100<<10), arpc.WithStreamWindow(10000)))
}

// Two ends that both send and do not receive end when their contexts do.
func TestV2BothSidesSendAndNobodyReceives(t *testing.T) {
	engBubble(t, func(t *testing.T, p *arpctest.Pair) {
		served := engServed(t, p.Server.Handler, "/x")
		start := time.Now()
		ctx, cancel := context.WithTimeout(t.Context(), engSecond)
		defer cancel()
		s := engOpen(t, ctx, p.Client, "/x")
		far := suiteNext(t, served)
		var both sync.WaitGroup
		for _, end := range []*arpc.Stream{s, far} {
			both.Go(func() {
				err := error(nil)
				for err == nil {
					err = end.Send(make([]byte, 1000))
				}
				require.Equal(t, arpc.CodeDeadlineExceeded, arpc.CodeOf(err))
			})
		}
		both.Wait()
		require.Equal(t, engSecond, time.Since(start))
		suiteAlive(t, p)
	}, arpctest.Setup(suiteWithEcho))
}
