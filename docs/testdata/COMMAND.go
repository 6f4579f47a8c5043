package assumed

import (
	"context"

	"github.com/arpc-go/arpc"
	"github.com/arpc-go/arpc/extension/command"
	"github.com/arpc-go/arpc/middleware/call"
)

type Calc struct{}

type AddCmd struct{ A, B int }

func (AddCmd) Exec(context.Context, Calc, *command.Reply[int]) error { return nil }

var (
	pool   *arpc.ClientPool
	reg    *command.Registry[Calc]
	sender *command.Sender[Calc]
)

var _ = call.Retry
