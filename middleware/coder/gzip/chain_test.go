package gzip_test

import (
	"bytes"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/arpc-go/arpc"
	"github.com/arpc-go/arpc/middleware/coder/gzip"
)

// xor is a coder that makes everything behind the reserved byte unreadable.
type xor byte

func (x xor) Encode(_ *arpc.Client, m *arpc.Message) *arpc.Message {
	out := bytes.Clone(m.Buffer)
	for i := range out[5:] {
		out[5+i] ^= byte(x)
	}
	m.Buffer = out
	return m
}

func (x xor) Decode(c *arpc.Client, m *arpc.Message) *arpc.Message { return x.Encode(c, m) }

// Two coders work together in either order; the payloads are such that gzip
// leaves the short one alone.
func TestTwoCoders(t *testing.T) {
	for name, coders := range map[string][]arpc.MessageCoder{
		"gzip, xor":       {gzip.New(), xor(0x5a)},
		"xor, gzip":       {xor(0x5a), gzip.New()},
		"gzip, xor, xor":  {gzip.New(), xor(0x5a), xor(0x33)},
		"gzip twice":      {gzip.New(), gzip.New()},
		"xor, gzip twice": {xor(0x80), gzip.New(gzip.WithLevel(9)), gzip.New()},
	} {
		t.Run(name, func(t *testing.T) {
			handler := func() arpc.Option {
				h := arpc.NewHandler()
				for _, coder := range coders {
					h.UseCoder(coder)
				}
				return arpc.WithHandler(h)
			}
			s, addr := serve(t, handler())
			s.Handler.Handle("/echo", echo)
			client := dial(t, addr, handler())
			for _, payload := range [][]byte{[]byte("short"), orders(20 << 10), noise(20 << 10)} {
				var rsp []byte
				require.NoError(t, client.Call("/echo", payload, &rsp, wait))
				require.True(t, bytes.Equal(payload, rsp))
			}
		})
	}
}

// The same coders in another order at the other end are an error, not a wait.
func TestTwoCodersInDifferentOrder(t *testing.T) {
	s, addr := serve(t, arpc.WithHandler(arpc.NewHandler()))
	s.Handler.UseCoder(gzip.New())
	s.Handler.UseCoder(xor(0x5a))
	s.Handler.Handle("/echo", echo)
	client := dial(t, addr, arpc.WithHandler(arpc.NewHandler()))
	client.Handler.UseCoder(xor(0x5a))
	client.Handler.UseCoder(gzip.New())
	err := client.Call("/echo", orders(5000), nil, arpc.TimeForever)
	require.Equal(t, arpc.CodeUnavailable, arpc.CodeOf(err), err)
}
