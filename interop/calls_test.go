package interop

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"

	"github.com/arpc-go/arpc"
	old "github.com/lesismal/arpc"
	"github.com/stretchr/testify/require"
)

// point is a value that passes the codec.
type point struct {
	Name string
	X, Y int
	Tags []string
}

// echo answers with what was bound to a T.
func echo[T any](r request, _ end) {
	var v T
	if err := r.Bind(&v); err != nil {
		r.Error(err)
		return
	}
	r.Write(v)
}

func echoRoutes(r routes) {
	r.handle("/string", echo[string])
	r.handle("/bytes", echo[[]byte])
	r.handle("/point", echo[point])
	r.handle("/points", echo[map[string]*point])
	r.handle("/number", echo[float64])
	r.handle("/nil", func(r request, _ end) { r.Write(nil) })
	r.handle("/"+strings.Repeat("m", arpc.MaxMethodLen-1), echo[string])
}

// roundTrip calls with a value and expects an equal one.
func roundTrip[T any](method string, v T) func(*testing.T, end) {
	return func(t *testing.T, caller end) {
		var reply T
		require.NoError(t, caller.call(method, v, &reply))
		require.Equal(t, v, reply)
	}
}

func TestCall(t *testing.T) {
	text, origin := "hello", point{Name: "origin"}
	cases := map[string]func(*testing.T, end){
		"string":            roundTrip("/string", text),
		"empty string":      roundTrip("/string", ""),
		"string like JSON":  roundTrip("/string", `"quoted" {"A":1} \u00e9`),
		"string in UTF-8":   roundTrip("/string", "Grüße, 世界 🙂"),
		"bytes":             roundTrip("/bytes", []byte{0, 1, 2, 0xff}),
		"empty bytes":       roundTrip("/bytes", []byte{}),
		"struct":            roundTrip("/point", point{Name: "ö <b> \u2028", X: -7, Y: 1 << 30, Tags: []string{"a", ""}}),
		"map":               roundTrip("/points", map[string]*point{"a": {X: 1}, "b": nil}),
		"number":            roundTrip("/number", 1234567.890123),
		"longest method":    roundTrip("/"+strings.Repeat("m", arpc.MaxMethodLen-1), text),
		"pointer to string": func(t *testing.T, caller end) { requireReply(t, caller, "/string", &text, text) },
		"pointer to struct": func(t *testing.T, caller end) { requireReply(t, caller, "/point", &origin, origin) },
		"nil": func(t *testing.T, caller end) {
			require.NoError(t, caller.call("/nil", nil, nil))
			requireReply(t, caller, "/nil", nil, "")
			requireReply(t, caller, "/bytes", nil, []byte{})
		},
	}
	each(t, setup{routes: echoRoutes}, func(t *testing.T, caller end) {
		for name, test := range cases {
			t.Run(name, func(t *testing.T) { test(t, caller) })
		}
	})
}

func requireReply[T any](t *testing.T, caller end, method string, req any, want T) {
	t.Helper()
	var reply T
	require.NoError(t, caller.call(method, req, &reply))
	require.Equal(t, want, reply)
}

var errBoom = errors.New("boom")

func TestErrorAnswers(t *testing.T) {
	routes := func(r routes) {
		r.handle("/error", func(r request, _ end) { r.Error(errBoom) })
		r.handle("/text", func(r request, _ end) { r.Error("boom in words") })
		r.handle("/empty", func(r request, _ end) { r.Error("") })
		r.handle("/written", func(r request, _ end) { r.Write(errBoom) })
		r.handle("/coded", func(r request, _ end) { r.Error(arpc.NewError(arpc.CodeNotFound, "no such user")) })
		r.handle("/none", func(r request, _ end) { r.Error(nil) })
	}
	cases := map[string]struct {
		method, text string
		code         arpc.Code // what our caller sees
	}{
		"an error value":           {"/error", "boom", arpc.CodeUnknown},
		"a text":                   {"/text", "boom in words", arpc.CodeUnknown},
		"an empty text":            {"/empty", "", arpc.CodeUnknown},
		"an error that is written": {"/written", "boom", arpc.CodeUnknown},
		"the code does not cross":  {"/coded", "no such user", arpc.CodeUnknown},
		"no such method":           {"/nope", "method not found", arpc.CodeUnimplemented},
	}
	each(t, setup{routes: routes}, func(t *testing.T, caller end) {
		for name, test := range cases {
			t.Run(name, func(t *testing.T) {
				reply := "untouched"
				requireRemote(t, caller, caller.call(test.method, "x", &reply), test.text, test.code)
				require.Equal(t, "untouched", reply)
			})
		}
		require.NoError(t, caller.call("/none", nil, nil), "Error(nil) is an answer")
	})
}

// requireRemote expects an error that the peer sent. The old library knows its
// text alone.
func requireRemote(t *testing.T, caller end, err error, text string, code arpc.Code) {
	t.Helper()
	require.Error(t, err)
	if _, ours := caller.(ourEnd); !ours {
		require.Equal(t, text, err.Error())
		return
	}
	var e *arpc.Error
	require.ErrorAs(t, err, &e)
	require.Equal(t, text, e.Message())
	require.Equal(t, code, e.Code())
	require.True(t, arpc.IsRemote(err))
	require.False(t, arpc.SafeToRetry(err))
	require.Equal(t, code == arpc.CodeUnimplemented, errors.Is(err, arpc.ErrMethodNotFound))
}

