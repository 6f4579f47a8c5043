package interop

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/arpc-go/arpc"
	"github.com/arpc-go/arpc/middleware/coder/gzip"
	"github.com/arpc-go/arpc/middleware/coder/msgpack"
	"github.com/arpc-go/arpc/middleware/coder/tracing"
	old "github.com/lesismal/arpc"
	"github.com/stretchr/testify/require"
)

// coderPairs are coders of ours and those of the old library that they are like.
var coderPairs = map[string]struct {
	ours func() arpc.MessageCoder
	old  old.MessageCoder
}{
	"msgpack": {func() arpc.MessageCoder { return msgpack.New() }, oldMsgpack{}},
	"tracing": {func() arpc.MessageCoder { return tracing.New("trace") }, oldTrailer("trace")},
	"gzip":    {func() arpc.MessageCoder { return gzip.New(gzip.WithThreshold(100)) }, oldGzip(100)},
}

// withCoders has both ends use coders in an order, and register routes.
func withCoders(order []string, register func(routes)) setup {
	return setup{routes: func(r routes) {
		for _, name := range order {
			switch r := r.(type) {
			case ourRoutes:
				r.UseCoder(coderPairs[name].ours())
			case oldRoutes:
				r.UseCoder(coderPairs[name].old)
			}
		}
		register(r)
	}}
}

var coderOrders = [][]string{
	{"msgpack"}, {"tracing"}, {"gzip"},
	{"msgpack", "tracing", "gzip"}, {"msgpack", "gzip", "tracing"},
	{"tracing", "msgpack", "gzip"}, {"tracing", "gzip", "msgpack"},
	{"gzip", "msgpack", "tracing"}, {"gzip", "tracing", "msgpack"},
}

// Messages of all kinds pass the coders of both libraries, in any order.
func TestCoders(t *testing.T) {
	for _, order := range coderOrders {
		t.Run(strings.Join(order, " "), func(t *testing.T) {
			notified := make(chan string, 1)
			register := func(r routes) {
				echoRoutes(r)
				r.handle("/fail", func(r request, _ end) { r.Error(errors.New("boom")) })
				r.handle("/notify", func(r request, _ end) {
					var v string
					r.Bind(&v)
					notified <- v
				})
				r.handleStream("/stream", echoStream)
			}
			each(t, withCoders(order, register), func(t *testing.T, caller end) {
				for _, text := range []string{"", "hello", strings.Repeat("so many words ", 1000)} {
					roundTrip("/string", text)(t, caller)
				}
				roundTrip("/bytes", bytes.Repeat([]byte{0, 1, 0xff}, 100_000))(t, caller)
				roundTrip("/point", point{Name: "p", X: 1, Tags: []string{"a"}})(t, caller)
				require.EqualError(t, caller.call("/fail", "x", nil), "boom")
				require.NoError(t, caller.notify("/notify", "note"))
				require.Equal(t, "note", receive(t, notified))
				st := open(t, caller, "/stream")
				for _, msg := range []string{"one", "two", "three"} {
					require.NoError(t, st.send(msg))
					requireRecv(t, st, "re:"+msg)
				}
				st.closeSend()
				requireEnd(t, st)
			})
		})
	}
}

// valueCoders are those that send values, and one that they can send.
var valueCoders = map[string]any{"msgpack": "värde", "tracing": []byte("trace and span")}

func get(r request, key string) any {
	v, _ := r.(interface{ Get(any) (any, bool) }).Get(key)
	return v
}

// What an old caller gives along with a call our handler finds, and sends back.
func TestValuesFromOldCallers(t *testing.T) {
	for coder, value := range valueCoders {
		t.Run(coder, func(t *testing.T) {
			seen := make(chan any, 1)
			register := func(r routes) {
				r.handle("/call", func(r request, _ end) {
					seen <- get(r, "trace")
					r.Write("hello")
				})
			}
			oldCalls(t, withCoders([]string{coder}, register), func(t *testing.T, caller oldEnd) {
				values := map[any]any{"trace": value}
				var reply string
				require.NoError(t, caller.Call("/call", "x", &reply, patience, values))
				require.Equal(t, "hello", reply)
				require.Equal(t, value, receive(t, seen))

				back := make(chan any, 1)
				require.NoError(t, caller.CallAsync("/call", "x", func(ctx *old.Context, err error) {
					v, _ := ctx.Get("trace")
					back <- v
				}, patience, values))
				require.Equal(t, value, receive(t, seen))
				require.Equal(t, value, receive(t, back))

				require.NoError(t, caller.Notify("/call", "x", patience, values))
				require.Equal(t, value, receive(t, seen))
				require.NoError(t, caller.Call("/call", "x", &reply, patience))
				require.Nil(t, receive(t, seen))
			})
		})
	}
}

