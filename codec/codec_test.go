package codec_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/arpc-go/arpc/codec"
)

type unnamed struct{ codec.Codec }

func TestName(t *testing.T) {
	require.Equal(t, "json", codec.Name(codec.JSON{}))
	require.Equal(t, "json", codec.Name(codec.StdJSON{}))
	require.Equal(t, "raw", codec.Name(codec.Raw{}))
	require.Empty(t, codec.Name(unnamed{codec.JSON{}}))
	require.Empty(t, codec.Name(nil))
}

func TestSetCodec(t *testing.T) {
	require.Equal(t, codec.JSON{}, codec.DefaultCodec)
	t.Cleanup(func() { codec.SetCodec(codec.JSON{}) })

	codec.SetCodec(codec.StdJSON{})
	require.Equal(t, codec.StdJSON{}, codec.DefaultCodec)
	require.PanicsWithValue(t, "codec: SetCodec(nil)", func() { codec.SetCodec(nil) })
}

// unnamed is no Appender either: its method set is that of Codec.
func TestMarshalAppend(t *testing.T) {
	for name, c := range map[string]codec.Codec{
		"JSON": codec.JSON{}, "StdJSON": codec.StdJSON{}, "no Appender": unnamed{codec.JSON{}},
	} {
		t.Run(name, func(t *testing.T) {
			buf := append(make([]byte, 0, 100), "head"...)
			out, err := codec.MarshalAppend(c, buf, []int{1, 2})
			require.NoError(t, err)
			require.Equal(t, "head[1,2]", string(out))
			require.Same(t, &buf[0], &out[0], "there was room")

			out, err = codec.MarshalAppend(c, buf[:4:4], []any{"x"})
			require.NoError(t, err)
			require.Equal(t, `head["x"]`, string(out))

			out, err = codec.MarshalAppend(c, buf, make(chan int))
			require.ErrorContains(t, err, "encode JSON: ")
			require.Equal(t, "head", string(out))
			_, err = codec.MarshalAppend(c, buf, []any{"a value before", failing{}})
			require.ErrorIs(t, err, errFailing)
		})
	}
}
