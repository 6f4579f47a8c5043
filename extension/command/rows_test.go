package command_test

import (
	"context"
	"io"
	"runtime"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/arpc-go/arpc"
	"github.com/arpc-go/arpc/arpctest"
	"github.com/arpc-go/arpc/extension/command"
	"github.com/arpc-go/arpc/middleware/call"
)

// The tests whose names begin with TestRow and a number guard against failures that a
// predecessor of this package had, the system cmd-stream-go. The numbers are those of
// the tests in rows_*_test.go of package arpc; those whose failures show below commands
// are tested there, and here as far as commands have to do with them.

// A predecessor wrote a command to the dead socket of an outage, reported it as sent, and
// never ended it.
func TestRow03_CommandDuringAnOutageEnds(t *testing.T) {
	for name, send := range ways {
		t.Run(name+", the server is gone", func(t *testing.T) {
			p, s := pair(t, arpctest.Memory(), double)
			p.Server.Stop()
			require.Eventually(t, func() bool { return p.Client.State() != arpc.StateConnected }, guard, time.Millisecond)
			_, err := send(t.Context(), s, order{})
			require.ErrorIs(t, err, arpc.ErrDisconnected)
			require.True(t, arpc.SafeToRetry(err))
		})
		t.Run(name+", the network is dead and nobody knows yet", func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				executed := false
				p, s := pair(t, arpctest.Memory(), func(_ context.Context, _ order, reply *command.Reply[int]) error {
					executed = true
					return reply.Last(1)
				})
				arpctest.FaultsOf(p.Client.Conn()).Stall()
				_, err := send(t.Context(), s, order{})
				require.ErrorIs(t, err, arpc.ErrKeepalive)
				require.Equal(t, arpc.CodeUnavailable, arpc.CodeOf(err))
				require.False(t, executed)
			})
		})
	}
}

// A predecessor returned no error from a command with many results when it was late, nor
// when it had failed.
func TestRow11_MultiResultCommandThatIsNotCompleteIsAnError(t *testing.T) {
	causes := map[string]execFunc{
		"the deadline passes": func(ctx context.Context, _ order, _ *command.Reply[int]) error {
			<-ctx.Done()
			return nil // as if all was well
		},
		"the deadline passes, which Exec says": func(ctx context.Context, _ order, _ *command.Reply[int]) error {
			<-ctx.Done()
			return ctx.Err()
		},
		"Exec fails":            func(context.Context, order, *command.Reply[int]) error { return errRefused },
		"Exec returns io.EOF":   func(context.Context, order, *command.Reply[int]) error { return io.EOF },
		"Exec panics":           func(context.Context, order, *command.Reply[int]) error { panic("on purpose") },
		"Exec ends its routine": func(context.Context, order, *command.Reply[int]) error { runtime.Goexit(); return nil },
	}
	for name, cause := range causes {
		for _, world := range []arpctest.World{arpctest.Memory(), arpctest.OldServer(arpctest.Memory())} {
			t.Run(name+" over "+world.Name, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					serverCtx, cancel := context.WithTimeout(t.Context(), time.Hour) // for old peers, which tell no deadline
					defer cancel()
					_, s := pair(t, world, func(ctx context.Context, o order, reply *command.Reply[int]) error {
						if _, ok := ctx.Deadline(); !ok {
							ctx = serverCtx
						}
						for n := range o.N {
							if err := reply.Send(n + 1); err != nil {
								return err
							}
						}
						return cause(ctx, o, reply)
					})
					for _, before := range []int{0, 3} {
						for _, way := range []string{"SendMulti", "Start"} {
							ctx, cancel := context.WithTimeout(t.Context(), time.Second)
							values, err := ways[way](ctx, s, order{before})
							cancel()
							require.Error(t, err)
							require.Equal(t, upTo(before), values, "what came before is not lost")
						}
					}
				})
			})
		}
	}
}

// Wherever the connection is cut: all results, or an error behind those that came.
func TestRow11_MultiResultCommandThatIsCutAnywhereIsAnError(t *testing.T) {
	const results = 6
	for _, marked := range []bool{true, false} {
		complete := false
		for cut := int64(0); !complete; cut++ {
			synctest.Test(t, func(t *testing.T) {
				var executed atomic.Bool
				p, s := pair(t, arpctest.Memory(), func(ctx context.Context, o order, reply *command.Reply[int]) error {
					executed.Store(true)
					if marked {
						return count(ctx, o, reply)
					}
					for n := range o.N {
						reply.Send(n + 1)
					}
					return nil
				})
				arpctest.FaultsOf(p.Peer().Conn()).CutAfter(cut)
				values, _, err := all(t.Context(), s, order{results})
				require.Equal(t, upTo(len(values)), values)
				if err != nil {
					require.Equal(t, arpc.CodeUnavailable, arpc.CodeOf(err))
					synctest.Wait()
					require.False(t, arpc.SafeToRetry(err) && executed.Load())
				} else {
					require.Len(t, values, results)
					complete = true
				}
			})
			require.Less(t, cut, int64(10_000), "it must be complete some time")
		}
	}
}

