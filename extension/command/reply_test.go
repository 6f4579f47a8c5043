package command_test

import (
	"context"
	"errors"
	"math"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/arpc-go/arpc"
	"github.com/arpc-go/arpc/arpctest"
	"github.com/arpc-go/arpc/extension/command"
)

// The caller has the last result at once, and Exec goes on.
func TestLastEndsTheCommandForItsCaller(t *testing.T) {
	for name, send := range ways {
		t.Run(name, func(t *testing.T) {
			release, said := make(chan struct{}), make(chan error, 2)
			_, s := pair(t, arpctest.Memory(), func(_ context.Context, o order, reply *command.Reply[int]) error {
				if err := reply.Last(o.N); err != nil {
					return err
				}
				<-release
				said <- reply.Send(7)
				said <- reply.Last(8)
				return errRefused
			})
			values, err := send(patient(t), s, order{1})
			require.NoError(t, err)
			require.Equal(t, []int{1}, values)
			close(release)
			require.ErrorIs(t, next(t, "Send returns", said), command.ErrLastSent)
			require.ErrorIs(t, next(t, "Last returns", said), command.ErrLastSent)
		})
	}
}

func TestReplyEndsWithExec(t *testing.T) {
	for name, send := range ways {
		t.Run(name, func(t *testing.T) {
			kept := make(chan *command.Reply[int], 1)
			_, s := pair(t, arpctest.Memory(), func(_ context.Context, o order, reply *command.Reply[int]) error {
				kept <- reply
				if o.N < 0 {
					panic("on purpose")
				}
				return reply.Send(o.N)
			})
			for _, n := range []int{1, -1} {
				send(patient(t), s, order{n})
				reply := <-kept
				require.Eventually(t, func() bool {
					return errors.Is(reply.Send(2), arpc.ErrHandlerReturned) && errors.Is(reply.Last(3), arpc.ErrHandlerReturned)
				}, guard, time.Millisecond)
			}
		})
	}
}

// Send may be called by several goroutines.
func TestResultsOfSeveralGoroutines(t *testing.T) {
	const goroutines, each = 8, 200
	_, s := pair(t, arpctest.TCP(), func(_ context.Context, _ order, reply *command.Reply[int]) error {
		var all sync.WaitGroup
		for g := range goroutines {
			all.Go(func() {
				for n := range each {
					if reply.Send(g*each+n) != nil {
						return
					}
				}
			})
		}
		all.Wait()
		return nil
	})
	values, _, err := all(patient(t), s, order{})
	require.NoError(t, err)
	require.Len(t, values, goroutines*each)
	seen := make(map[int]int) // of a goroutine, how many came
	for _, v := range values {
		require.Equal(t, seen[v/each], v%each, "those of one goroutine are in order")
		seen[v/each]++
	}
}

// sum has results that JSON cannot encode: those that are negative become infinite.
type sum struct{ Of []float64 }

func (s sum) Exec(_ context.Context, ignore *bool, reply *command.Reply[float64]) error {
	for _, f := range s.Of {
		if f < 0 {
			f = math.Inf(-1)
		}
		if err := reply.Send(f); err != nil && !*ignore {
			return err
		}
	}
	if len(s.Of) > 1 {
		return reply.Last(0)
	}
	return nil
}

func TestResultThatCannotBeEncodedIsAnErrorAtBothEnds(t *testing.T) {
	for _, ignore := range []bool{false, true} {
		reg := command.NewRegistry[*bool]()
		command.Register[*bool, sum](reg)
		p := arpctest.New(t, arpctest.Memory(), arpctest.Setup(func(s *arpc.Server, _ *arpc.Handler) {
			reg.Handle(s.Handler, &ignore)
		}))
		s := reg.Sender(p.Client)
		_, err := command.Send(patient(t), s, sum{[]float64{-1}})
		require.Equal(t, arpc.CodeInternal, arpc.CodeOf(err))
		require.True(t, arpc.IsRemote(err))
		var got []float64
		for r, err := range command.SendMulti(patient(t), s, sum{[]float64{1, -1, 2}}) {
			if err != nil {
				require.Equal(t, arpc.CodeInternal, arpc.CodeOf(err))
				require.ErrorContains(t, err, "command: encode float64")
				got = append(got, -1)
				continue
			}
			got = append(got, r.Value)
		}
		require.Equal(t, []float64{1, -1}, got, "the end is the error, whatever Exec returns")
	}
}

