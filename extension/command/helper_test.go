package command_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/arpc-go/arpc"
	"github.com/arpc-go/arpc/arpctest"
	"github.com/arpc-go/arpc/extension/command"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// patience is the deadline of commands that must end long before it.
const patience = 5 * time.Minute

// guard ends a test that hangs.
const guard = time.Minute

// desk is a receiver whose commands do what a test says.
type desk struct {
	do func(ctx context.Context, o order, reply *command.Reply[int]) error
}

// order is the command of most tests.
type order struct {
	N int
}

func (o order) Exec(ctx context.Context, d *desk, reply *command.Reply[int]) error {
	return d.do(ctx, o, reply)
}

const orderMethod = "/command/order"

// stop is a command without results.
type stop struct{ N int }

func (s stop) Exec(ctx context.Context, d *desk, _ *command.Reply[command.None]) error {
	return d.do(ctx, order(s), nil)
}

// stray is a command that nobody has registered.
type stray struct{}

func (stray) Exec(context.Context, *desk, *command.Reply[int]) error { return nil }

func orders() *command.Registry[*desk] {
	reg := command.NewRegistry[*desk]()
	command.Register[*desk, order](reg)
	command.Register[*desk, stop](reg)
	return reg
}

type execFunc = func(ctx context.Context, o order, reply *command.Reply[int]) error

// doing has the server execute orders.
func doing(do execFunc) arpctest.Option {
	return arpctest.Setup(func(s *arpc.Server, _ *arpc.Handler) {
		orders().Handle(s.Handler, &desk{do})
	})
}

// pair is a server that executes orders, and a sender to it.
func pair(t testing.TB, world arpctest.World, do execFunc, opts ...arpctest.Option) (*arpctest.Pair, *command.Sender[*desk]) {
	t.Helper()
	p := arpctest.New(t, world, append(opts, doing(do))...)
	return p, orders().Sender(p.Client)
}

// each runs a test with such a pair over all transports, and with old peers.
func each(t *testing.T, do execFunc, body func(t *testing.T, p *arpctest.Pair, s *command.Sender[*desk])) {
	t.Helper()
	arpctest.Each(t, func(t *testing.T, p *arpctest.Pair) { body(t, p, orders().Sender(p.Client)) }, doing(do))
}

func patient(t testing.TB) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	t.Cleanup(cancel)
	return ctx
}

// count sends the numbers from 1 to N, the last one marked.
func count(_ context.Context, o order, reply *command.Reply[int]) error {
	for n := 1; n < o.N; n++ {
		if err := reply.Send(n); err != nil {
			return err
		}
	}
	return reply.Last(o.N)
}

// double answers with twice of N.
func double(_ context.Context, o order, reply *command.Reply[int]) error { return reply.Last(2 * o.N) }

var errRefused = arpc.NewError(arpc.CodePermissionDenied, "not today")

var errPlain = errors.New("an error without a code")

// all returns the results of a command and how it ended.
func all[R any](ctx context.Context, s *command.Sender[*desk], cmd command.Command[*desk, R]) (values []R, last bool, err error) {
	for r, err := range command.SendMulti(ctx, s, cmd) {
		if err != nil {
			return values, last, err
		}
		values, last = append(values, r.Value), r.Last
	}
	return values, last, nil
}

// next receives from a channel that must have something soon.
func next[V any](t testing.TB, what string, ch <-chan V) (v V) {
	t.Helper()
	timer := time.NewTimer(guard)
	defer timer.Stop()
	select {
	case v = <-ch:
	case <-timer.C:
		require.FailNow(t, "this hangs: "+what)
	}
	return v
}

func upTo(n int) (list []int) {
	for i := 1; i <= n; i++ {
		list = append(list, i)
	}
	return list
}
