package main

import (
	"bytes"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestRun(t *testing.T) {
	var out bytes.Buffer
	require.NoError(t, run(t.Context(), &out))
	require.Regexp(t, `^without shedding: \d+ of 1000 queries a second are answered in time
with shedding: \d+ of 1000 queries a second are answered in time
\d+ were refused at once; the limit is \d+ at a time now
$`, out.String())
}
