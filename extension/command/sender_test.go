package command_test

import (
	"context"
	"encoding/json"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/arpc-go/arpc"
	"github.com/arpc-go/arpc/arpctest"
	"github.com/arpc-go/arpc/extension/command"
	"github.com/arpc-go/arpc/middleware/call"
)

// arrivals is a coder that leaves messages as they are and notes the orders among them,
// on the reader: as they come.
type arrivals struct {
	mu sync.Mutex
	of []int
}

func (a *arrivals) Encode(_ *arpc.Client, m *arpc.Message) *arpc.Message { return m }

func (a *arrivals) Decode(_ *arpc.Client, m *arpc.Message) *arpc.Message {
	data := m.Data()
	if m.Cmd() == arpc.CmdStream && len(data) > 0 {
		data = data[1:]
	}
	var o order
	if m.Method() == orderMethod && json.Unmarshal(data, &o) == nil {
		a.mu.Lock()
		defer a.mu.Unlock()
		a.of = append(a.of, o.N)
	}
	return m
}

func TestC04_CommandsOfAGoroutineReachTheServerInOrder(t *testing.T) {
	const n = 300
	for name, opts := range map[string][]command.SenderOption{
		"plain":             nil,
		"with interceptors": {command.WithInterceptors(call.Retry(), call.NewBreaker("orders").Intercept)},
	} {
		t.Run(name, func(t *testing.T) {
			came := &arrivals{}
			release := make(chan struct{})
			var mu sync.Mutex
			at := make([]time.Time, n) // when each was received
			p := arpctest.New(t, arpctest.TCP(), doing(func(_ context.Context, o order, reply *command.Reply[int]) error {
				mu.Lock()
				at[o.N] = reply.ReceivedAt()
				mu.Unlock()
				if o.N%3 == 0 {
					<-release // they are executed at the same time
				}
				return reply.Last(o.N)
			}), arpctest.Setup(func(s *arpc.Server, _ *arpc.Handler) { s.Handler.UseCoder(came) }))
			s := orders().Sender(p.Client, opts...)
			var pending []*command.Pending[int]
			for i := range n {
				if i%3 == 2 { // of all ways
					_, err := command.Send(patient(t), s, order{i})
					require.NoError(t, err)
					continue
				}
				one, err := command.Start(patient(t), s, order{i})
				require.NoError(t, err)
				pending = append(pending, one)
			}
			close(release)
			for _, one := range pending {
				next(t, "a result", one.Results())
			}
			came.mu.Lock()
			defer came.mu.Unlock()
			require.Len(t, came.of, n)
			require.True(t, slices.IsSorted(came.of))
			mu.Lock()
			defer mu.Unlock()
			require.True(t, slices.IsSortedFunc(at, time.Time.Compare))
		})
	}
}

// A command may be changed when Start has returned.
func TestCommandMayBeReused(t *testing.T) {
	reg := command.NewRegistry[shelf]()
	command.Register[shelf, *find](reg)
	p := arpctest.New(t, arpctest.Memory(), arpctest.Setup(func(s *arpc.Server, _ *arpc.Handler) {
		reg.Handle(s.Handler, shelf{"a": {"A"}, "b": {"B"}})
	}))
	f := &find{"a"}
	first, err := command.Start(patient(t), reg.Sender(p.Client), f)
	require.NoError(t, err)
	f.Key = "b"
	require.Equal(t, "A", next(t, "the result", first.Results()).Value.Title)
}

// Interceptors see a command as a whole, by each way to send it.
func TestC11_InterceptorsSeeHowACommandEnds(t *testing.T) {
	for name, send := range ways {
		t.Run(name, func(t *testing.T) {
			type saw struct {
				kind   arpc.CallKind
				method string
				cmd    any
				err    error
			}
			var log []saw
			note := func(ctx context.Context, call *arpc.Call, next arpc.CallFunc) error {
				err := next(ctx, call)
				log = append(log, saw{call.Kind, call.Method, call.Request, err})
				return err
			}
			var results []any
			p := arpctest.New(t, arpctest.Memory(), doing(func(_ context.Context, o order, reply *command.Reply[int]) error {
				if o.N == 0 {
					return errRefused
				}
				return reply.Last(o.N)
			}))
			s := orders().Sender(p.Client, command.WithInterceptors(note), command.WithOnResult(func(_ context.Context, method string, result any) {
				require.Equal(t, orderMethod, method)
				results = append(results, result)
			}))
			kind := arpc.KindStream
			if name == "Send" {
				kind = arpc.KindCall
			}
			_, err := send(patient(t), s, order{7})
			require.NoError(t, err)
			_, err = send(patient(t), s, order{0})
			require.Equal(t, []saw{{kind, orderMethod, order{7}, nil}, {kind, orderMethod, order{0}, err}}, log)
			require.Equal(t, []any{7}, results)
		})
	}
}

