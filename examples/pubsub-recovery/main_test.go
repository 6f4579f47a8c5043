package main

import (
	"bytes"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestRun(t *testing.T) {
	var out bytes.Buffer
	require.NoError(t, run(t.Context(), &out))
	require.Equal(t, `-- nothing is missing
order 1
order 2
-- the line is cut, and 3 orders are made
-- interrupted
-- nothing is missing
order 3
order 4
order 5
-- the line is cut, and 20 orders are made
-- interrupted
-- something is missing
order 16
order 17
order 18
order 19
order 20
order 21
order 22
order 23
order 24
order 25
`, out.String())
}
