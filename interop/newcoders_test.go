package interop

import (
	"bytes"
	"strings"
	"testing"

	"github.com/arpc-go/arpc"
	"github.com/arpc-go/arpc/middleware/coder/aead"
	"github.com/arpc-go/arpc/middleware/coder/s2"
	"github.com/arpc-go/arpc/middleware/coder/zstd"
	old "github.com/lesismal/arpc"
	"github.com/stretchr/testify/require"
)

// withOurs has our end alone use coders, and both ends register routes.
func withOurs(register func(routes), coders ...arpc.MessageCoder) setup {
	return setup{routes: func(r routes) {
		if ours, ok := r.(ourRoutes); ok {
			for _, coder := range coders {
				ours.UseCoder(coder)
			}
		}
		register(r)
	}}
}

// Coders with names are left out towards old peers.
func TestCodersWithNamesAreLeftOut(t *testing.T) {
	each(t, withOurs(echoRoutes, zstd.New(zstd.WithThreshold(0)), s2.New(s2.WithThreshold(0))), func(t *testing.T, caller end) {
		for _, text := range []string{"", "hello", strings.Repeat("so many words ", 1000)} {
			roundTrip("/string", text)(t, caller)
		}
		roundTrip("/point", point{Name: "p", X: 1, Tags: []string{"a"}})(t, caller)
	})
}

// An old peer cannot read what is encrypted, and what it sends in the clear is refused;
// the connection goes on.
func TestEncryptionNeedsBothEnds(t *testing.T) {
	sealed, err := aead.New([]aead.Key{{ID: 1, Secret: bytes.Repeat([]byte{7}, aead.SecretLen)}})
	require.NoError(t, err)
	seen := make(chan string, 10)
	register := func(r routes) {
		r.handle("/echo", func(r request, _ end) {
			var text string
			r.Bind(&text)
			seen <- text
			r.Write(text)
		})
	}
	t.Run("ours calls", func(t *testing.T) {
		ourCalls(t, withOurs(register, sealed), func(t *testing.T, caller ourEnd) {
			for range 2 {
				err := caller.call("/echo", "secret", nil)
				require.Equal(t, arpc.CodeDataLoss, arpc.CodeOf(err), err)
				require.NotContains(t, receive(t, seen), "secret")
			}
		})
	})
	t.Run("the old one calls", func(t *testing.T) {
		oldCalls(t, withOurs(register, sealed), func(t *testing.T, caller oldEnd) {
			for range 2 {
				require.Error(t, caller.call("/echo", "in the clear", nil))
			}
			require.Empty(t, seen)
		})
	})
}

// A mark of a coder that our end does not have is an error to the old caller.
func TestMarksOfUnknownCodersAreAnswered(t *testing.T) {
	s := setup{routes: echoRoutes, old: func(h old.Handler) { h.UseCoder(marker{}) }}
	oldCalls(t, s, func(t *testing.T, caller oldEnd) {
		for range 2 {
			err := caller.call("/string", "hello", nil)
			require.ErrorContains(t, err, "no coder of this side reads")
		}
	})
}

// marker sets a bit that nobody clears.
type marker struct{}

func (marker) Encode(_ *old.Client, m *old.Message) *old.Message {
	m.SetFlagBit(3, true)
	return m
}

func (marker) Decode(_ *old.Client, m *old.Message) *old.Message { return m }
