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
