package main

import (
	"bytes"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestRun(t *testing.T) {
	var out bytes.Buffer
	require.NoError(t, run(t.Context(), &out))
	require.Regexp(t, `^call of /order: OK in \S+s, map\[stored-in:Porto\]
lamps taken for ann, trace 00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01
call of /order: FailedPrecondition in \S+s, map\[\]
there is not enough of chairs: 2 chairs are left
$`, out.String())
}