func TestHandleNotFound(t *testing.T) {
	routes := func(r routes) {
		r.handleNotFound(func(method string, r request) { r.Write("nobody handles " + method) })
	}
	each(t, setup{routes: routes}, func(t *testing.T, caller end) {
		requireReply(t, caller, "/nope", nil, "nobody handles /nope")
	})
}

func TestCallAsync(t *testing.T) {
	type outcome struct {
		reply string
		err   error
	}
	routes := func(r routes) {
		r.handle("/string", echo[string])
		r.handle("/error", func(r request, _ end) { r.Error(errBoom) })
	}
	call := func(t *testing.T, caller end, method string) outcome {
		done := make(chan outcome, 2)
		require.NoError(t, caller.callAsync(method, "hello", func(reply string, err error) { done <- outcome{reply, err} }))
		return receive(t, done)
	}
	each(t, setup{routes: routes}, func(t *testing.T, caller end) {
		require.Equal(t, outcome{reply: "hello"}, call(t, caller, "/string"))
		requireRemote(t, caller, call(t, caller, "/error").err, "boom", arpc.CodeUnknown)
		requireRemote(t, caller, call(t, caller, "/nope").err, "method not found", arpc.CodeUnimplemented)
	})
}

func TestNotify(t *testing.T) {
	notes := make(chan string, 10)
	routes := func(r routes) {
		r.handle("/note", func(r request, _ end) {
			var note string
			r.Bind(&note)
			if r.Write("nobody waits for this") != nil {
				notes <- note
			}
		})
	}
	each(t, setup{routes: routes}, func(t *testing.T, caller end) {
		require.NoError(t, caller.notify("/note", "to whom it may concern"))
		require.Equal(t, "to whom it may concern", receive(t, notes))
		require.NoError(t, caller.notify("/nope", nil))
		require.NoError(t, caller.notify("/note", nil))
		require.Equal(t, "", receive(t, notes))
	})
}

// A handler calls and notifies the end that called it, while that waits.
func TestCallBack(t *testing.T) {
	notes := make(chan string, 10)
	routes := func(r routes) {
		r.handle("/string", echo[string])
		r.handle("/note", func(r request, _ end) {
			var note string
			r.Bind(&note)
			notes <- note
		})
		r.handle("/back", func(r request, peer end) {
			var reply string
			if err := peer.call("/string", "from the handler", &reply); err != nil {
				r.Error(err)
				return
			}
			peer.notify("/note", "noted")
			r.Write("got back " + reply)
		})
	}
	each(t, setup{routes: routes}, func(t *testing.T, caller end) {
		requireReply(t, caller, "/back", nil, "got back from the handler")
		require.Equal(t, "noted", receive(t, notes))
	})
}

// batches are the ways in which the old library puts frames on the wire.
var batches = map[string]func(old.Handler){
	"batched":        nil,
	"larger batches": func(h old.Handler) { h.SetSendBufferSize(32 << 10) },
	"frame by frame": func(h old.Handler) { h.SetBatchSend(false); h.SetBatchRecv(false) },
	"unqueued":       func(h old.Handler) { h.SetAsyncWrite(false) },
	"on its reader":  func(h old.Handler) { h.SetAsyncResponse(false) },
}

// Many frames come in one read and leave in one write: notifications in order,
// calls with their own answers.
func TestBatches(t *testing.T) {
	const n = 1000
	for name, tune := range batches {
		t.Run(name, func(t *testing.T) {
			notes := make(chan int, n)
			routes := func(r routes) {
				echoRoutes(r)
				r.handleOrdered("/note", func(r request, _ end) {
					var note int
					r.Bind(&note)
					notes <- note
				})
			}
			each(t, setup{routes: routes, old: tune}, func(t *testing.T, caller end) {
				for i := range n {
					require.NoError(t, caller.notify("/note", i))
				}
				for i := range n {
					require.Equal(t, i, receive(t, notes))
				}
				loadAsync(t, caller, n)
			})
		})
	}
}

// loadAsync has n calls in flight at once.
func loadAsync(t *testing.T, caller end, n int) {
	outcomes := make(chan error, 2*n)
	for i := range n {
		req := fmt.Sprintf("call %d", i)
		require.NoError(t, caller.callAsync("/string", req, func(reply string, err error) {
			if err == nil && reply != req {
				err = fmt.Errorf("%s: got %q", req, reply)
			}
			outcomes <- err
		}))
	}
	for range n {
		require.NoError(t, receive(t, outcomes))
	}
}

// Both ends call at the same time, a hundred goroutines each.
func TestLoad(t *testing.T) {
	const callers, calls = 100, 200
	eachPair(t, setup{routes: echoRoutes}, func(t *testing.T, p pair) {
		var all sync.WaitGroup
		for name, caller := range map[string]end{"client": p.client, "server": p.server} {
			for i := range callers {
				all.Go(func() { load(t, caller, fmt.Sprintf("%s %d", name, i), calls) })
			}
		}
		all.Wait()
	})
}

// load calls with values that nobody else sends. They are bytes: the old library
// turns strings into bytes through a uintptr, which does not keep them alive.
func load(t *testing.T, caller end, who string, calls int) {
	for i := range calls {
		req := []byte(fmt.Sprintf("%s, call %d %s", who, i, strings.Repeat("x", i%97*i%300)))
		var reply []byte
		if err := caller.call("/bytes", req, &reply); err != nil || !bytes.Equal(reply, req) {
			t.Errorf("%s: got %q, %v", req, reply, err)
			return
		}
	}
}
