package aead_test

import (
	"encoding/hex"
	"testing"
	"testing/synctest"

	"github.com/stretchr/testify/require"

	"github.com/arpc-go/arpc/middleware/coder/aead"
	"github.com/arpc-go/arpc/middleware/coder/internal/codertest"
)

// What was encrypted once stays readable: these are the examples of docs/CODERS.md,
// of sessions that began with the year 2000. The secret is the bytes 0 to 31.
func TestVectors(t *testing.T) {
	for algorithm, frame := range map[aead.Algorithm]string{
		aead.XChaCha20Poly1305: "380000001001000701000000000000002f6d6574686f640700000080436d3893cdf301ff36b86e341bd1ad000000000000000014753ee1356aee6250dca9c4598cdc640eebc3f107",
		aead.AESGCM:            "380000001001000701000000000000002f6d6574686f640700000080436d3825b211b6e925625805b76eee00000000000000005e1f5f0216172cbac8a12a947767b0f244c0e8f6c7",
	} {
		t.Run(algorithm.String(), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { // where time begins with the year 2000
				secret := make([]byte, aead.SecretLen)
				for i := range secret {
					secret[i] = byte(i)
				}
				k := aead.Key{ID: 7, Secret: secret, Algorithm: algorithm}
				b, err := hex.DecodeString(frame)
				require.NoError(t, err)
				plain, err := naive(k, b)
				require.NoError(t, err)
				require.Equal(t, "hello", string(plain))
				got, err := open(newAEAD(t, []aead.Key{k}), b)
				require.NoError(t, err)
				require.Equal(t, codertest.Frame([]byte("hello")), got)
			})
		})
	}
}
