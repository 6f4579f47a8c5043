package command_test

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/arpc-go/arpc"
	"github.com/arpc-go/arpc/arpctest"
	"github.com/arpc-go/arpc/extension/command"
)

// patientDesk executes orders that wait until their ctx ends, and those with a number
// at once.
type patientDesk struct {
	began chan struct{} // one for each that has sent its first result
	ended chan error    // why it ended
}

func newPatientDesk() patientDesk {
	return patientDesk{make(chan struct{}, 99), make(chan error, 99)}
}

func (d patientDesk) do(ctx context.Context, o order, reply *command.Reply[int]) error {
	if o.N > 0 {
		return reply.Last(o.N)
	}
	if err := reply.Send(1); err != nil {
		return err
	}
	d.began <- struct{}{}
	<-ctx.Done()
	d.ended <- context.Cause(ctx)
	return ctx.Err()
}

func TestC05_DeadlineReachesExec(t *testing.T) {
	for name, send := range ways {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				left := make(chan time.Duration, 1)
				_, s := pair(t, arpctest.Memory(), func(ctx context.Context, _ order, _ *command.Reply[int]) error {
					deadline, ok := ctx.Deadline()
					if !ok {
						return errors.New("there is no deadline")
					}
					left <- time.Until(deadline)
					<-ctx.Done()
					return ctx.Err()
				})
				ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
				defer cancel()
				start := time.Now()
				_, err := send(ctx, s, order{})
				require.ErrorIs(t, err, context.DeadlineExceeded)
				require.NotErrorIs(t, err, context.Canceled)
				require.Equal(t, arpc.CodeDeadlineExceeded, arpc.CodeOf(err))
				require.False(t, arpc.SafeToRetry(err))
				require.Equal(t, 3*time.Second, time.Since(start))
				require.LessOrEqual(t, <-left, 3*time.Second)
				synctest.Wait()
			})
		})
	}
}

func TestC05_ExecTimeoutIsTheSoonerDeadline(t *testing.T) {
	const limit = 2 * time.Second
	for name, send := range ways {
		for _, patience := range []time.Duration{time.Second, time.Minute} {
			t.Run(name+" with "+patience.String(), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					reg := command.NewRegistry[*desk]()
					command.Register[*desk, order](reg, command.WithExecTimeout(limit))
					p := arpctest.New(t, arpctest.Memory(), arpctest.Setup(func(s *arpc.Server, _ *arpc.Handler) {
						reg.Handle(s.Handler, &desk{func(ctx context.Context, _ order, _ *command.Reply[int]) error {
							<-ctx.Done()
							return ctx.Err()
						}})
					}))
					ctx, cancel := context.WithTimeout(t.Context(), patience)
					defer cancel()
					start := time.Now()
					_, err := send(ctx, reg.Sender(p.Client), order{})
					require.Equal(t, arpc.CodeDeadlineExceeded, arpc.CodeOf(err))
					require.Equal(t, patience > limit, arpc.IsRemote(err), "who says so")
					require.Equal(t, min(patience, limit), time.Since(start))
					synctest.Wait()
				})
			})
		}
	}
}

func TestEndOfContextCancelsExec(t *testing.T) {
	d := newPatientDesk()
	arpctest.Each(t, func(t *testing.T, p *arpctest.Pair) {
		s := orders().Sender(p.Client)
		for name, send := range ways {
			ctx, cancel := context.WithCancel(t.Context())
			failed := make(chan error, 1)
			go func() {
				_, err := send(ctx, s, order{})
				failed <- err
			}()
			next(t, "Exec begins", d.began)
			cancel()
			err := next(t, name+" returns", failed)
			require.ErrorIs(t, err, context.Canceled)
			require.NotErrorIs(t, err, context.DeadlineExceeded)
			require.Equal(t, arpc.CodeCanceled, arpc.CodeOf(err))
			require.Equal(t, arpc.CodeCanceled, arpc.CodeOf(next(t, "Exec ends", d.ended)))
			require.Equal(t, arpc.StateConnected, p.Client.State())
		}
	}, doing(d.do), arpctest.Over(arpctest.Worlds()...))
}

// An old server is not told. The caller gives up all the same, and the connection goes
// on.
func TestEndOfContextWithAnOldServer(t *testing.T) {
	release := make(chan struct{})
	began := make(chan struct{}, 9)
	p, s := pair(t, arpctest.OldServer(arpctest.Memory()), func(_ context.Context, o order, reply *command.Reply[int]) error {
		if o.N == 0 {
			began <- struct{}{}
			<-release
		}
		return reply.Last(o.N)
	})
	defer close(release)
	for name, send := range ways {
		ctx, cancel := context.WithCancel(t.Context())
		failed := make(chan error, 1)
		go func() {
			_, err := send(ctx, s, order{})
			failed <- err
		}()
		next(t, "Exec begins", began)
		cancel()
		require.ErrorIs(t, next(t, name+" returns", failed), context.Canceled)
		values, err := send(patient(t), s, order{1})
		require.NoError(t, err)
		require.Equal(t, []int{1}, values)
	}
	require.Equal(t, arpc.StateConnected, p.Client.State())
}

