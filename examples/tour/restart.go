package main

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/arpc-go/arpc"
)

// address is where the server listens. It changes with the restart, because
// another program may have taken the port meanwhile.
type address struct {
	mu    sync.Mutex
	value string
}

func (a *address) get() string {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.value
}

func (a *address) set(value string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.value = value
}

// event is something that happened to the client's connection.
type event struct {
	kind eventKind
	text string
}

type eventKind int

const (
	lost eventKind = iota
	failedAttempt
	backAgain
)

// watch has events told what happens to the connection.
func (t *tour) watch(handler *arpc.Handler) {
	handler.HandleDisconnected(func(c *arpc.Client) {
		t.events <- event{lost, fmt.Sprintf("disconnected (%v)", rootCause(c.Err()))}
	})
	handler.HandleReconnect(func(c *arpc.Client, attempt int, err error) {
		if err != nil {
			t.events <- event{failedAttempt, fmt.Sprintf("attempt %d to reconnect: %v", attempt, rootCause(err))}
			return
		}
		t.events <- event{backAgain, fmt.Sprintf("attempt %d to reconnect: connected", attempt)}
	})
}

// rootCause returns the innermost error, whose text is the shortest.
func rootCause(err error) error {
	for next := err; next != nil; next = errors.Unwrap(next) {
		err = next
	}
	return err
}

// restart stops the server, and starts another when the client has tried twice
// in vain to come back.
func restart(ctx context.Context, t *tour) error {
	begin := time.Now()
	tell := func(text string) {
		t.line("%5d ms   %s", time.Since(begin).Milliseconds(), text)
	}
	tell("server: stops")
	t.server.Stop()

	for attempts := 0; ; {
		var e event
		select {
		case e = <-t.events:
		case <-ctx.Done():
			return ctx.Err()
		}
		tell("client: " + e.text)
		switch e.kind {
		case lost:
			err := t.client.CallWith(ctx, "/greet", "gopher", nil)
			if !arpc.SafeToRetry(err) {
				return fmt.Errorf("want an error that allows to send again, got: %w", err)
			}
			tell(fmt.Sprintf("client: a call fails at once (%v), it is safe to retry", arpc.CodeOf(err)))
		case failedAttempt:
			if attempts++; attempts == 2 {
				if err := t.serve(); err != nil {
					return err
				}
				tell("server: starts again")
			}
		case backAgain:
			var rsp string
			if err := t.client.CallWith(ctx, "/greet", "gopher", &rsp); err != nil {
				return err
			}
			tell(fmt.Sprintf("client: a call is answered (%q)", rsp))
			return nil
		}
	}
}
