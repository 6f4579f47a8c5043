// Package command has commands: Go values that are sent to a server and executed
// there against a receiver. A command has none, one or many results, and the type
// of its results is part of its own, so that the compiler watches both ends.
//
//	type Calc struct{} // the receiver
//
//	type Add struct{ A, B int }
//
//	func (c Add) Exec(ctx context.Context, calc Calc, reply *command.Reply[int]) error {
//		return reply.Last(c.A + c.B)
//	}
//
// Both ends have a [Registry], to which [Register] adds the types by name:
//
//	reg := command.NewRegistry[Calc]()
//	command.Register[Calc, Add](reg)
//
//	reg.Handle(server.Handler, Calc{})                              // the server
//	sum, err := command.Send(ctx, reg.Sender(client), Add{A: 2, B: 3}) // the client, or a pool
//
// [Send] is for one result, or none, and is one call of the package arpc. [SendMulti]
// is for any number, as an iterator, and [Start] does not wait for them; these two
// are streams. So what is said there of deadlines, cancellation, flow control,
// errors, reconnecting and pools is true of commands.
package command

import "context"

// Command is what a client sends and a server executes: T is the type of the
// receiver, R that of the results. The codec of the connection encodes it, so its
// fields are what it encodes. It must not have an Error method.
//
// Exec runs on the server, for each command as soon as it has come: commands of one
// connection run at the same time, and so may be executed against the same
// receiver. The ctx ends with the deadline that the client has set, when the client
// cancels, and with the connection; it is, or is derived from, the *arpc.Context of
// Send (arpc.FromContext) or the context of the stream.
//
// An error is the caller's, with code and details as of any handler, and nobody
// else's: whatever it is, the connection and the server go on. So they do after a
// panic, which the caller gets as an error of arpc.CodeInternal. After Reply.Last
// an error goes nowhere.
type Command[T, R any] interface {
	Exec(ctx context.Context, receiver T, reply *Reply[R]) error
}

// None is the type of the results of a command that has none. Send then returns
// when Exec has.
type None struct{}

// Result is a result as SendMulti and Start have it.
type Result[R any] struct {
	Value R
	// Last says that no more come. A command whose Exec returns without Reply.Last
	// has no result that says so.
	Last bool
}
