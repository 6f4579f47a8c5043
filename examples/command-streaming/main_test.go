package main

import (
	"bytes"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestRun(t *testing.T) {
	var out bytes.Buffer
	require.NoError(t, run(t.Context(), &out))
	require.Equal(t, `3 last: false
2 last: false
1 last: false
0 last: true
seen enough, says the server: command: the loop over the results was left
Orion: Betelgeuse Rigel
the Moon: craters
the dark:
an island: an island is not up here
`, out.String())
}
