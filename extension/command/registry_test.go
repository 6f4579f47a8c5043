package command_test

import (
	"context"
	"errors"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/arpc-go/arpc"
	"github.com/arpc-go/arpc/arpctest"
	"github.com/arpc-go/arpc/extension/command"
)

type failing struct{}

func (failing) Error() string { return "" }

func (failing) Exec(context.Context, *desk, *command.Reply[int]) error { return nil }

type failingResult struct{}

func (failingResult) Exec(context.Context, *desk, *command.Reply[*failing]) error { return nil }

type boxed[V any] struct{ V V }

func (boxed[V]) Exec(context.Context, *desk, *command.Reply[V]) error { return nil }

func TestRegisterRefusesWhatCannotWork(t *testing.T) {
	for name, c := range map[string]struct {
		register func(*command.Registry[*desk])
		says     string
	}{
		"the same type": {
			func(reg *command.Registry[*desk]) { command.Register[*desk, order](reg, command.WithMethod("/other")) },
			`command_test.order is registered as "/command/order" already`,
		},
		"the same name": {
			func(reg *command.Registry[*desk]) {
				command.Register[*desk, stop](reg, command.WithMethod("/command/order"))
			},
			`command_test.order is registered as "/command/order" already; see WithMethod`,
		},
		"no name": {
			func(reg *command.Registry[*desk]) { command.Register[*desk, struct{ order }](reg) },
			"has no name, see WithMethod",
		},
		"an empty name": {
			func(reg *command.Registry[*desk]) { command.Register[*desk, stop](reg, command.WithMethod("")) },
			"must have 1 to 127 bytes, it has 0",
		},
		"a long name": {
			func(reg *command.Registry[*desk]) {
				command.Register[*desk, stop](reg, command.WithMethod(strings.Repeat("x", 128)))
			},
			"must have 1 to 127 bytes, it has 128",
		},
		"a command that is an error": {
			func(reg *command.Registry[*desk]) { command.Register[*desk, failing](reg) },
			"has an Error method",
		},
		"a result that is an error": {
			func(reg *command.Registry[*desk]) { command.Register[*desk, failingResult](reg) },
			"has an Error method",
		},
		"an interface": {
			func(reg *command.Registry[*desk]) { command.Register[*desk, command.Command[*desk, int]](reg) },
			"is an interface",
		},
	} {
		t.Run(name, func(t *testing.T) {
			reg := command.NewRegistry[*desk]()
			command.Register[*desk, order](reg)
			defer func() {
				said, _ := recover().(string)
				require.Contains(t, said, "command: Register(")
				require.Contains(t, said, c.says)
			}()
			c.register(reg)
		})
	}
}

func TestRegistriesShareAHandler(t *testing.T) {
	reg := command.NewRegistry[struct{}]()
	command.Register[struct{}, page](reg, command.WithMethod("book.page"))
	p, s := pair(t, arpctest.Memory(), double, arpctest.Setup(func(s *arpc.Server, _ *arpc.Handler) {
		reg.Handle(s.Handler, struct{}{})
	}))
	n, err := command.Send(patient(t), s, order{1})
	require.NoError(t, err)
	require.Equal(t, 2, n)
	b, err := command.Send(patient(t), reg.Sender(p.Client), page{1})
	require.NoError(t, err)
	require.Equal(t, "a", string(b))
}

func TestHandleRefusesANameThatIsTaken(t *testing.T) {
	h := arpc.NewHandler()
	h.Handle(orderMethod, func(*arpc.Context) {})
	require.Panics(t, func() { orders().Handle(h, &desk{}) })
	require.Panics(t, func() { orders().Handle(nil, &desk{}) })
	require.Panics(t, func() { orders().Sender(nil) })
	require.Panics(t, func() { orders().HandleUnexpected(arpc.NewHandler(), nil) })
}

// Commands may be registered while others are sent and executed.
func TestRegisterLater(t *testing.T) {
	reg := command.NewRegistry[*desk]()
	p := arpctest.New(t, arpctest.Memory(), arpctest.Setup(func(s *arpc.Server, _ *arpc.Handler) {
		reg.Handle(s.Handler, &desk{double})
	}))
	s := reg.Sender(p.Client)
	_, err := command.Send(patient(t), s, order{1})
	require.ErrorContains(t, err, "not registered here")
	var all sync.WaitGroup
	all.Go(func() { command.Register[*desk, order](reg) })
	all.Go(func() { command.Send(patient(t), s, order{1}) })
	all.Wait()
	n, err := command.Send(patient(t), s, order{1})
	require.NoError(t, err)
	require.Equal(t, 2, n)
	command.Register[*desk, boxed[int]](reg, command.WithMethod("/boxed"))
	_, err = command.Send(patient(t), s, boxed[int]{1})
	require.ErrorContains(t, err, "/boxed has no result")
}

