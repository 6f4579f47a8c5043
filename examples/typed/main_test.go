package main

import (
	"bytes"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestRun(t *testing.T) {
	var out bytes.Buffer
	require.NoError(t, run(t.Context(), &out))
	require.Equal(t, `Lisbon: sunny, 25 °C
Atlantis: there is no city called Atlantis (code NotFound)
alert: storm in the evening
1 readings, average 20 °C
2 readings, average 21 °C
3 readings, average 23 °C
the stream ended: -300 °C is too cold to be true (code OutOfRange)
`, out.String())
}
