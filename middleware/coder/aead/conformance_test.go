package aead_test

import (
	"testing"

	"github.com/arpc-go/arpc"
	"github.com/arpc-go/arpc/arpctest"
	"github.com/arpc-go/arpc/middleware/coder/aead"
)

var spec = arpctest.CoderSpec{Authentic: true, MaxGrowth: aead.Overhead}

func newCoder(tb testing.TB, keys ...aead.Key) func() arpc.MessageCoder {
	return func() arpc.MessageCoder { return newAEAD(tb, keys) }
}

func TestConformance(t *testing.T) {
	t.Run("xchacha20-poly1305", func(t *testing.T) { arpctest.Coder(t, newCoder(t, key(1)), spec) })
	t.Run("aes-256-gcm", func(t *testing.T) { arpctest.Coder(t, newCoder(t, gcm(1), key(2)), spec) })
}
