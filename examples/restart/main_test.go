package main

import (
	"bytes"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestRun(t *testing.T) {
	var out bytes.Buffer
	require.NoError(t, run(t.Context(), &out))
	require.Regexp(t, `^server 1 restarts
  its stream came to an end: "closing time"
  its client is back, at version 2
server 2 restarts
  its stream came to an end: "closing time"
  its client is back, at version 2
[1-9]\d* calls answered, 0 failed
$`, out.String())
}