func TestInterceptorsMayRefuse(t *testing.T) {
	for name, send := range ways {
		p := arpctest.New(t, arpctest.Memory(), doing(double))
		s := orders().Sender(p.Client, command.WithInterceptors(
			func(context.Context, *arpc.Call, arpc.CallFunc) error { return arpc.Unsent(errRefused) }))
		_, err := send(patient(t), s, order{})
		require.Equal(t, arpc.CodePermissionDenied, arpc.CodeOf(err), name)
		require.True(t, arpc.SafeToRetry(err))
	}
}

func TestInterceptorThatForgetsToSendIsAnError(t *testing.T) {
	p := arpctest.New(t, arpctest.Memory(), doing(double))
	s := orders().Sender(p.Client, command.WithInterceptors(
		func(context.Context, *arpc.Call, arpc.CallFunc) error { return nil }))
	_, err := command.Start(patient(t), s, order{})
	require.ErrorContains(t, err, "sent nothing and returned no error")
}

func TestPanicBehindStartIsItsError(t *testing.T) {
	p := arpctest.New(t, arpctest.Memory(), doing(count))
	s := orders().Sender(p.Client, command.WithOnResult(func(_ context.Context, _ string, result any) {
		if result == 2 {
			panic("on purpose")
		}
	}))
	pending, err := command.Start(patient(t), s, order{3})
	require.NoError(t, err)
	require.Equal(t, 1, next(t, "the first result", pending.Results()).Value)
	next(t, "the end", pending.Done())
	require.ErrorContains(t, pending.Err(), "panicked: on purpose")
	require.Equal(t, arpc.CodeInternal, arpc.CodeOf(pending.Err()))
}

// A retry repeats what was not sent, and never gives results away twice.
func TestRetriesGiveResultsAwayOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		executed := 0
		p := arpctest.New(t, arpctest.Memory(), doing(func(_ context.Context, o order, reply *command.Reply[int]) error {
			executed++
			if executed > 1 || o.N == 1 {
				reply.Send(executed)
			}
			return arpc.NewError(arpc.CodeUnavailable, "later")
		}))
		again := func(ctx context.Context, call *arpc.Call, next arpc.CallFunc) error {
			if next(ctx, call) == nil {
				return nil
			}
			return next(ctx, call)
		}
		s := orders().Sender(p.Client, command.WithInterceptors(again))
		values, _, err := all(t.Context(), s, order{1})
		require.ErrorContains(t, err, "later")
		require.Equal(t, []int{1}, values)
		require.Equal(t, 1, executed)

		executed = 0
		values, _, err = all(t.Context(), s, order{0})
		require.ErrorContains(t, err, "later")
		require.Equal(t, []int{2}, values, "the first attempt had no results")
	})
}

// An idempotent command that loses its connection is sent once more.
func TestIdempotentCommandIsSentOnceMore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		reg := command.NewRegistry[*desk]()
		command.Register[*desk, order](reg, command.Idempotent)
		executed := make(chan int, 2)
		p := arpctest.New(t, arpctest.Memory(), arpctest.Setup(func(s *arpc.Server, _ *arpc.Handler) {
			reg.Handle(s.Handler, &desk{func(ctx context.Context, o order, reply *command.Reply[int]) error {
				executed <- o.N
				if len(executed) == 1 {
					<-ctx.Done()
				}
				return reply.Last(o.N)
			}})
		}))
		go func() {
			time.Sleep(time.Second)
			arpctest.FaultsOf(p.Client.Conn()).Cut()
		}()
		n, err := command.Send(t.Context(), reg.Sender(p.Client), order{5})
		require.NoError(t, err)
		require.Equal(t, 5, n)
		require.Len(t, executed, 2)
	})
}

// The interceptors of the handler are around commands as around any call and stream.
func TestC11_OutgoingChainOfTheHandler(t *testing.T) {
	var kinds []arpc.CallKind
	p := arpctest.New(t, arpctest.Memory(), doing(double), arpctest.Setup(func(_ *arpc.Server, client *arpc.Handler) {
		client.UseCall(func(ctx context.Context, call *arpc.Call, next arpc.CallFunc) error {
			kinds = append(kinds, call.Kind)
			return next(ctx, call)
		})
	}))
	s := orders().Sender(p.Client)
	_, err := command.Send(patient(t), s, order{1})
	require.NoError(t, err)
	_, _, err = all(patient(t), s, order{1})
	require.NoError(t, err)
	require.Equal(t, []arpc.CallKind{arpc.KindCall, arpc.KindStream}, kinds)
}

