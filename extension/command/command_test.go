package command_test

import (
	"context"
	"fmt"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/arpc-go/arpc"
	"github.com/arpc-go/arpc/arpctest"
	"github.com/arpc-go/arpc/extension/command"
)

// ways are the ways to send an order and to collect its results.
var ways = map[string]func(ctx context.Context, s *command.Sender[*desk], o order) ([]int, error){
	"Send": func(ctx context.Context, s *command.Sender[*desk], o order) ([]int, error) {
		n, err := command.Send[int](ctx, s, o)
		if err != nil {
			return nil, err
		}
		return []int{n}, nil
	},
	"SendMulti": func(ctx context.Context, s *command.Sender[*desk], o order) ([]int, error) {
		values, _, err := all(ctx, s, o)
		return values, err
	},
	"Start": func(ctx context.Context, s *command.Sender[*desk], o order) (values []int, err error) {
		p, err := command.Start(ctx, s, o)
		if err != nil {
			return nil, err
		}
		for r := range p.Results() {
			values = append(values, r.Value)
		}
		return values, p.Err()
	},
}

func TestC02_OneResult(t *testing.T) {
	each(t, double, func(t *testing.T, p *arpctest.Pair, s *command.Sender[*desk]) {
		for name, send := range ways {
			t.Run(name, func(t *testing.T) {
				values, err := send(patient(t), s, order{21})
				require.NoError(t, err)
				require.Equal(t, []int{42}, values)
			})
		}
	})
}

// The type of the results follows from the command, and may be written out.
func TestResultTypeIsInferred(t *testing.T) {
	_, s := pair(t, arpctest.Memory(), double)
	a, err := command.Send(patient(t), s, order{1})
	require.NoError(t, err)
	b, err := command.Send[int](patient(t), s, order{1})
	require.NoError(t, err)
	require.Equal(t, a, b)
}

func TestC02_ResultsInOrderTheLastMarked(t *testing.T) {
	const n = 1000
	each(t, count, func(t *testing.T, p *arpctest.Pair, s *command.Sender[*desk]) {
		values, last, err := all(patient(t), s, order{n})
		require.NoError(t, err)
		require.Equal(t, upTo(n), values)
		require.True(t, last)
	})
}

// A command that does not know which result is the last ends when Exec returns.
func TestResultsWithoutAMarkedOneEndWithExec(t *testing.T) {
	do := func(_ context.Context, o order, reply *command.Reply[int]) error {
		for n := range o.N {
			if err := reply.Send(n + 1); err != nil {
				return err
			}
		}
		return nil
	}
	each(t, do, func(t *testing.T, p *arpctest.Pair, s *command.Sender[*desk]) {
		values, last, err := all(patient(t), s, order{3})
		require.NoError(t, err)
		require.Equal(t, upTo(3), values)
		require.False(t, last)
		one, err := command.Send(patient(t), s, order{1})
		require.NoError(t, err)
		require.Equal(t, 1, one)
	})
}

func TestC02_NoResults(t *testing.T) {
	executed := make(chan int, 9)
	do := func(_ context.Context, o order, _ *command.Reply[int]) error {
		executed <- o.N
		return nil
	}
	each(t, do, func(t *testing.T, p *arpctest.Pair, s *command.Sender[*desk]) {
		_, err := command.Send(patient(t), s, stop{1})
		require.NoError(t, err)
		require.Equal(t, 1, next(t, "executed", executed))
		none, _, err := all(patient(t), s, stop{2})
		require.NoError(t, err)
		require.Empty(t, none)
		require.Equal(t, 2, next(t, "executed", executed))
		values, _, err := all(patient(t), s, order{3})
		require.NoError(t, err)
		require.Empty(t, values)
		require.Equal(t, 3, next(t, "executed", executed))
	})
}

