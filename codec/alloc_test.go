//go:build !race

package codec_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/arpc-go/arpc/codec"
)

// The race detector empties pools at random, so this file is built without it.

func TestAllocJSON(t *testing.T) {
	type message struct {
		ID   int64  `json:"id"`
		Body string `json:"body"`
	}
	in := &message{ID: 1, Body: "hello"}
	data, err := codec.JSON{}.Marshal(in)
	require.NoError(t, err)
	require.LessOrEqual(t, testing.AllocsPerRun(1000, func() { _, _ = codec.JSON{}.Marshal(in) }), 2.0)
	require.LessOrEqual(t, testing.AllocsPerRun(1000, func() { _ = codec.JSON{}.Unmarshal(data, in) }), 1.0)

	buf := make([]byte, 0, 100)
	appends := testing.AllocsPerRun(1000, func() { _, _ = codec.JSON{}.MarshalAppend(buf, in) })
	require.LessOrEqual(t, appends, 1.0, "json-iterator's, of a pointer's size")
	var boxed any = data
	require.Zero(t, testing.AllocsPerRun(1000, func() { _, _ = codec.Raw{}.MarshalAppend(buf, boxed) }))
}
