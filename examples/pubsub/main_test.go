package main

import (
	"bytes"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestRun(t *testing.T) {
	var out bytes.Buffer
	require.NoError(t, run(t.Context(), &out))
	require.Equal(t, `weather: 06:00, 16 degrees
weather: 12:00, 10 degrees
weather: 18:00, 16 degrees
weather: somebody please clean the thermometer
weather: and now the sports
`, out.String())
	require.ErrorContains(t, start([]string{"reader"}), `server, subscriber or publisher, not "reader"`)
}