// Nobody mistakes a zero for a result.
func TestSendTakesExactlyOneResult(t *testing.T) {
	each(t, func(ctx context.Context, o order, reply *command.Reply[int]) error {
		for n := range o.N {
			reply.Send(n)
		}
		return nil
	}, func(t *testing.T, p *arpctest.Pair, s *command.Sender[*desk]) {
		_, err := command.Send(patient(t), s, order{0})
		require.ErrorContains(t, err, "/command/order has no result")
		_, few := command.Send(patient(t), s, order{2})
		require.ErrorContains(t, few, "/command/order has more than one result")
		if p.Version == 2 {
			require.Equal(t, arpc.CodeNotFound, arpc.CodeOf(err))
			require.Equal(t, arpc.CodeFailedPrecondition, arpc.CodeOf(few))
		}
	})
}

// The second result is an error to Exec too, Last as well as Send.
func TestSecondResultOfSendIsAnErrorToExec(t *testing.T) {
	said := make(chan error, 1)
	_, s := pair(t, arpctest.Memory(), func(_ context.Context, o order, reply *command.Reply[int]) error {
		if err := reply.Send(1); err != nil {
			return err
		}
		said <- reply.Last(2)
		return nil
	})
	_, err := command.Send(patient(t), s, order{})
	require.ErrorContains(t, err, "more than one result")
	require.ErrorContains(t, next(t, "Last returns", said), "more than one result")
}

func TestErrorOfExecIsTheCallers(t *testing.T) {
	do := func(_ context.Context, o order, reply *command.Reply[int]) error {
		if o.N == 0 {
			return errPlain
		}
		return errRefused
	}
	each(t, do, func(t *testing.T, p *arpctest.Pair, s *command.Sender[*desk]) {
		for name, send := range ways {
			t.Run(name, func(t *testing.T) {
				_, err := send(patient(t), s, order{0})
				require.EqualError(t, err, errPlain.Error())
				require.Equal(t, arpc.CodeUnknown, arpc.CodeOf(err))
				_, err = send(patient(t), s, order{1})
				require.EqualError(t, err, errRefused.Error())
				require.False(t, arpc.SafeToRetry(err))
				if p.Version == 2 {
					require.Equal(t, arpc.CodePermissionDenied, arpc.CodeOf(err))
					require.True(t, arpc.IsRemote(err))
				}
			})
		}
	})
}

// What was sent before an error is not lost.
func TestErrorComesBehindTheResults(t *testing.T) {
	do := func(_ context.Context, o order, reply *command.Reply[int]) error {
		for n := range o.N {
			if err := reply.Send(n + 1); err != nil {
				return err
			}
		}
		return errRefused
	}
	each(t, do, func(t *testing.T, p *arpctest.Pair, s *command.Sender[*desk]) {
		for _, way := range []string{"SendMulti", "Start"} {
			values, err := ways[way](patient(t), s, order{100})
			require.EqualError(t, err, errRefused.Error())
			require.Equal(t, upTo(100), values)
		}
		_, err := command.Send(patient(t), s, order{1})
		require.EqualError(t, err, errRefused.Error(), "an error counts more than a result that is not marked")
	})
}

// limits is an error with values.
type limits struct{ Most int }

func (l *limits) Error() string { return fmt.Sprintf("at most %d", l.Most) }

func TestErrorDetailsTravel(t *testing.T) {
	detail := func(h *arpc.Handler) { arpc.RegisterDetail[*limits](h, "limits") }
	p, s := pair(t, arpctest.Memory(), func(context.Context, order, *command.Reply[int]) error {
		return &limits{7}
	}, arpctest.Setup(func(s *arpc.Server, client *arpc.Handler) { detail(s.Handler); detail(client) }))
	require.Equal(t, 2, p.Version)
	for name, send := range ways {
		_, err := send(patient(t), s, order{})
		var got *limits
		require.ErrorAs(t, err, &got, name)
		require.Equal(t, &limits{7}, got)
	}
}

func TestC14_UnknownCommandIsAnErrorHere(t *testing.T) {
	_, s := pair(t, arpctest.Memory(), double)
	_, err := command.Send(patient(t), s, stray{})
	require.EqualError(t, err, "command: command_test.stray is not registered here")
	require.Equal(t, arpc.CodeUnimplemented, arpc.CodeOf(err))
	require.True(t, arpc.SafeToRetry(err))
	_, _, again := all(patient(t), s, stray{})
	require.Equal(t, err, again)
	_, again = command.Start(patient(t), s, stray{})
	require.Equal(t, err, again)
	_, err = command.Send(patient(t), s, &order{})
	require.EqualError(t, err, "command: *command_test.order is not registered here", "a pointer is another type")
}

