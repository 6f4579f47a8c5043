package command

import (
	"context"

	"github.com/arpc-go/arpc"
)

// server executes the commands of one type. Never changed.
type server[T any, C Command[T, R], R any] struct {
	kind     *kind[T]
	receiver T
	invokers []Invoker
}

func (s *server[T, C, R]) serve(h *arpc.Handler) {
	h.Handle(s.kind.method, s.request)
	h.HandleStream(s.kind.method, s.stream)
}

func isNone[R any]() bool {
	_, none := any((*R)(nil)).(*None)
	return none
}

// request executes a command whose sender waits for one result at most.
func (s *server[T, C, R]) request(c *arpc.Context) {
	target := fresh[C]()
	if err := c.Bind(target); err != nil {
		c.Error(arpc.Errorf(arpc.CodeInvalidArgument, "%w", err))
		return
	}
	s.exec(c, taken[C](target), &Reply[R]{reply{request: c, none: isNone[R]()}})
}

// stream executes a command whose sender takes any number of results.
func (s *server[T, C, R]) stream(st *arpc.Stream) {
	r := &Reply[R]{reply{stream: st, none: isNone[R]()}}
	cmd, err := s.receive(st)
	if err != nil {
		r.end(err)
		return
	}
	s.exec(st.Context(), cmd, r)
}

func (s *server[T, C, R]) receive(st *arpc.Stream) (cmd C, err error) {
	var data []byte
	if err := st.Recv(&data); err != nil {
		return cmd, arpc.Errorf(arpc.CodeInvalidArgument, "command: the stream has no command: %w", err)
	}
	if len(data) == 0 || data[0] != kindCommand {
		return cmd, arpc.Errorf(arpc.CodeInvalidArgument, "command: the stream of %s does not begin with a command", s.kind.method)
	}
	cmd, err = decodeNew[C](st.Client().Codec, data[1:])
	if err != nil {
		err = arpc.Errorf(arpc.CodeInvalidArgument, "%w", err)
	}
	return cmd, err
}

// exec runs the command behind the invokers and ends the reply.
func (s *server[T, C, R]) exec(ctx context.Context, cmd C, r *Reply[R]) {
	defer r.returned()
	if s.kind.timeout > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, s.kind.timeout)
		defer cancel()
	}
	if len(s.invokers) == 0 {
		r.end(cmd.Exec(ctx, s.receiver, r))
		return
	}
	in := &Invocation{Method: s.kind.method, Command: cmd, Client: r.Client(), ReceivedAt: r.ReceivedAt()}
	r.end(invoke(ctx, in, s.invokers, func(ctx context.Context) error { return cmd.Exec(ctx, s.receiver, r) }))
}

func invoke(ctx context.Context, in *Invocation, invokers []Invoker, exec func(context.Context) error) error {
	if len(invokers) == 0 {
		return exec(ctx)
	}
	return invokers[0](ctx, in, func(ctx context.Context) error { return invoke(ctx, in, invokers[1:], exec) })
}
