package main

import (
	"bytes"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestRun(t *testing.T) {
	var out bytes.Buffer
	require.NoError(t, run(t.Context(), &out))
	require.Regexp(t, `^Lisbon: sunny, 25\.5 °C
storm in Porto: 120 km/h
a map: .*encode protobuf: map\[string\]string is no proto\.Message
JSON: .*the codecs \(WithCodec\) differ: "json" on the dialling side, "protobuf" on the accepting side
$`, out.String())
}
