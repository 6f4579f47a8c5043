package main

import (
	"bytes"
	"regexp"
	"strconv"
	"testing"

	"github.com/stretchr/testify/require"
)

var output = regexp.MustCompile(`^the server is ill
(?:  /where: .*
)+  of 100 calls it got (\d+), (\d+) were refused here
the server is well
(?:  /where: .*
)*  /where: closed, was half-open
a pool of three, b is ill: (\d+) of 300 calls failed
  a: +\d+
  b: +(\d+)
  c: +\d+
a pool of three, b is well: 0 of 300 calls failed
  a: +\d+
  b: +([1-9]\d*)
  c: +\d+
$`)

// On a slow machine there is time for more probes than one.
func TestRun(t *testing.T) {
	var out bytes.Buffer
	require.NoError(t, run(t.Context(), &out))
	found := output.FindStringSubmatch(out.String())
	require.NotNil(t, found, out.String())
	number := func(i int) int {
		n, err := strconv.Atoi(found[i])
		require.NoError(t, err)
		return n
	}
	require.GreaterOrEqual(t, number(1), 5)
	require.Equal(t, 100, number(1)+number(2))
	require.GreaterOrEqual(t, number(3), 5)
	require.Equal(t, number(3), number(4), "every request that b got failed, and no other")
}
