package main

import (
	"bytes"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestRun(t *testing.T) {
	var out bytes.Buffer
	require.NoError(t, run(t.Context(), &out))
	text := out.String()
	require.Contains(t, text, `120 calls, all connected:
  connection 1:  30
  connection 2:  30
  connection 3:  30
  connection 4:  30
`)
	require.Contains(t, text, `120 calls, without the first:
  connection 1:   0
`)
}
