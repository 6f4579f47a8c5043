package main

import (
	"bytes"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestRun(t *testing.T) {
	var out bytes.Buffer
	require.NoError(t, run(t.Context(), &out))
	require.Equal(t, `paid, the balance is 900
on the wire: the method true, what is paid false
after a replay: 900
encrypted with key 1 (xchacha20-poly1305): 899
encrypted with key 2 (xchacha20-poly1305): 898
encrypted with key 2 (xchacha20-poly1305): 897
without a key: refused true, the balance is 897
`, out.String())
}
