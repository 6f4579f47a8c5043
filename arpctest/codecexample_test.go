package arpctest_test

import (
	"testing"

	"github.com/arpc-go/arpc/arpctest"
	"github.com/arpc-go/arpc/codec"
)

// The test of a codec: what its format cannot hold is said, all else is required.
func ExampleCodec() {
	TestMyCodec := func(t *testing.T) {
		arpctest.Codec(t, codec.StdJSON{}, arpctest.CodecSpec{
			Cannot: []string{"NaN", "infinity"},
			Becomes: map[string]any{
				"not UTF-8":    "a\ufffdb",
				"ints in any":  []any{1.0, -1.0, float64(1 << 60)},
				"bytes in any": []any{"AQI="},
				"time in any":  []any{"2031-07-01T12:30:59.123456789Z"},
			},
			SelfDelimiting: true,
		})
	}
	_ = TestMyCodec
	// Output:
}
