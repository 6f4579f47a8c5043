package msgpack_test

import (
	"testing"

	"github.com/arpc-go/arpc/codec/msgpack"
)

type reflectedOrder struct {
	ID    int64             `msgpack:"id"`
	Name  string            `msgpack:"name"`
	Tags  []string          `msgpack:"tags"`
	Notes map[string]string `msgpack:"notes"`
	Price float64           `msgpack:"price"`
	Raw   []byte            `msgpack:"raw"`
}

func benchmarked() map[string]any {
	generated := sampleOrder()
	reflected := reflectedOrder(generated)
	return map[string]any{
		"generated": &generated,
		"reflected": &reflected,
		"any":       &map[string]any{"id": int64(1), "name": "the quick brown fox", "tags": []any{"a", "bb", "ccc"}, "price": 3.25},
	}
}

func BenchmarkMarshal(b *testing.B) {
	for name, v := range benchmarked() {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, err := (msgpack.Codec{}).Marshal(v); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkMarshalAppend(b *testing.B) {
	for name, v := range benchmarked() {
		b.Run(name, func(b *testing.B) {
			buf := make([]byte, 0, 4096)
			b.ReportAllocs()
			for b.Loop() {
				if _, err := (msgpack.Codec{}).MarshalAppend(buf, v); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkUnmarshal(b *testing.B) {
	for name, v := range benchmarked() {
		data, err := msgpack.Codec{}.Marshal(v)
		if err != nil {
			b.Fatal(err)
		}
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			b.SetBytes(int64(len(data)))
			for b.Loop() {
				if err := (msgpack.Codec{}).Unmarshal(data, v); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
