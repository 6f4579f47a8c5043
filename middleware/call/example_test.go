package call_test

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/arpc-go/arpc"
	"github.com/arpc-go/arpc/arpctest"
	"github.com/arpc-go/arpc/middleware/call"
	"github.com/arpc-go/arpc/middleware/router"
)

// start serves routes and returns what dials them.
func start(register func(*arpc.Handler)) (dial arpc.DialerFunc, stop func()) {
	ln := arpctest.ListenMemory()
	server := arpc.NewServer()
	register(server.Handler)
	go server.Serve(ln)
	return ln.Dial, server.Stop
}

// dialTo serves routes and returns a client of them.
func dialTo(register func(*arpc.Handler)) (client *arpc.Client, stop func()) {
	dial, stopServer := start(register)
	client, err := arpc.NewClient(dial)
	if err != nil {
		panic(err)
	}
	return client, func() { client.Stop(); stopServer() }
}

func ExampleRetry() {
	var requests atomic.Int64
	client, stop := dialTo(func(h *arpc.Handler) {
		h.Handle("/price", func(ctx *arpc.Context) {
			if requests.Add(1) < 3 {
				ctx.Error(arpc.NewError(arpc.CodeUnavailable, "starting up"))
				return
			}
			ctx.Write("12.50")
		})
	})
	defer stop()
	client.Handler.UseCall(call.Retry(call.WithMaxAttempts(5), call.WithBackoff(time.Millisecond, 10*time.Millisecond)))

	price := arpc.NewMethod[string, string]("/price", arpc.Idempotent)
	answer, err := price.Call(context.Background(), client, nil)
	fmt.Println(*answer, err)
	fmt.Println(requests.Load(), "requests")
	// Output:
	// 12.50 <nil>
	// 3 requests
}

func ExampleHedge() {
	var requests atomic.Int64
	canceled := make(chan error, 1)
	client, stop := dialTo(func(h *arpc.Handler) {
		h.Handle("/price", func(ctx *arpc.Context) {
			if requests.Add(1) == 1 { // stalls
				<-ctx.Done()
				canceled <- ctx.Err()
				return
			}
			ctx.Write("12.50")
		})
	})
	defer stop()
	client.Handler.UseCall(call.Hedge(call.WithDelay(5*time.Millisecond), call.WithIdempotent("/price")))

	var answer string
	err := client.CallWith(context.Background(), "/price", nil, &answer)
	fmt.Println(answer, err)
	fmt.Println("the slower attempt:", <-canceled)
	// Output:
	// 12.50 <nil>
	// the slower attempt: context canceled
}

func ExampleBreaker() {
	client, stop := dialTo(func(h *arpc.Handler) {
		h.Handle("/pay", func(ctx *arpc.Context) { ctx.Error(arpc.NewError(arpc.CodeInternal, "no database")) })
	})
	defer stop()
	breaker := call.NewBreaker("billing",
		call.WithFailureRate(0.5, 3, 10*time.Second),
		call.WithOnChange(func(c call.Change) { fmt.Println(c.Method, "was", c.From, "and is", c.State) }),
	)
	client.Handler.UseCall(breaker.Intercept)

	for range 4 {
		err := client.Call("/pay", nil, nil, time.Second)
		var open *call.OpenError
		if errors.As(err, &open) {
			fmt.Println("refused by", open.Breaker, arpc.CodeOf(err), arpc.SafeToRetry(err))
			continue
		}
		fmt.Println(err)
	}
	// Output:
	// no database
	// no database
	// /pay was closed and is open
	// no database
	// refused by billing Unavailable true
}

