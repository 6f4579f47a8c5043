package zstd_test

import (
	"bytes"
	"fmt"
	"sync"
	"testing"

	reference "github.com/klauspost/compress/zstd"
	"github.com/stretchr/testify/require"

	"github.com/arpc-go/arpc"
	"github.com/arpc-go/arpc/arpctest"
	"github.com/arpc-go/arpc/middleware/coder/internal/codertest"
	"github.com/arpc-go/arpc/middleware/coder/zstd"
)

// trained returns a dictionary of the form that "zstd --train" makes, with the id
// 4711.
var trained = sync.OnceValue(func() []byte {
	var samples [][]byte
	for n := range 200 {
		samples = append(samples, fmt.Appendf(nil, `{"id":%d,"customer":"customer-%d","state":"open","total":%d.50}`, n*7919, n*13%500, n*31))
	}
	dictionary, err := reference.BuildDict(reference.BuildDictOptions{
		ID: 4711, Contents: samples, History: bytes.Join(samples[:50], nil), Offsets: [3]int{1, 4, 8},
	})
	if err != nil {
		panic(err)
	}
	return dictionary
})

// dictionaries are all that a dictionary may be.
func dictionaries() map[string][]byte {
	return map[string][]byte{
		"trained":           trained(),
		"raw":               codertest.Orders(4000),
		"short":             []byte("customer"),
		"one byte":          {'x'},
		"as long as may be": codertest.Orders(zstd.MaxDictionary)[:zstd.MaxDictionary],
	}
}

func TestDictionary(t *testing.T) {
	payload := []byte(`{"id":99,"customer":"customer-42","state":"open","total":1234.50}`)
	for name, dictionary := range dictionaries() {
		t.Run(name, func(t *testing.T) {
			with := zstd.New(zstd.WithThreshold(0), zstd.WithDictionary(dictionary))
			for _, payload := range [][]byte{payload, codertest.Orders(100 << 10), codertest.Orders(2 * mib), codertest.Noise(100)} {
				frame := codertest.Frame(payload)
				m, err := with.DecodeChecked(nil, with.Encode(nil, codertest.Message(frame)))
				require.NoError(t, err)
				require.True(t, bytes.Equal(frame, m.Buffer))
			}
			if name == "trained" || name == "raw" {
				without := zstd.New(zstd.WithThreshold(0)).Encode(nil, codertest.Message(codertest.Frame(payload)))
				m := with.Encode(nil, codertest.Message(codertest.Frame(payload)))
				require.Less(t, m.Len(), without.Len()-20)
				_, err := zstd.New().DecodeChecked(nil, m)
				require.ErrorContains(t, err, "dictionary")
			}
		})
	}
}

// The name tells dictionaries apart.
func TestCoderName(t *testing.T) {
	name := func(dictionary []byte) string { return zstd.New(zstd.WithDictionary(dictionary)).CoderName() }
	require.Equal(t, "zstd", zstd.New().CoderName())
	require.Equal(t, "zstd-00001267", name(trained()))
	require.Regexp(t, "^zstd-[0-7][0-9a-f]{7}$", name([]byte("some words")))
	require.Equal(t, name([]byte("some words")), name([]byte("some words")))
	require.NotEqual(t, name([]byte("some words")), name([]byte("other words")))
}

func TestConformance(t *testing.T) {
	coders := map[string][]zstd.Option{
		"without a dictionary": {zstd.WithThreshold(0)},
		"with a dictionary":    {zstd.WithThreshold(0), zstd.WithDictionary(codertest.Orders(1000))},
	}
	for name, opts := range coders {
		t.Run(name, func(t *testing.T) { arpctest.Coder(t, func() arpc.MessageCoder { return zstd.New(opts...) }, spec()) })
	}
}

func spec() arpctest.CoderSpec {
	return arpctest.CoderSpec{
		Checked: true,
		Bomb:    func(n int64) []byte { return codertest.Rewritten(6, bomb(n, n)) },
	}
}
