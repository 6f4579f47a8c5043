package main

import (
	"bytes"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestRun(t *testing.T) {
	var out bytes.Buffer
	require.NoError(t, run(t.Context(), &out))
	require.Equal(t, `a busy server is asked again, when it says
  the balance is 1000, after 3 requests
a payment may have been made, and is not tried again
  busy, after 1 request
unless nothing of it was sent, for there was no connection
  paid, after 1 request
a server that is down for long is not flooded
  201 calls made 241 requests: 40 were second attempts or more, then the budget was spent
`, out.String())
}