func TestC14_UnknownCommandIsAnErrorThere(t *testing.T) {
	arpctest.Each(t, func(t *testing.T, p *arpctest.Pair) {
		s := orders().Sender(p.Client)
		for name, send := range ways {
			_, err := send(patient(t), s, order{})
			if p.Version == 1 && name != "Send" {
				require.ErrorContains(t, err, "the stream of /command/order ended before its results: the peer refused it, or does not know it")
				continue
			}
			require.ErrorContains(t, err, "command: the peer does not know /command/order", name)
			require.Equal(t, arpc.CodeUnimplemented, arpc.CodeOf(err))
			require.True(t, arpc.IsRemote(err))
			require.ErrorIs(t, err, arpc.ErrMethodNotFound)
		}
	})
}

func TestNilCommandIsAnError(t *testing.T) {
	reg := command.NewRegistry[*desk]()
	command.Register[*desk, *order](reg)
	p := arpctest.New(t, arpctest.Memory())
	s := reg.Sender(p.Client)
	_, err := command.Send[int](patient(t), s, (*order)(nil))
	require.EqualError(t, err, "command: the *command_test.order is nil")
	_, err = command.Send[int](patient(t), s, nil)
	require.EqualError(t, err, "command: <nil> is not registered here")
}

func TestC10_PoolSendsCommandsToItsMembers(t *testing.T) {
	arpctest.Each(t, func(t *testing.T, p *arpctest.Pair) {
		pool, err := arpc.NewClientPool(p.Dialer(), 4, arpc.WithHandler(p.Client.Handler))
		require.NoError(t, err)
		t.Cleanup(pool.Stop)
		s := orders().Sender(pool)
		for name, send := range ways {
			t.Run(name, func(t *testing.T) {
				for range 8 {
					values, err := send(patient(t), s, order{1})
					require.NoError(t, err)
					require.Equal(t, []int{1}, values)
				}
			})
		}
	}, doing(count))
}

// A server sends commands to its clients as they do to it.
func TestServerSendsCommands(t *testing.T) {
	arpctest.Each(t, func(t *testing.T, p *arpctest.Pair) {
		s := orders().Sender(p.Peer())
		values, last, err := all(patient(t), s, order{5})
		require.NoError(t, err)
		require.True(t, last)
		require.Equal(t, upTo(5), values)
	}, arpctest.Setup(func(_ *arpc.Server, client *arpc.Handler) { orders().Handle(client, &desk{count}) }))
}

// A command may be executed by sending others back to where it came from.
func TestExecMaySendCommandsOverItsConnection(t *testing.T) {
	there := func(ctx context.Context, o order, reply *command.Reply[int]) error {
		for r, err := range command.SendMulti(ctx, orders().Sender(reply.Client()), o) {
			if err != nil {
				return err
			}
			if err := reply.Send(2 * r.Value); err != nil {
				return err
			}
		}
		return nil
	}
	arpctest.Each(t, func(t *testing.T, p *arpctest.Pair) {
		values, _, err := all(patient(t), orders().Sender(p.Client), order{3})
		require.NoError(t, err)
		require.Equal(t, []int{2, 4, 6}, values)
		one, err := command.Send(patient(t), orders().Sender(p.Client), order{1})
		require.NoError(t, err)
		require.Equal(t, 2, one)
	}, doing(there), arpctest.Setup(func(_ *arpc.Server, client *arpc.Handler) { orders().Handle(client, &desk{count}) }))
}

func TestLoopsSendAnew(t *testing.T) {
	_, s := pair(t, arpctest.Memory(), count)
	loop := command.SendMulti(patient(t), s, order{3})
	for range 2 {
		var values []int
		for r, err := range loop {
			require.NoError(t, err)
			values = append(values, r.Value)
		}
		require.True(t, slices.Equal(upTo(3), values))
	}
}
