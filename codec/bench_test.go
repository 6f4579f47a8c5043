package codec_test

import (
	"testing"
	"time"

	"github.com/arpc-go/arpc/codec"
)

type echo struct {
	ID      int64     `json:"id"`
	Message string    `json:"message"`
	Tags    []string  `json:"tags"`
	Urgent  bool      `json:"urgent"`
	Score   float64   `json:"score"`
	Sent    time.Time `json:"sent"`
}

var (
	codecs = []struct {
		name string
		codec.Codec
	}{{"JSON", codec.JSON{}}, {"StdJSON", codec.StdJSON{}}}

	small = map[string]any{
		"small": &struct {
			ID      int64  `json:"id"`
			Message string `json:"message"`
		}{123456, "the quick brown fox"},
		"echo": &echo{1732180000123, "the quick brown fox", []string{"a", "bb", "ccc"}, true, 3.25, time.Unix(1, 0).UTC()},
	}
)

func BenchmarkMarshal(b *testing.B) {
	for value, v := range small {
		for _, c := range codecs {
			b.Run(value+"/"+c.name, func(b *testing.B) {
				b.ReportAllocs()
				for b.Loop() {
					if _, err := c.Marshal(v); err != nil {
						b.Fatal(err)
					}
				}
			})
		}
	}
}

func BenchmarkMarshalAppend(b *testing.B) {
	for value, v := range small {
		for _, c := range codecs {
			b.Run(value+"/"+c.name, func(b *testing.B) {
				buf := make([]byte, 0, 4096)
				b.ReportAllocs()
				for b.Loop() {
					if _, err := codec.MarshalAppend(c.Codec, buf, v); err != nil {
						b.Fatal(err)
					}
				}
			})
		}
	}
}

func BenchmarkUnmarshal(b *testing.B) {
	for value, v := range small {
		data, err := codec.JSON{}.Marshal(v)
		if err != nil {
			b.Fatal(err)
		}
		for _, c := range codecs {
			b.Run(value+"/"+c.name, func(b *testing.B) {
				b.ReportAllocs()
				b.SetBytes(int64(len(data)))
				for b.Loop() {
					if err := c.Unmarshal(data, v); err != nil {
						b.Fatal(err)
					}
				}
			})
		}
	}
}

func BenchmarkUnmarshalGeneric(b *testing.B) {
	data := []byte(`{"id":123456,"name":"the quick brown fox","tags":["a","bb","ccc"],"ok":true,"score":3.25}`)
	for _, c := range codecs {
		b.Run(c.name, func(b *testing.B) {
			b.ReportAllocs()
			b.SetBytes(int64(len(data)))
			for b.Loop() {
				var v any
				if err := c.Unmarshal(data, &v); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
