package main

import (
	"bytes"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestRun(t *testing.T) {
	var out bytes.Buffer
	require.NoError(t, run(t.Context(), &out))
	require.Equal(t, `one way: 100000 messages sent, 100000 arrived, 11000000 bytes
answer: hello, gopher
answer: 6
manager: 20 messages to the first server, 10 to the second
replaced: 3000 messages sent, 1000 of them to no server, 3000 arrived
`, out.String())
}
