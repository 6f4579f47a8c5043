package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/arpc-go/arpc"
)

// errorsWithCodes: every error has a code, which travels, and an origin, and says
// whether the request may be sent again without being handled twice.
func errorsWithCodes(ctx context.Context, t *tour) error {
	t.handler.Handle("/user", func(ctx *arpc.Context) {
		ctx.Error(arpc.NewError(arpc.CodeNotFound, "there is no such user"))
	})
	t.handler.Handle("/panic", func(ctx *arpc.Context) { panic("a bug") })
	t.handler.Handle("/silent", func(ctx *arpc.Context) {})
	t.handler.Handle("/stuck", func(ctx *arpc.Context) {
		<-ctx.Done() // the deadline has travelled, too
		ctx.Error(ctx.Err())
	})

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

// handlersGiveUp: a handler knows how long its caller waits, and learns when that
// gives up.
func handlersGiveUp(ctx context.Context, t *tour) error {
	begun, ended := make(chan time.Duration, 1), make(chan error, 1)
	t.handler.Handle("/wait", func(ctx *arpc.Context) {
		deadline, _ := ctx.Deadline()
		begun <- time.Until(deadline)
		<-ctx.Done()
		ended <- context.Cause(ctx)
		ctx.Error(ctx.Err())
	})

	const patience = 100 * time.Millisecond
	begin := time.Now()
	hurried, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	if err := t.client.CallWith(hurried, "/wait", nil, nil); !errors.Is(err, context.DeadlineExceeded) {
		return fmt.Errorf("want a call whose deadline passed, got: %w", err)
	}
	select {
	case left := <-begun:
		t.timed(begin, "a call may take %v: its handler gets %v", patience, left.Round(10*time.Microsecond))
		t.timed(begin, "its handler ends:   %v", <-ended)
	case <-ctx.Done():
		return ctx.Err()
	}
	return callerGivesUp(ctx, t, begun, ended)
}

// callerGivesUp cancels a call while its handler works.
func callerGivesUp(ctx context.Context, t *tour, begun <-chan time.Duration, ended <-chan error) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	begin := time.Now()
	go func() {
		<-begun
		cancel()
	}()
	if err := t.client.CallWith(ctx, "/wait", nil, nil); !errors.Is(err, context.Canceled) {
		return fmt.Errorf("want a call that was canceled, got: %w", err)
	}
	t.timed(begin, "a call is canceled while its handler works")
	t.timed(begin, "its handler ends:   %v", <-ended)
	return nil
}
