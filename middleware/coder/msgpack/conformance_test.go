package msgpack_test

import (
	"testing"
	"time"

	"github.com/arpc-go/arpc"
	"github.com/arpc-go/arpc/arpctest"
	"github.com/arpc-go/arpc/middleware/coder/msgpack"
)

// values are some of all kinds, as they arrive.
var values = map[any]any{
	"text": "värde", "empty": "", "bytes": []byte{0, 1, 0xff}, "yes": true, "no": false,
	"small": int64(-1), "large": int64(-1 << 63), "unsigned": uint64(1<<64 - 1),
	"float": 1.5, "short float": float32(0.25), "time": time.Unix(1700000000, 123456789).UTC(),
	"long ago": time.Date(1066, 10, 14, 9, 0, 0, 5, time.UTC),
	"list":     []any{int64(1), "two", []any{3.0, nil}},
	"map":      map[string]any{"a": map[string]any{"b": []byte("c")}, "n": nil},
	"numbers":  map[any]any{int64(1): "one", "two": int64(2), true: false},
	int64(7):   "an integer as key", 2.5: "a float as key", true: "a boolean as key",
}

func TestConformance(t *testing.T) {
	newCoder := func() arpc.MessageCoder { return msgpack.New() }
	t.Run("without values", func(t *testing.T) { arpctest.Coder(t, newCoder, arpctest.CoderSpec{}) })
	t.Run("with values", func(t *testing.T) {
		arpctest.Coder(t, newCoder, arpctest.CoderSpec{Values: values, MaxGrowth: 500})
	})
}

// FuzzCoder is the fuzz target of the conformance kit.
func FuzzCoder(f *testing.F) {
	arpctest.FuzzCoder(f, func() arpc.MessageCoder { return msgpack.New() }, arpctest.CoderSpec{Values: values, MaxGrowth: 500})
}
