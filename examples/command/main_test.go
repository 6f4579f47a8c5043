package main

import (
	"bytes"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
)

// lockedBuffer is what both ends write to.
type lockedBuffer struct {
	mu sync.Mutex
	bytes.Buffer
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.Buffer.Write(p)
}

func TestRun(t *testing.T) {
	var out lockedBuffer
	require.NoError(t, run(t.Context(), &out))
	out.mu.Lock()
	defer out.mu.Unlock()
	require.Equal(t, `  the server executes /command/Add: {A:2 B:3}
2 + 3 = 5
  the server executes /command/Div: {A:1 B:0}
1 / 0: division by zero (code InvalidArgument)
  the server executes /command/Div: {A:84 B:2}
84 / 2 = 42
`, out.Buffer.String())
}
