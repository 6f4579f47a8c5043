package main

import (
	"bytes"
	"testing"

	"github.com/arpc-go/arpc/middleware/coder/gzip"
	"github.com/stretchr/testify/require"
)

func TestRun(t *testing.T) {
	var out bytes.Buffer
	require.NoError(t, run(t.Context(), &out))
	require.Regexp(t, `^text:         44000 bytes there, 44000 back
without gzip: +\d+ bytes there, +\d+ back
with gzip:    +\d+ bytes there, +\d+ back
$`, out.String())
}

func TestGzipSavesBytes(t *testing.T) {
	text := bytes.Repeat([]byte("text "), 10_000)
	plain, err := echo(t.Context(), text)
	require.NoError(t, err)
	require.Greater(t, plain.sent, int64(len(text)))
	require.Greater(t, plain.received, int64(len(text)))

	coded, err := echo(t.Context(), text, gzip.New())
	require.NoError(t, err)
	require.Less(t, coded.sent, plain.sent/10)
	require.Less(t, coded.received, plain.received/10)
}