func TestLeavingALoopCancelsExec(t *testing.T) {
	d := newPatientDesk()
	arpctest.Each(t, func(t *testing.T, p *arpctest.Pair) {
		s := orders().Sender(p.Client)
		for r, err := range command.SendMulti(patient(t), s, order{}) {
			require.NoError(t, err)
			require.Equal(t, 1, r.Value)
			break
		}
		require.Error(t, next(t, "Exec ends", d.ended))
		<-d.began
	}, doing(d.do), arpctest.Over(arpctest.Worlds()...))
}

func TestC03_CancelTellsTheServer(t *testing.T) {
	d := newPatientDesk()
	arpctest.Each(t, func(t *testing.T, p *arpctest.Pair) {
		pending, err := command.Start(patient(t), orders().Sender(p.Client), order{})
		require.NoError(t, err)
		require.Equal(t, 1, next(t, "the first result", pending.Results()).Value)
		require.True(t, pending.Has())
		require.NoError(t, pending.Err())
		pending.Cancel()
		pending.Cancel()
		require.Equal(t, arpc.CodeCanceled, arpc.CodeOf(next(t, "Exec ends", d.ended)))
		next(t, "the command ends", pending.Done())
		require.False(t, pending.Has())
		require.ErrorIs(t, pending.Err(), context.Canceled)
		_, more := <-pending.Results()
		require.False(t, more)
		<-d.began
	}, doing(d.do), arpctest.Over(arpctest.Worlds()...))
}

func TestCancelOfACommandThatHasEndedDoesNothing(t *testing.T) {
	_, s := pair(t, arpctest.Memory(), double)
	pending, err := command.Start(patient(t), s, order{4})
	require.NoError(t, err)
	next(t, "the command ends", pending.Done())
	pending.Cancel()
	require.NoError(t, pending.Err())
	require.Equal(t, command.Result[int]{Value: 8, Last: true}, <-pending.Results(), "what has come stays")
}

func TestEndOfTheConnectionEndsExecAndTheCommand(t *testing.T) {
	for name, send := range ways {
		t.Run(name, func(t *testing.T) {
			d := newPatientDesk()
			p, s := pair(t, arpctest.Memory(), d.do)
			failed := make(chan error, 1)
			go func() {
				_, err := send(t.Context(), s, order{})
				failed <- err
			}()
			next(t, "Exec begins", d.began)
			arpctest.FaultsOf(p.Client.Conn()).Cut()
			err := next(t, "it returns", failed)
			require.Equal(t, arpc.CodeUnavailable, arpc.CodeOf(err))
			require.False(t, arpc.SafeToRetry(err), "it may have been executed")
			require.Error(t, next(t, "Exec ends", d.ended))
		})
	}
}

// The deadline for sending is one of its own: what is on its way may take longer.
func TestC05_SendDeadlineIsNotThatOfExec(t *testing.T) {
	for name, send := range ways {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				_, s := pair(t, arpctest.Memory(), func(ctx context.Context, o order, reply *command.Reply[int]) error {
					if _, ok := ctx.Deadline(); ok {
						return errors.New("there is a deadline")
					}
					time.Sleep(time.Hour)
					return reply.Last(o.N)
				})
				ctx := command.ContextWithSendDeadline(t.Context(), time.Now().Add(time.Second))
				values, err := send(ctx, s, order{1})
				require.NoError(t, err)
				require.Equal(t, []int{1}, values)
			})
		})
	}
}

func TestC05_SendDeadlineIsForNoneAndMany(t *testing.T) {
	ctx := command.ContextWithSendDeadline(patient(t), time.Now().Add(patience))
	_, s := pair(t, arpctest.Memory(), count)
	_, err := command.Send(ctx, s, order{2})
	require.Equal(t, arpc.CodeFailedPrecondition, arpc.CodeOf(err))
	_, s = pair(t, arpctest.Memory(), func(context.Context, order, *command.Reply[int]) error { return nil })
	_, err = command.Send(ctx, s, order{})
	require.Equal(t, arpc.CodeNotFound, arpc.CodeOf(err))
	_, err = command.Send(ctx, s, stop{})
	require.NoError(t, err)
}

// A peer that does not read leaves no room for a command.
func TestC05_SendDeadlinePasses(t *testing.T) {
	for name, send := range ways {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p, s := pair(t, arpctest.Memory(), double, arpctest.ClientOptions(arpc.WithSendQueue(1, 1<<10), arpc.WithWriteTimeout(time.Hour)))
				arpctest.FaultsOf(p.Client.Conn()).Stall()
				for p.Client.Notify("/fill", make([]byte, 900), arpc.TimeZero) == nil {
					synctest.Wait() // the connection takes 64 KiB
				}
				start := time.Now()
				ctx := command.ContextWithSendDeadline(t.Context(), start.Add(3*time.Second))
				_, err := send(ctx, s, order{})
				require.ErrorIs(t, err, context.DeadlineExceeded)
				require.NotErrorIs(t, err, context.Canceled)
				require.True(t, arpc.SafeToRetry(err))
				require.ErrorContains(t, err, "ContextWithSendDeadline")
				require.Equal(t, 3*time.Second, time.Since(start))

				arpctest.FaultsOf(p.Client.Conn()).Resume()
				values, err := send(t.Context(), s, order{1})
				require.NoError(t, err, "the connection goes on")
				require.Equal(t, []int{2}, values)
			})
		})
	}
}
