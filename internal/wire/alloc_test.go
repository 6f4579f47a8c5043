//go:build !race

package wire_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/arpc-go/arpc/internal/wire"
)

func TestAllocFrames(t *testing.T) {
	dst := make([]byte, 0, 64)
	payload := []byte("hello")
	allocs := testing.AllocsPerRun(100, func() {
		h := wire.ParseHeader(call)
		if h.Check() != nil {
			t.Fatal("the example is unsound")
		}
		method, body := wire.Split(call, h)
		dst = wire.AppendFrame(dst[:0], h, string(method), body) // at most 32 bytes: no copy on the heap
		dst = wire.AppendFrame(dst[:0], h, "/echo", payload)
		dst = wire.AppendFrame(dst[:0], h, "/echo", "hello")
		dst = wire.AppendHeader(dst[:0], h)
		wire.PutHeader(dst, h)
	})
	require.Zero(t, allocs)
}

func TestAllocMeta(t *testing.T) {
	section := fullSection()
	frame := wire.AppendFrameMeta(nil, wire.Header{Cmd: wire.CmdRequest}, "/echo", section, "hello")
	h := wire.ParseHeader(frame)
	allocs := testing.AllocsPerRun(100, func() {
		_, section, _, err := wire.SplitMeta(frame, h)
		if err != nil {
			t.Fatal(err)
		}
		m, err := wire.ParseMeta(section)
		if err != nil {
			t.Fatal(err)
		}
		n := 0
		for key, value := range m.Pairs() {
			n += len(key) + len(value)
		}
		for name, data := range m.Details() {
			n += len(name) + len(data)
		}
		if n == 0 {
			t.Fatal("nothing was read")
		}
	})
	require.Zero(t, allocs)
}

func TestAllocAppendMeta(t *testing.T) {
	dst := make([]byte, 0, 512)
	section := make([]byte, 0, 256)
	data := []byte("data")
	allocs := testing.AllocsPerRun(100, func() {
		section = wire.AppendTimeout(section[:0], 1_500_000)
		section = wire.AppendCode(section, 5)
		section = wire.AppendDetail(section, "name", data)
		section = wire.AppendPair(section, "key", "value")
		section = wire.AppendTraceParent(section, traceParent)
		section = wire.AppendTraceState(section, "a=b")
		section = wire.AppendComeBack(section, 1)
		dst = wire.AppendFrameMeta(dst[:0], wire.Header{Cmd: wire.CmdRequest}, "/echo", section, "hello")
		dst = wire.AppendFrameMeta(dst[:0], wire.Header{Cmd: wire.CmdRequest}, "/echo", section, data)
		dst = wire.AppendUvarintBody(dst[:0], uint64(wire.MetaLen(section)))
	})
	require.Zero(t, allocs)
}