func ExampleBreaker_Picker() {
	pool, err := arpc.NewPool()
	if err != nil {
		panic(err)
	}
	defer pool.Stop()
	for _, name := range []string{"a", "b"} {
		dial, stop := start(func(h *arpc.Handler) {
			h.Handle("/where", func(ctx *arpc.Context) {
				if name == "a" {
					ctx.Error(arpc.NewError(arpc.CodeInternal, "disk full"))
					return
				}
				ctx.Write(name)
			})
		})
		defer stop()
		if _, err := pool.Add(name, dial); err != nil {
			panic(err)
		}
	}
	breaker := call.NewBreaker("members", call.WithScope(call.PerPeer), call.WithFailureRate(0.5, 3, 10*time.Second))
	pool.Handler().UseCall(breaker.Intercept)
	pool.SetPicker(breaker.Picker(arpc.RoundRobin()))

	failed := 0
	for range 100 {
		if pool.Call("/where", nil, nil, time.Second) != nil {
			failed++
		}
	}
	fmt.Println(failed, "of 100 failed")
	// Output:
	// 3 of 100 failed
}

func ExampleRateLimit() {
	client, stop := dialTo(func(h *arpc.Handler) {
		h.Handle("/mail", func(ctx *arpc.Context) { ctx.Write(nil) })
	})
	defer stop()
	client.Handler.UseCall(call.RateLimit(0.1, 2, call.WithMaxWait(0)))

	for range 3 {
		fmt.Println(client.Call("/mail", nil, nil, time.Second))
	}
	// Output:
	// <nil>
	// <nil>
	// call: over the limit of 0.1 calls per second (call.RateLimit)
}

func ExampleTimeout() {
	client, stop := dialTo(func(h *arpc.Handler) {
		h.Handle("/report", func(ctx *arpc.Context) { <-ctx.Done() })
	})
	defer stop()
	client.Handler.UseCall(call.Timeout(10 * time.Millisecond))

	err := client.CallWith(context.Background(), "/report", nil, nil)
	fmt.Println(errors.Is(err, context.DeadlineExceeded))
	fmt.Println(err)
	// Output:
	// true
	// arpc: the deadline of the call passed: it took more than 10ms (call.Timeout)
}

func ExampleOnly() {
	client, stop := dialTo(func(h *arpc.Handler) {
		h.Handle("/report", func(ctx *arpc.Context) { ctx.Write("all is well") })
		h.Handle("/wait", func(ctx *arpc.Context) { <-ctx.Done() })
	})
	defer stop()
	client.Handler.UseCall(call.Only(call.Timeout(time.Millisecond), "/wait", "/watch"))
	client.Handler.UseCall(call.Only(call.Timeout(time.Minute), "/report"))

	fmt.Println(arpc.CodeOf(client.CallWith(context.Background(), "/wait", nil, nil)))
	fmt.Println(arpc.CodeOf(client.CallWith(context.Background(), "/report", nil, nil)))
	// Output:
	// DeadlineExceeded
	// OK
}

func ExampleBudget() {
	client, stop := dialTo(func(h *arpc.Handler) {
		h.Handle("/price", func(ctx *arpc.Context) { ctx.Error(arpc.NewError(arpc.CodeUnavailable, "down")) })
	})
	defer stop()
	budget := call.NewBudget(0.1, 5)
	client.Handler.UseCall(call.Retry(call.WithBudget(budget), call.WithIdempotent("/price"), call.WithBackoff(1, 1)))

	for range 101 {
		client.Call("/price", nil, nil, time.Second)
	}
	fmt.Printf("%+v\n", budget.Stats())
	// Output:
	// {Calls:101 Extra:15 Refused:99}
}

// A server that says when to come back is heard.
func ExampleRetry_later() {
	var requests atomic.Int64
	client, stop := dialTo(func(h *arpc.Handler) {
		h.Handle("/price", func(ctx *arpc.Context) {
			if requests.Add(1) == 1 {
				ctx.SetMetadata(router.RetryAfterKey, "30") // as router.RateLimit does
				ctx.Error(arpc.NewError(arpc.CodeResourceExhausted, "busy"))
				return
			}
			ctx.Write("12.50")
		})
	})
	defer stop()
	client.Handler.UseCall(call.Retry(call.WithIdempotent("/price"), call.WithBackoff(time.Millisecond, time.Second)))

	start := time.Now()
	var answer string
	err := client.Call("/price", nil, &answer, time.Second)
	fmt.Println(answer, err, time.Since(start) >= 30*time.Millisecond)
	// Output:
	// 12.50 <nil> true
}
