package router_test

import (
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/arpc-go/arpc"
)

type traceKey struct{}

// note adds a word to the trace of a message.
func note(ctx *arpc.Context, word string) {
	trace, _ := ctx.Value(traceKey{}).([]string)
	ctx.Set(traceKey{}, append(slices.Clip(trace), word))
}

// traced returns a handler whose first middleware sends what the rest noted.
func traced() (*arpc.Handler, chan []string) {
	h := arpc.NewHandler()
	traces := make(chan []string, 10)
	h.Use(func(ctx *arpc.Context) {
		ctx.Next()
		trace, _ := ctx.Get(traceKey{})
		list, _ := trace.([]string)
		traces <- list
	})
	return h, traces
}

func noting(word string) arpc.HandlerFunc {
	return func(ctx *arpc.Context) { note(ctx, word) }
}

func around(word string) arpc.HandlerFunc {
	return func(ctx *arpc.Context) {
		note(ctx, word+" in")
		ctx.Next()
		note(ctx, word+" out")
	}
}

func answering(ctx *arpc.Context) {
	note(ctx, "handler")
	ctx.Write("done")
}

func TestChain(t *testing.T) {
	denied := arpc.NewError(arpc.CodePermissionDenied, "denied")
	for name, c := range map[string]struct {
		before, after []arpc.HandlerFunc // the route
		handler       arpc.HandlerFunc
		trace         []string
		says          string // of the error
	}{
		"nothing": {
			handler: answering,
			trace:   []string{"handler"},
		},
		"in the order of Use": {
			before: []arpc.HandlerFunc{noting("a"), noting("b")}, handler: answering,
			trace: []string{"a", "b", "handler"},
		},
		"Next goes around what is behind": {
			before: []arpc.HandlerFunc{around("a"), around("b")}, handler: answering,
			after: []arpc.HandlerFunc{around("c")},
			trace: []string{"a in", "b in", "handler", "c in", "c out", "b out", "a out"},
		},
		"with and without Next": {
			before: []arpc.HandlerFunc{noting("a"), around("b"), noting("c")}, handler: answering,
			after: []arpc.HandlerFunc{noting("d"), noting("e")},
			trace: []string{"a", "b in", "c", "handler", "d", "e", "b out"},
		},
		"Next by the handler": {
			before: []arpc.HandlerFunc{around("a")},
			handler: func(ctx *arpc.Context) {
				ctx.Next()
				answering(ctx)
			},
			after: []arpc.HandlerFunc{noting("b")},
			trace: []string{"a in", "b", "handler", "a out"},
		},
		"Abort stops what is behind": {
			before: []arpc.HandlerFunc{around("a"), func(ctx *arpc.Context) { ctx.Abort() }, noting("b")},
			after:  []arpc.HandlerFunc{noting("c")}, handler: answering,
			trace: []string{"a in", "a out"},
			says:  "without an answer",
		},
		"Abort after Next stops nothing": {
			before: []arpc.HandlerFunc{func(ctx *arpc.Context) { ctx.Next(); ctx.Abort() }}, handler: answering,
			after: []arpc.HandlerFunc{noting("a")},
			trace: []string{"handler", "a"},
		},
		"Abort by the handler": {
			before:  []arpc.HandlerFunc{around("a")},
			handler: func(ctx *arpc.Context) { answering(ctx); ctx.Abort() },
			after:   []arpc.HandlerFunc{noting("b")},
			trace:   []string{"a in", "handler", "a out"},
		},
		"an error instead of the handler": {
			before: []arpc.HandlerFunc{around("a"), func(ctx *arpc.Context) { ctx.Error(denied) }, noting("b")},
			after:  []arpc.HandlerFunc{noting("c")}, handler: answering,
			trace: []string{"a in", "a out"},
			says:  "denied",
		},
		"an answer instead of the handler": {
			before: []arpc.HandlerFunc{func(ctx *arpc.Context) { ctx.Write("done") }, around("a")}, handler: answering,
			after: []arpc.HandlerFunc{noting("b")},
		},
		"Next after an answer": { // who says so means it
			before: []arpc.HandlerFunc{func(ctx *arpc.Context) { ctx.Write("done"); ctx.Next() }}, handler: noting("handler"),
			trace: []string{"handler"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			h, traces := traced()
			for _, fn := range c.before {
				h.Use(fn)
			}
			h.Handle("/m", c.handler)
			for _, fn := range c.after {
				h.Use(fn)
			}
			client := connect(t, h)
			var rsp string
			err := client.Call("/m", nil, &rsp, wait)
			require.Equal(t, c.trace, receive(t, traces))
			if c.says != "" {
				require.ErrorContains(t, err, c.says)
				require.True(t, arpc.IsRemote(err))
				return
			}
			require.NoError(t, err)
			require.Equal(t, "done", rsp)
		})
	}
}

// Each route has the middleware that was in use when it was registered before
// it, and what came later behind it.
func TestRoutesBetweenUses(t *testing.T) {
	h, traces := traced()
	h.Handle("/1", answering)
	h.Use(noting("a"))
	h.Handle("/2", answering)
	h.Use(noting("b"))
	h.Handle("/3", answering)
	h.HandleNotFound(answering)
	client := connect(t, h)
	for method, want := range map[string][]string{
		"/1":    {"handler", "a", "b"},
		"/2":    {"a", "handler", "b"},
		"/3":    {"a", "b", "handler"},
		"/none": {"a", "b", "handler"},
	} {
		require.NoError(t, client.Call(method, nil, nil, wait))
		require.Equal(t, want, receive(t, traces), method)
	}
}

// A notification is not answered, so only Abort keeps it from its handler.
func TestChainOfNotifications(t *testing.T) {
	for name, c := range map[string]struct {
		mw    arpc.HandlerFunc
		trace []string
	}{
		"through": {noting("a"), []string{"a", "handler"}},
		"Error":   {func(ctx *arpc.Context) { ctx.Error("no") }, []string{"handler"}},
		"Abort":   {func(ctx *arpc.Context) { ctx.Abort() }, nil},
	} {
		t.Run(name, func(t *testing.T) {
			h, traces := traced()
			h.Use(c.mw)
			h.Handle("/m", noting("handler"))
			client := connect(t, h)
			require.NoError(t, client.Notify("/m", nil, wait))
			require.Equal(t, c.trace, receive(t, traces))
		})
	}
}

// Values go from middleware to the handler and no further than the message.
func TestValues(t *testing.T) {
	type userKey struct{}
	h := arpc.NewHandler()
	h.Use(func(ctx *arpc.Context) {
		if user := string(ctx.Body()); user != "" {
			ctx.Set(userKey{}, user)
		}
	})
	h.Handle("/who", func(ctx *arpc.Context) {
		user, ok := ctx.Get(userKey{})
		if !ok {
			ctx.Error("nobody")
			return
		}
		ctx.Write(user)
	})
	client := connect(t, h)
	for _, user := range []string{"ann", "", "bob", ""} {
		var rsp string
		err := client.Call("/who", user, &rsp, wait)
		if user == "" {
			require.ErrorContains(t, err, "nobody")
			continue
		}
		require.NoError(t, err)
		require.Equal(t, user, rsp)
	}
}
