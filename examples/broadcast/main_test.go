package main

import (
	"bytes"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestRun(t *testing.T) {
	var out bytes.Buffer
	require.NoError(t, run(t.Context(), &out))
	require.Equal(t, `Ann  in sports  got: Good morning!
Ann  in sports  got: The match is at three.
Ann  in sports  got: Good night!
Bob  in science got: Good morning!
Bob  in science got: Good night!
Cleo in sports  got: Good morning!
Cleo in sports  got: The match is at three.
Cleo in sports  got: Good night!
`, out.String())
}
