package main

import (
	"bytes"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestRun(t *testing.T) {
	var out bytes.Buffer
	require.NoError(t, run(t.Context(), &out))
	require.Equal(t, `warning: reading 3 is 31 degrees
warning: reading 4 is 33 degrees
summary: 5 readings: [18 24 31 33 21]
`, out.String())
}
