package main

import (
	"bytes"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestRun(t *testing.T) {
	var out bytes.Buffer
	require.NoError(t, run(t.Context(), &out))
	require.Equal(t, `sent 2, average so far 2
sent 4, average so far 3
sent 9, average so far 5
both sides are done
3 ...
2 ...
1 ...
lift-off
`, out.String())
}
