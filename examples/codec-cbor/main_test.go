package main

import (
	"bytes"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestRun(t *testing.T) {
	var out bytes.Buffer
	require.NoError(t, run(t.Context(), &out))
	require.Regexp(t, `^server: dune\.png has 300 bytes, and was taken at 2026-11-21 12:00:00\.123456789 \+0000 UTC
json: 522 bytes, id is float64 4\.611686018427388e\+18, key is string yv4=
cbor: 392 bytes, id is int64 4611686018427387905, key is \[\]uint8 \[202 254\]
a client with JSON: .*the codecs \(WithCodec\) differ: "json" on the dialling side, "cbor" on the accepting side
$`, out.String())
}
