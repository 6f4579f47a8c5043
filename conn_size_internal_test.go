package arpc

import (
	"math/bits"
	"reflect"
	"testing"

	"github.com/stretchr/testify/require"
)

// Idle connections are mostly this. One field more costs each of them 64 bytes: see
// parts.go for what few need.
func TestAConnectionFitsItsSizeClass(t *testing.T) {
	if bits.UintSize != 64 {
		t.Skip("pointers of other systems are shorter")
	}
	require.LessOrEqual(t, reflect.TypeFor[conn]().Size(), uintptr(640))
	mu, _ := reflect.TypeFor[conn]().FieldByName("mu")
	require.Zero(t, mu.Offset%64, "senders change it, the reader looks at what is before")
}
