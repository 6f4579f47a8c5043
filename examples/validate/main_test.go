package main

import (
	"bytes"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestRun(t *testing.T) {
	var out bytes.Buffer
	require.NoError(t, run(t.Context(), &out))
	require.Equal(t, `2 of "book" are on their way
InvalidArgument, field count: count is 200, 1 to 100 can be ordered
InvalidArgument, field article: article is missing
InvalidArgument, field article: article is missing
`, out.String())
}
