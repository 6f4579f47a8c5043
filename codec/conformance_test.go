package codec_test

import (
	"strings"
	"testing"

	"github.com/arpc-go/arpc/arpctest"
	"github.com/arpc-go/arpc/codec"
)

// jsonSpec is what JSON can hold.
func jsonSpec() arpctest.CodecSpec {
	return arpctest.CodecSpec{
		Cannot: []string{"NaN", "infinity"},
		Becomes: map[string]any{
			"not UTF-8":    "a\ufffdb",
			"ints in any":  []any{1.0, -1.0, float64(1 << 60)},
			"bytes in any": []any{"AQI="},
			"time in any":  []any{"2031-07-01T12:30:59.123456789Z"},
		},
		SelfDelimiting: true,
		Nested: func(n int) []byte {
			return []byte(strings.Repeat("[", n) + strings.Repeat("]", n))
		},
	}
}

func TestConformance(t *testing.T) {
	both(t, func(t *testing.T, c codec.Codec) {
		arpctest.Codec(t, c, jsonSpec())
	})
}
