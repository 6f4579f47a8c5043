package main

import (
	"bytes"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestRun(t *testing.T) {
	var out bytes.Buffer
	require.NoError(t, run(t.Context(), &out))
	require.Equal(t, `120 calls, three servers:
  a:  40
  b:  40
  c:  40
120 calls, without c:
  a:  60
  b:  60
calls for alice: [a a a]
calls for bob: [b b b]
calls for carol: [b b b]
120 calls, a is down:
  a:   0
  b: 120
`, out.String())
}