// shelf has commands that are pointers, and results that are.
type shelf map[string]*book

type book struct{ Title string }

type find struct{ Key string }

func (f *find) Exec(_ context.Context, s shelf, reply *command.Reply[*book]) error {
	b, ok := s[f.Key]
	if !ok {
		return arpc.Errorf(arpc.CodeNotFound, "no book %q", f.Key)
	}
	return reply.Last(b)
}

func TestPointersTravelAsWhatTheyPointTo(t *testing.T) {
	reg := command.NewRegistry[shelf]()
	command.Register[shelf, *find](reg)
	p := arpctest.New(t, arpctest.Memory(), arpctest.Setup(func(s *arpc.Server, _ *arpc.Handler) {
		reg.Handle(s.Handler, shelf{"go": {"The Go Programming Language"}})
	}))
	s := reg.Sender(p.Client)
	got, err := command.Send(patient(t), s, &find{"go"})
	require.NoError(t, err)
	require.Equal(t, &book{"The Go Programming Language"}, got)
	for r, err := range command.SendMulti(patient(t), s, &find{"go"}) {
		require.NoError(t, err)
		require.Equal(t, got, r.Value)
	}
	got, err = command.Send(patient(t), s, &find{"c"})
	require.Equal(t, arpc.CodeNotFound, arpc.CodeOf(err))
	require.Nil(t, got)
}

// One invoker is around every command, whatever its results.
func TestC12_InvokersAreAroundEveryCommand(t *testing.T) {
	type key struct{}
	var mu sync.Mutex
	var seen []command.Invocation
	outer := func(ctx context.Context, in *command.Invocation, exec func(context.Context) error) error {
		mu.Lock()
		seen = append(seen, *in)
		mu.Unlock()
		return exec(context.WithValue(ctx, key{}, "outer"))
	}
	inner := func(ctx context.Context, in *command.Invocation, exec func(context.Context) error) error {
		if in.Command.(order).N < 0 {
			return errRefused
		}
		if err := exec(ctx); err != nil {
			return errors.Join(err, errPlain)
		}
		return nil
	}
	p := arpctest.New(t, arpctest.Memory(), arpctest.Setup(func(s *arpc.Server, _ *arpc.Handler) {
		orders().Handle(s.Handler, &desk{func(ctx context.Context, o order, reply *command.Reply[int]) error {
			if ctx.Value(key{}) != "outer" || o.N == 0 {
				return arpc.NewError(arpc.CodeOutOfRange, "no value")
			}
			return reply.Last(o.N)
		}}, outer, inner)
	}))
	s := orders().Sender(p.Client)
	for name, send := range ways {
		t.Run(name, func(t *testing.T) {
			seen = nil
			values, err := send(patient(t), s, order{1})
			require.NoError(t, err)
			require.Equal(t, []int{1}, values)
			_, err = send(patient(t), s, order{-1})
			require.Equal(t, arpc.CodePermissionDenied, arpc.CodeOf(err))
			_, err = send(patient(t), s, order{0})
			require.Equal(t, arpc.CodeOutOfRange, arpc.CodeOf(err))
			require.ErrorContains(t, err, errPlain.Error())
			mu.Lock()
			defer mu.Unlock()
			require.Len(t, seen, 3)
			require.Equal(t, orderMethod, seen[0].Method)
			require.Equal(t, order{1}, seen[0].Command)
			require.Same(t, p.Peer(), seen[0].Client)
			require.False(t, seen[0].ReceivedAt.IsZero())
		})
	}
}

// The middleware of the router is around commands too: around requests and streams.
func TestC12_MiddlewareIsAroundCommands(t *testing.T) {
	guarded := arpctest.Setup(func(s *arpc.Server, _ *arpc.Handler) {
		s.Handler.Use(func(ctx *arpc.Context) { ctx.Error(errRefused) })
		s.Handler.UseStream(func(arpc.StreamHandlerFunc) arpc.StreamHandlerFunc {
			return func(s *arpc.Stream) { s.Fail(errRefused) }
		})
	})
	p := arpctest.New(t, arpctest.Memory(), guarded, doing(double))
	for name, send := range ways {
		_, err := send(patient(t), orders().Sender(p.Client), order{1})
		require.Equal(t, arpc.CodePermissionDenied, arpc.CodeOf(err), name)
	}
}
