//go:build !race

package msgpack_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/arpc-go/arpc/codec/msgpack"
)

// The race detector empties pools at random, so this file is built without it.

func TestAlloc(t *testing.T) {
	type message struct {
		ID   int64  `msgpack:"id"`
		Body string `msgpack:"body"`
	}
	in := &message{ID: 1, Body: "hello"}
	data, err := msgpack.Codec{}.Marshal(in)
	require.NoError(t, err)
	buf := make([]byte, 0, 100)
	require.LessOrEqual(t, testing.AllocsPerRun(1000, func() { _, _ = msgpack.Codec{}.Marshal(in) }), 1.0)
	require.Zero(t, testing.AllocsPerRun(1000, func() { _, _ = msgpack.Codec{}.MarshalAppend(buf, in) }))
	require.LessOrEqual(t, testing.AllocsPerRun(1000, func() { _ = msgpack.Codec{}.Unmarshal(data, in) }), 1.0)
}
