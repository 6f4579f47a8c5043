package buffstreams_test

import (
	"context"
	"math"
	"testing"

	"github.com/arpc-go/arpc/extension/buffstreams"
	"github.com/stretchr/testify/require"
)

func TestKindsTellMessagesApart(t *testing.T) {
	each(t, func(t *testing.T, w wire) {
		var kinds buffstreams.Kinds
		for _, kind := range []uint64{0, 1, 127, 128, math.MaxUint64} {
			kinds.Handle(kind, func(ctx context.Context, c *buffstreams.Conn, message []byte) error {
				return c.SendKind(ctx, kind, append([]byte("re: "), message...))
			})
		}
		w.listen(t, buffstreams.ListenerConfig{Handler: kinds.Dispatch})
		c := w.connect(t, buffstreams.ConnConfig{})
		for _, kind := range []uint64{math.MaxUint64, 128, 127, 1, 0} {
			require.NoError(t, c.SendKind(t.Context(), kind, []byte("message")))
			answer, err := c.Receive(t.Context())
			require.NoError(t, err)
			got, rest, err := buffstreams.CutKind(answer)
			require.NoError(t, err)
			require.Equal(t, kind, got)
			require.Equal(t, "re: message", string(rest))
		}
	})
}

func TestUnknownKindIsAnError(t *testing.T) {
	var kinds buffstreams.Kinds
	require.ErrorIs(t, kinds.Dispatch(t.Context(), nil, []byte{1}), buffstreams.ErrUnknownKind)
	kinds.Handle(1, func(context.Context, *buffstreams.Conn, []byte) error { return errDown })
	require.ErrorIs(t, kinds.Dispatch(t.Context(), nil, []byte{1}), errDown)
	require.EqualError(t, kinds.Dispatch(t.Context(), nil, []byte{2}), "buffstreams: unknown kind of message: 2")
	for _, none := range [][]byte{nil, {}, {0x80}, {0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 2}} {
		require.ErrorIs(t, kinds.Dispatch(t.Context(), nil, none), buffstreams.ErrUnknownKind)
	}
	kinds.Handle(1, nil)
	require.ErrorIs(t, kinds.Dispatch(t.Context(), nil, []byte{1}), buffstreams.ErrUnknownKind)
}

func TestKindCountsForTheSize(t *testing.T) {
	c, _ := pipe(t, buffstreams.ConnConfig{MaxMessageSize: 10})
	require.NoError(t, c.SendKind(t.Context(), 300, make([]byte, 8)))
	require.ErrorIs(t, c.SendKind(t.Context(), 300, make([]byte, 9)), buffstreams.ErrTooLarge)
}