// A predecessor's breaker took the loss of a connection for a success.
func TestRow12_BreakerCountsALostConnection(t *testing.T) {
	for name, send := range ways {
		t.Run(name, func(t *testing.T) {
			d := newPatientDesk()
			breaker := call.NewBreaker("orders", call.WithFailureRate(1, 1, time.Minute))
			p := arpctest.New(t, arpctest.Memory(), doing(d.do))
			s := orders().Sender(p.Client, command.WithInterceptors(breaker.Intercept))
			failed := make(chan error, 1)
			go func() {
				_, err := send(t.Context(), s, order{})
				failed <- err
			}()
			next(t, "Exec begins", d.began)
			arpctest.FaultsOf(p.Client.Conn()).Cut()
			require.Equal(t, arpc.CodeUnavailable, arpc.CodeOf(next(t, "it returns", failed)))
			require.Equal(t, call.Open, breaker.Circuits()[0].State)
			_, err := send(t.Context(), s, order{})
			var open *call.OpenError
			require.ErrorAs(t, err, &open)
			require.True(t, arpc.SafeToRetry(err))
			<-d.ended
		})
	}
}

// The same with the breaker around all calls of the client, which sees a command with
// one result.
func TestRow12_BreakerOfTheClientCountsALostConnection(t *testing.T) {
	d := newPatientDesk()
	breaker := call.NewBreaker("orders", call.WithFailureRate(1, 1, time.Minute))
	p, s := pair(t, arpctest.Memory(), d.do, arpctest.Setup(func(_ *arpc.Server, client *arpc.Handler) { client.UseCall(breaker.Intercept) }))
	failed := make(chan error, 1)
	go func() {
		_, err := command.Send(t.Context(), s, order{})
		failed <- err
	}()
	next(t, "Exec begins", d.began)
	arpctest.FaultsOf(p.Client.Conn()).Cut()
	require.Error(t, next(t, "it returns", failed))
	require.Equal(t, call.Open, breaker.Circuits()[0].State)
	<-d.ended
}

// endless sends results until it cannot.
func endless(_ context.Context, o order, reply *command.Reply[int]) error {
	if o.N > 0 {
		return reply.Last(o.N)
	}
	for n := 1; ; n++ {
		if err := reply.Send(n); err != nil {
			return err
		}
	}
}

// A predecessor's connection froze when nobody took the results of one command.
func TestRow14_LoopThatStandsDelaysNoOthers(t *testing.T) {
	each(t, endless, func(t *testing.T, p *arpctest.Pair, s *command.Sender[*desk]) {
		n := 0
		for r, err := range command.SendMulti(patient(t), s, order{0}) {
			if p.Version == 1 && err != nil {
				require.ErrorIs(t, err, arpc.ErrStreamOverrun, "old peers have no flow control: the command ends")
				break
			}
			require.NoError(t, err)
			n++
			require.Equal(t, n, r.Value)
			for _, send := range ways {
				values, err := send(patient(t), s, order{7})
				require.NoError(t, err)
				require.Equal(t, []int{7}, values)
			}
			if n == 20 {
				break
			}
		}
		require.Equal(t, arpc.StateConnected, p.Client.State())
	})
}

// A predecessor's reader stood when the channel of one command was full.
func TestRow18_FullResultChannelDelaysNoOthers(t *testing.T) {
	const commands, results = 20, 2000
	_, s := pair(t, arpctest.TCP(), count, arpctest.ClientOptions(arpc.WithStreamWindow(1<<12)))
	var pending []*command.Pending[int]
	for range commands {
		p, err := command.Start(patient(t), s, order{results})
		require.NoError(t, err)
		pending = append(pending, p)
	}
	for _, send := range ways {
		values, err := send(patient(t), s, order{1})
		require.NoError(t, err)
		require.Equal(t, []int{1}, values)
	}
	for _, p := range pending {
		var values []int
		last := false
		for r := range p.Results() {
			values, last = append(values, r.Value), r.Last
		}
		require.NoError(t, p.Err())
		require.Equal(t, upTo(results), values)
		require.True(t, last)
	}
}

// A predecessor left the deadline of one command on the connection, where it failed all
// that were sent later.
func TestRow19_ExpiredSendDeadlineIsForgotten(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, s := pair(t, arpctest.Memory(), double)
		for _, send := range ways {
			ctx := command.ContextWithSendDeadline(t.Context(), time.Now().Add(time.Second))
			_, err := send(ctx, s, order{1})
			require.NoError(t, err)
			time.Sleep(time.Minute)
			values, err := send(t.Context(), s, order{1})
			require.NoError(t, err)
			require.Equal(t, []int{2}, values)
			_, err = send(ctx, s, order{1})
			require.Equal(t, arpc.CodeDeadlineExceeded, arpc.CodeOf(err))
			require.Equal(t, arpc.StateConnected, p.Client.State())
		}
	})
}

// A write that cannot be completed ends the connection, and so its commands.
func TestRow19_CommandsEndWithAConnectionThatCannotBeWritten(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newPatientDesk()
		p, s := pair(t, arpctest.Memory(), d.do, arpctest.ClientOptions(arpc.WithWriteTimeout(time.Second), arpc.WithKeepalive(0, 0)))
		pending, err := command.Start(t.Context(), s, order{})
		require.NoError(t, err)
		<-d.began
		faults := arpctest.FaultsOf(p.Client.Conn())
		faults.Stall()
		require.NoError(t, p.Client.Notify("/fill", make([]byte, 1<<20), arpc.TimeForever))
		for range pending.Results() {
		}
		require.Equal(t, arpc.CodeUnavailable, arpc.CodeOf(pending.Err()))
		faults.Resume()
		require.Error(t, <-d.ended)
	})
}
