//go:build !race

package protobuf_test

import (
	"testing"

	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/arpc-go/arpc/codec/protobuf"
	"github.com/arpc-go/arpc/codec/protobuf/internal/testpb"
)

func TestAlloc(t *testing.T) {
	buf := make([]byte, 0, 4096)
	for _, m := range []any{&testpb.Part{Name: "x"}, wrapperspb.String("x")} {
		require.LessOrEqual(t, testing.AllocsPerRun(1000, func() { _, _ = protobuf.Codec{}.Marshal(m) }), 1.0)
		require.Zero(t, testing.AllocsPerRun(1000, func() { _, _ = protobuf.Codec{}.MarshalAppend(buf, m) }))
	}
}
