package coder_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"iter"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/arpc-go/arpc"
	"github.com/arpc-go/arpc/arpctest"
	"github.com/arpc-go/arpc/middleware/coder/aead"
	"github.com/arpc-go/arpc/middleware/coder/gzip"
	"github.com/arpc-go/arpc/middleware/coder/internal/codertest"
	"github.com/arpc-go/arpc/middleware/coder/msgpack"
	"github.com/arpc-go/arpc/middleware/coder/s2"
	"github.com/arpc-go/arpc/middleware/coder/tracing"
	"github.com/arpc-go/arpc/middleware/coder/zstd"
)

const wait = 2 * time.Minute

// makers are all coders, by name. All but aead may be shared by two ends.
var makers = map[string]func() arpc.MessageCoder{
	"aead":    newAEAD,
	"gzip":    shared(gzip.New(gzip.WithThreshold(100))),
	"msgpack": shared(msgpack.New()),
	"s2":      shared(s2.New(s2.WithThreshold(100))),
	"tracing": shared(tracing.New("trace")),
	"zstd":    shared(zstd.New(zstd.WithThreshold(100))),
}

func shared(coder arpc.MessageCoder) func() arpc.MessageCoder {
	return func() arpc.MessageCoder { return coder }
}

func newAEAD() arpc.MessageCoder {
	a, err := aead.New([]aead.Key{{ID: 1, Secret: bytes.Repeat([]byte{7}, aead.SecretLen)}})
	if err != nil {
		panic(err)
	}
	return a
}

// orders yields all coders in all orders.
func orders() iter.Seq[[]string] {
	return func(yield func([]string) bool) {
		names := []string{"aead", "gzip", "msgpack", "s2", "tracing", "zstd"}
		permute(names, 0, yield)
	}
}

func permute(names []string, from int, yield func([]string) bool) bool {
	if from == len(names) {
		return yield(slices.Clone(names))
	}
	for i := from; i < len(names); i++ {
		names[from], names[i] = names[i], names[from]
		if !permute(names, from+1, yield) {
			return false
		}
		names[from], names[i] = names[i], names[from]
	}
	return true
}

func chain(order []string) (coders []arpc.MessageCoder) {
	for _, name := range order {
		coders = append(coders, makers[name]())
	}
	return coders
}

var payloads = [][]byte{nil, []byte("short"), codertest.Orders(3000), codertest.Noise(3000), make([]byte, 200)}

// withMetadata is a section with a pair, and a payload behind it.
var withMetadata = append([]byte("\x0b\x04\x09\x03keyvalue"), codertest.Orders(1000)...)

// All coders work together in any order.
func TestAnyOrder(t *testing.T) {
	n := 0
	for order := range orders() {
		n++
		from, to := chain(order), chain(order)
		for _, payload := range append(payloads, withMetadata) {
			frame := codertest.Frame(payload)
			if len(payload) == len(withMetadata) {
				frame[6] |= 0x04
			}
			m := codertest.Message(frame)
			m.Set("trace", []byte("of this message"))
			m.Set("key", "value")
			for _, coder := range from {
				require.NotNil(t, coder.Encode(nil, m), order)
			}
			m = &arpc.Message{Buffer: m.Buffer}
			for _, coder := range slices.Backward(to) {
				var err error
				m, err = coder.(arpc.CheckedDecoder).DecodeChecked(nil, m)
				require.NoError(t, err, order)
			}
			require.True(t, bytes.Equal(frame, m.Buffer), order)
			require.Equal(t, map[any]any{"trace": []byte("of this message"), "key": "value"}, m.Values(), order)
		}
	}
	require.Equal(t, 720, n)
}

// They do so over the wire, whatever version the peer speaks.
func TestAnyOrderOverTheWire(t *testing.T) {
	old := []arpctest.World{arpctest.OldClient(arpctest.Memory()), arpctest.OldServer(arpctest.Memory())}
	n := 0
	for order := range orders() {
		n++
		t.Run(strings.Join(order, " "), func(t *testing.T) {
			t.Run("version 2", func(t *testing.T) { overTheWire(t, arpctest.Memory(), order) })
			t.Run("version 1", func(t *testing.T) { overTheWire(t, old[n%2], order) })
		})
	}
}

func overTheWire(t *testing.T, world arpctest.World, order []string) {
	p := arpctest.New(t, world, arpctest.Setup(func(s *arpc.Server, client *arpc.Handler) {
		for _, h := range []*arpc.Handler{s.Handler, client} {
			for _, coder := range chain(order) {
				h.UseCoder(coder)
			}
			h.Handle("/echo", func(ctx *arpc.Context) { ctx.Write(ctx.Body()) })
			h.Handle("/fail", func(ctx *arpc.Context) { ctx.Error(errors.New("no")) })
			h.HandleStream("/stream", func(st *arpc.Stream) {
				for b, err := range st.RecvSeq() {
					if err != nil || st.Send(b) != nil {
						return
					}
				}
			})
		}
	}))
	for _, c := range []*arpc.Client{p.Client, p.Peer()} {
		for _, payload := range payloads[1:4] {
			var rsp []byte
			require.NoError(t, c.Call("/echo", payload, &rsp, wait))
			require.True(t, bytes.Equal(payload, rsp))
		}
		require.EqualError(t, c.Call("/fail", nil, nil, wait), "no")
		st, err := c.OpenStream(t.Context(), "/stream")
		require.NoError(t, err)
		var rsp []byte
		require.NoError(t, st.Send(payloads[2]))
		require.NoError(t, st.Recv(&rsp))
		require.Equal(t, payloads[2], rsp)
		require.NoError(t, st.CloseSend())
		require.Equal(t, io.EOF, st.Recv(nil))
	}
}

// The same coders in another order at the other end are an error to the caller, and
// never another message than was sent.
func TestOrdersThatDiffer(t *testing.T) {
	payload := codertest.Orders(3000)
	for order := range orders() {
		if order[0] != "aead" { // all that follow are swapped, one pair at a time
			continue
		}
		for i := 1; i < len(order)-1; i++ {
			other := slices.Clone(order)
			other[i], other[i+1] = other[i+1], other[i]
			m := codertest.Message(codertest.Frame(payload))
			for _, coder := range chain(order) {
				require.NotNil(t, coder.Encode(nil, m))
			}
			m = &arpc.Message{Buffer: m.Buffer}
			err := decode(chain(other), m)
			require.True(t, err != nil || bytes.Equal(codertest.Frame(payload), m.Buffer), fmt.Sprint(order, other))
		}
	}
}

func decode(coders []arpc.MessageCoder, m *arpc.Message) error {
	for _, coder := range slices.Backward(coders) {
		if _, err := coder.(arpc.CheckedDecoder).DecodeChecked(nil, m); err != nil {
			return err
		}
	}
	return nil
}
