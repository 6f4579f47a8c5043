package main

import (
	"bytes"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestRun(t *testing.T) {
	var out bytes.Buffer
	require.NoError(t, run(t.Context(), &out))
	require.Equal(t, `the caller hears: DeadlineExceeded: the handler took longer than 100ms (NewTimeout)
its context ends: context deadline exceeded
its answer: arpc: the request was answered already
`, out.String())
}