func TestStartDuringAnOutageOrWithAnEndedContext(t *testing.T) {
	p, s := pair(t, arpctest.Memory(), double)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	for _, send := range ways {
		_, err := send(ctx, s, order{})
		require.ErrorIs(t, err, context.Canceled)
		require.True(t, arpc.SafeToRetry(err))
	}
	p.Client.Stop()
	for _, send := range ways {
		_, err := send(patient(t), s, order{})
		require.ErrorIs(t, err, arpc.ErrClosed)
		require.True(t, arpc.SafeToRetry(err))
	}
}

// What results a command had before its end reached its caller is unexpected.
func TestC03_UnexpectedResults(t *testing.T) {
	got := make(chan command.Unexpected, 9)
	release := make(chan struct{})
	began := make(chan struct{}, 9)
	p := arpctest.New(t, arpctest.Memory(), doing(func(_ context.Context, o order, reply *command.Reply[int]) error {
		began <- struct{}{}
		<-release
		if o.N == 0 {
			return errRefused
		}
		return reply.Last(o.N)
	}), arpctest.Setup(func(_ *arpc.Server, client *arpc.Handler) {
		orders().HandleUnexpected(client, func(u command.Unexpected) { got <- u })
	}))
	s := orders().Sender(p.Client)
	for _, n := range []int{1, 0} {
		ctx, cancel := context.WithCancel(t.Context())
		failed := make(chan error, 1)
		go func() {
			_, err := command.Send(ctx, s, order{n})
			failed <- err
		}()
		next(t, "Exec begins", began)
		cancel()
		require.ErrorIs(t, next(t, "Send returns", failed), context.Canceled)
		release <- struct{}{}
		u := next(t, "a result nobody waits for", got)
		require.Equal(t, orderMethod, u.Method)
		require.Same(t, p.Client, u.Client)
		if n == 0 {
			require.Equal(t, arpc.CodePermissionDenied, arpc.CodeOf(u.Err))
			continue
		}
		require.NoError(t, u.Err)
		require.Equal(t, n, u.Result)
	}
}

// What is no result of a command of the registry is not its business.
func TestUnexpectedAnswersOfOthersAreLeftAlone(t *testing.T) {
	began, release, missed := make(chan struct{}), make(chan struct{}), make(chan string, 1)
	p := arpctest.New(t, arpctest.Memory(), arpctest.Setup(func(s *arpc.Server, client *arpc.Handler) {
		s.Handler.Handle("/other", func(ctx *arpc.Context) {
			close(began)
			<-release
			ctx.Write("late")
		})
		orders().HandleUnexpected(client, func(command.Unexpected) { missed <- "a command" })
		client.HandleSessionMiss(func(_ *arpc.Client, m *arpc.Message) { missed <- m.Method() })
	}))
	ctx, cancel := context.WithCancel(t.Context())
	failed := make(chan error, 1)
	go func() { failed <- p.Client.CallWith(ctx, "/other", nil, nil) }()
	next(t, "the handler begins", began)
	cancel()
	require.ErrorIs(t, next(t, "the call returns", failed), context.Canceled)
	close(release)
	require.Equal(t, "/other", next(t, "its answer", missed))
}

// Results of a stream that cross its cancellation are unexpected.
func TestC03_UnexpectedResultsOfAStream(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		got := make(chan command.Unexpected, 9)
		p := arpctest.New(t, arpctest.Memory(), doing(count), arpctest.Setup(func(_ *arpc.Server, client *arpc.Handler) {
			orders().HandleUnexpected(client, func(u command.Unexpected) { got <- u })
		}))
		arpctest.FaultsOf(p.Peer().Conn()).Delay(time.Second)
		pending, err := command.Start(t.Context(), orders().Sender(p.Client), order{3})
		require.NoError(t, err)
		synctest.Wait() // the results are under way
		pending.Cancel()
		for n := 1; n <= 3; n++ {
			u := <-got
			require.NoError(t, u.Err)
			require.Equal(t, n, u.Result)
		}
		require.ErrorIs(t, pending.Err(), context.Canceled)
		require.NoError(t, p.Client.CallWith(t.Context(), orderMethod, order{1}, nil))
		require.Empty(t, got)
	})
}