// SendContext gives up and the command goes on.
func TestSendContextGivesUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		gaveUp := make(chan error, 1)
		_, s := pair(t, arpctest.Memory(), func(ctx context.Context, _ order, reply *command.Reply[int]) error {
			for {
				short, cancel := context.WithTimeout(ctx, time.Second)
				err := reply.SendContext(short, 1)
				cancel()
				if err != nil {
					gaveUp <- err
					return reply.Last(2)
				}
			}
		}, arpctest.ClientOptions(arpc.WithStreamWindow(1<<10)))
		pending, err := command.Start(t.Context(), s, order{})
		require.NoError(t, err)
		require.ErrorIs(t, <-gaveUp, context.DeadlineExceeded)
		var last command.Result[int]
		for last = range pending.Results() {
		}
		require.NoError(t, pending.Err())
		require.Equal(t, command.Result[int]{Value: 2, Last: true}, last)
	})
}

func TestSendContextOfOneResultDoesNotWait(t *testing.T) {
	_, s := pair(t, arpctest.Memory(), func(ctx context.Context, o order, reply *command.Reply[int]) error {
		return reply.SendContext(ctx, o.N)
	})
	n, err := command.Send(patient(t), s, order{3})
	require.NoError(t, err)
	require.Equal(t, 3, n)
}

// The value may be reused when Send returns.
func TestResultMayBeReused(t *testing.T) {
	reg := command.NewRegistry[struct{}]()
	command.Register[struct{}, page](reg)
	p := arpctest.New(t, arpctest.Memory(), arpctest.Setup(func(s *arpc.Server, _ *arpc.Handler) {
		reg.Handle(s.Handler, struct{}{})
	}))
	b, err := command.Send(patient(t), reg.Sender(p.Client), page{1})
	require.NoError(t, err)
	require.Equal(t, []byte("a"), b)
	var got []string
	for r, err := range command.SendMulti(patient(t), reg.Sender(p.Client), page{3}) {
		require.NoError(t, err)
		got = append(got, string(r.Value))
	}
	require.Equal(t, []string{"a", "b", "c"}, got)
}

// page sends bytes that it writes over afterwards.
type page struct{ N int }

func (p page) Exec(_ context.Context, _ struct{}, reply *command.Reply[[]byte]) error {
	b := []byte("?")
	for n := range p.N {
		b[0] = byte('a' + n)
		if err := reply.Send(b); err != nil {
			return err
		}
	}
	b[0] = '!'
	return nil
}

func TestC05_ReplyKnowsSenderAndTimeOfReceipt(t *testing.T) {
	type seen struct {
		remote, note string
		at           time.Time
	}
	saw := make(chan seen, 1)
	arpctest.Each(t, func(t *testing.T, p *arpctest.Pair) {
		s := orders().Sender(p.Client)
		for _, send := range ways {
			before := time.Now()
			ctx := arpc.ContextWithMetadata(patient(t), arpc.Metadata{"note": "hello"})
			_, err := send(ctx, s, order{1})
			require.NoError(t, err)
			got := next(t, "executed", saw)
			require.Equal(t, p.Client.Conn().LocalAddr().String(), got.remote)
			require.Equal(t, "hello", got.note)
			require.False(t, got.at.Before(before))
			require.False(t, got.at.After(time.Now()))
		}
	}, arpctest.Over(arpctest.Worlds()...), doing(func(_ context.Context, o order, reply *command.Reply[int]) error {
		saw <- seen{reply.Client().Conn().RemoteAddr().String(), reply.Metadata()["note"], reply.ReceivedAt()}
		return reply.Last(o.N)
	}))
}

// What a command waits for between its arrival and its Exec does not count.
func TestC05_TimeOfReceiptIsThatOfTheMessage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		took := make(chan time.Duration, 1)
		_, s := pair(t, arpctest.Memory(), func(_ context.Context, o order, reply *command.Reply[int]) error {
			took <- time.Since(reply.ReceivedAt())
			return reply.Last(o.N)
		}, arpctest.Setup(func(s *arpc.Server, _ *arpc.Handler) {
			s.Handler.Use(func(ctx *arpc.Context) {
				time.Sleep(time.Second)
				ctx.Next()
			})
			s.Handler.UseStream(func(next arpc.StreamHandlerFunc) arpc.StreamHandlerFunc {
				return func(s *arpc.Stream) {
					time.Sleep(time.Second)
					next(s)
				}
			})
		}))
		for _, send := range ways {
			_, err := send(t.Context(), s, order{1})
			require.NoError(t, err)
			require.Equal(t, time.Second, <-took)
		}
	})
}
