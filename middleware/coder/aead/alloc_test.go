//go:build !race

package aead_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/arpc-go/arpc"
	"github.com/arpc-go/arpc/middleware/coder/aead"
	"github.com/arpc-go/arpc/middleware/coder/internal/codertest"
)

// Encrypting allocates the encrypted frame, decrypting nothing.
func TestAlloc(t *testing.T) {
	for name, k := range map[string]aead.Key{"xchacha20-poly1305": key(1), "aes-256-gcm": gcm(1)} {
		t.Run(name, func(t *testing.T) {
			from, to := ends(t, k)
			sender, peer := codertest.Client(1<<20), codertest.Client(1<<20)
			frame := codertest.Frame(codertest.Orders(1000))
			var m arpc.Message
			buf := make([]byte, len(frame))
			require.Less(t, testing.AllocsPerRun(500, func() {
				m.Buffer = append(buf[:0], frame...)
				if _, err := to.DecodeChecked(peer, from.Encode(sender, &m)); err != nil {
					t.Error(err)
				}
			}), 2.0)
		})
	}
}
