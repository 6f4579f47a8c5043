package main

import (
	"bytes"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestRun(t *testing.T) {
	var out bytes.Buffer
	require.NoError(t, run(t.Context(), &out))
	require.Equal(t, `hello, says the server with the first certificate
hello, says the server with the second certificate
without the authority: refused by the client
`, out.String())
}
