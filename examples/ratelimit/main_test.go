package main

import (
	"bytes"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestRun(t *testing.T) {
	var out bytes.Buffer
	require.NoError(t, run(t.Context(), &out))
	require.Regexp(t, `^refused: over the rate limit of 5 per second with a burst of 3 \(NewRateLimit\); try again in \d+ms
later: found
1 refused, 1 addresses known
$`, out.String())
}
