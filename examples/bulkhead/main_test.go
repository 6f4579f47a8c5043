package main

import (
	"bytes"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestRun(t *testing.T) {
	var out bytes.Buffer
	require.NoError(t, run(t.Context(), &out))
	require.Equal(t, `one of four has no place: ResourceExhausted: 2 are handled at a time (NewBulkhead) and 1 wait (WithQueue)
other calls are not concerned: pong
report: all is well
report: all is well
report: all is well
`, out.String())
}