// An old handler finds what our caller gives along, and what it sets comes back.
func TestValuesToOldHandlers(t *testing.T) {
	for coder, value := range valueCoders {
		t.Run(coder, func(t *testing.T) {
			seen := make(chan any, 1)
			register := func(r routes) {
				r.handle("/call", func(r request, _ end) {
					seen <- get(r, "trace")
					r.Write("hello")
				})
				r.handle("/set", func(r request, _ end) {
					if ctx, ok := r.(*old.Context); ok {
						ctx.Set("trace", value)
					}
					r.Write("hello")
				})
			}
			ourCalls(t, withCoders([]string{coder}, register), func(t *testing.T, caller ourEnd) {
				ctx := arpc.ContextWithValues(context.Background(), map[any]any{"trace": value})
				var reply string
				require.NoError(t, caller.CallWith(ctx, "/call", "x", &reply))
				require.Equal(t, "hello", reply)
				require.Equal(t, value, receive(t, seen))
				require.NoError(t, caller.NotifyWith(ctx, "/call", "x"))
				require.Equal(t, value, receive(t, seen))

				back := make(chan any, 1)
				require.NoError(t, caller.CallAsync("/set", "x", func(ctx *arpc.Context) {
					v, _ := ctx.Get("trace")
					back <- v
				}, patience))
				require.Equal(t, value, receive(t, back))
			})
		})
	}
}

// Values of all types come from old peers as what they are.
func TestValuesOfOldTypes(t *testing.T) {
	sent := map[any]any{
		"int": -5, "int8": int8(-8), "int64": int64(1 << 40), "uint8": uint8(200), "uint64": uint64(1<<64 - 1),
		"float32": float32(0.5), "float64": 0.25, "bool": true, "string": "ö", "bytes": []byte{0, 0xff},
		"list": []any{1, "two"}, "map": map[string]any{"a": 1}, "time": time.Unix(1700000000, 5).UTC(),
		7: "an integer as key",
	}
	want := map[any]any{
		"int": int64(-5), "int8": int64(-8), "int64": int64(1 << 40), "uint8": int64(200), "uint64": uint64(1<<64 - 1),
		"float32": float32(0.5), "float64": 0.25, "bool": true, "string": "ö", "bytes": []byte{0, 0xff},
		"list": []any{int64(1), "two"}, "map": map[string]any{"a": int64(1)}, "time": time.Unix(1700000000, 5).UTC(),
		int64(7): "an integer as key",
	}
	seen := make(chan map[any]any, 1)
	register := func(r routes) {
		r.handle("/call", func(r request, _ end) {
			if ctx, ok := r.(*arpc.Context); ok {
				seen <- ctx.Message.Values()
			}
			r.Write(nil)
		})
	}
	oldCalls(t, withCoders([]string{"msgpack"}, register), func(t *testing.T, caller oldEnd) {
		require.NoError(t, caller.Call("/call", "x", nil, patience, sent))
		require.Equal(t, want, receive(t, seen))
	})
}

// Both write the same bytes.
func TestCodersWriteTheSame(t *testing.T) {
	for name, values := range map[string]map[any]any{"no values": nil, "a value": {"trace": []byte("abc")}} {
		for _, n := range []int{0, 5, 300, 70_000} {
			for coder, c := range coderPairs {
				if coder == "gzip" {
					continue // another compressor may write other bytes
				}
				t.Run(fmt.Sprintf("%s/%s/%d", coder, name, n), func(t *testing.T) {
					payload := bytes.Repeat([]byte("x"), n)
					ours := arpc.NewServer().NewMessage(arpc.CmdNotify, "/m", payload)
					for k, v := range values {
						ours.Set(k, v)
					}
					theirs := old.NewMessage(old.CmdNotify, "/m", payload, false, false, ours.Seq(), old.NewHandler(), nil, values)
					require.Equal(t, theirs.Buffer, ours.Buffer)
					require.Equal(t, c.old.Encode(nil, theirs).Buffer, c.ours().Encode(nil, ours).Buffer)
				})
			}
		}
	}
}
