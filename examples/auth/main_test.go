package main

import (
	"bytes"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestRun(t *testing.T) {
	var out bytes.Buffer
	require.NoError(t, run(t.Context(), &out))
	require.Equal(t, `the server knows its client as ann with token 1
the server knows its client as ann with token 2
ann hears that the shop is open
Unauthenticated: arpc: connect: the peer refused the connection: the token is not known, or was used before
FailedPrecondition: arpc: connect: the peer refused the connection: arpc: the compatibility strings (WithCompat) differ: "shop, version 1" on the dialling side, "shop, version 2" on the accepting side
who did not say a word heard 0 bytes
`, out.String())
}
