package cbor_test

import (
	"testing"

	"github.com/arpc-go/arpc/codec/cbor"
)

type order struct {
	ID    int64             `cbor:"id"`
	Name  string            `cbor:"name"`
	Tags  []string          `cbor:"tags"`
	Notes map[string]string `cbor:"notes"`
	Price float64           `cbor:"price"`
	Raw   []byte            `cbor:"raw"`
}

func benchmarked() map[string]any {
	return map[string]any{
		"struct": &order{
			ID: 1 << 40, Name: "the quick brown fox", Tags: []string{"a", "bb", "ccc"},
			Notes: map[string]string{"key": "value"}, Price: 3.25, Raw: []byte{0, 1, 255},
		},
		"any": &map[string]any{"id": int64(1), "name": "the quick brown fox", "tags": []any{"a", "bb", "ccc"}, "price": 3.25},
	}
}

func BenchmarkMarshal(b *testing.B) {
	for name, v := range benchmarked() {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, err := (cbor.Codec{}).Marshal(v); err != nil {
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
				if _, err := (cbor.Codec{}).MarshalAppend(buf, v); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkUnmarshal(b *testing.B) {
	for name, v := range benchmarked() {
		data, err := cbor.Codec{}.Marshal(v)
		if err != nil {
			b.Fatal(err)
		}
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			b.SetBytes(int64(len(data)))
			for b.Loop() {
				if err := (cbor.Codec{}).Unmarshal(data, v); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
