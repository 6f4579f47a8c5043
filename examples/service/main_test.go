package main

import (
	"bytes"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestRun(t *testing.T) {
	var out bytes.Buffer
	require.NoError(t, run(t.Context(), &out))
	require.Equal(t, `Calculator.Divide of 6 and 4 is 1.5
Calculator.Add    of 6 and 4 is 10
Calculator.Negate of 6 and 4 is -6
Calculator.Divide of 1 and 0 fails: division by zero
`, out.String())
}
