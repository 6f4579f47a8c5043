package router

import (
	"context"
	"sync/atomic"

	"github.com/arpc-go/arpc"
)

// Incoming is a request, a notification or a stream on its way to its handler. It
// is valid until the function that gets it returns.
type Incoming struct {
	// Client is the connection that it came over.
	Client *arpc.Client
	// Method is the name of its route, or what is asked for if there is none.
	Method string
	// Kind says which of the three it is.
	Kind arpc.CallKind

	ctx    context.Context
	fields interface{ Metadata() arpc.Metadata }
}

// Context ends when its caller gives up.
func (in Incoming) Context() context.Context { return in.ctx }

// Metadata returns what travels beside the payload, nil if nothing does. It is
// whatever the peer says.
func (in Incoming) Metadata() arpc.Metadata { return in.fields.Metadata() }

func incomingMessage(ctx *arpc.Context) Incoming {
	kind := arpc.KindCall
	if isNotice(ctx) {
		kind = arpc.KindNotify
	}
	return Incoming{Client: ctx.Client, Method: ctx.Message.Method(), Kind: kind, ctx: ctx, fields: ctx}
}

func incomingStream(s *arpc.Stream) Incoming {
	return Incoming{Client: s.Client(), Method: s.Method(), Kind: arpc.KindStream, ctx: s.Context(), fields: s}
}

func isNotice(ctx *arpc.Context) bool { return ctx.Message.Cmd() == arpc.CmdNotify }

// methodOf is Message.Method without the allocation.
func methodOf(m *arpc.Message) []byte {
	return m.Buffer[arpc.HeadLen : arpc.HeadLen+m.MethodLen()]
}

// door is where messages and streams are turned away.
type door struct {
	refused atomic.Uint64 // requests and streams
	dropped atomic.Uint64 // notifications
}

// turnAway keeps a message from its handler.
func (d *door) turnAway(ctx *arpc.Context, err error) {
	ctx.Abort()
	if isNotice(ctx) {
		d.dropped.Add(1)
		return
	}
	d.refused.Add(1)
	ctx.Error(err)
}

// failStream is turnAway for a stream.
func (d *door) failStream(s *arpc.Stream, err error) {
	d.refused.Add(1)
	s.Fail(err)
}
