package main

import (
	"context"
	"errors"
	"time"

	"github.com/arpc-go/arpc"
)

// errorsWithCodes: every error has a code, an origin, and says whether the
// request may be sent again without being handled twice.
func errorsWithCodes(ctx context.Context, t *tour) error {
	release := make(chan struct{})
	defer close(release)
	t.handler.Handle("/user", func(ctx *arpc.Context) {
		ctx.Error(arpc.NewError(arpc.CodeNotFound, "there is no such user"))
	})
	t.handler.Handle("/panic", func(ctx *arpc.Context) { panic("a bug") })
	t.handler.Handle("/silent", func(ctx *arpc.Context) {})
	t.handler.Handle("/stuck", func(ctx *arpc.Context) { <-release })

	hurried, cancel := context.WithTimeout(ctx, 50*time.Millisecond)
	defer cancel()
	canceled, cancelNow := context.WithCancel(ctx)
	cancelNow()

	t.line("%-34s %-17s %-10s %11s", "what goes wrong", "code", "said by", "retry safe?")
	for _, failure := range []struct {
		title  string
		ctx    context.Context
		method string
		req    any
	}{
		{"the handler reports an error", ctx, "/user", 7},
		{"the handler panics", ctx, "/panic", nil},
		{"the handler forgets to answer", ctx, "/silent", nil},
		{"there is no such method", ctx, "/typo", nil},
		{"the deadline passes", hurried, "/stuck", nil},
		{"the caller had given up before", canceled, "/user", 7},
		{"the request cannot be encoded", ctx, "/user", func() {}},
	} {
		err := t.client.CallWith(failure.ctx, failure.method, failure.req, nil)
		if err == nil {
			return errors.New("no error, although " + failure.title)
		}
		t.printFailure(failure.title, err)
	}
	return nil
}

func (t *tour) printFailure(title string, err error) {
	origin, again := "client", "no"
	if arpc.IsRemote(err) {
		origin = "server"
	}
	if arpc.SafeToRetry(err) {
		again = "yes"
	}
	t.line("%-34s %-17v %-10s %11s", title, arpc.CodeOf(err), origin, again)
}
