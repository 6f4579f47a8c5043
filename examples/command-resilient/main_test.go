package main

import (
	"bytes"
	"regexp"
	"strconv"
	"testing"

	"github.com/stretchr/testify/require"
)

var output = regexp.MustCompile(`^(?:the server is down
the server is up
){3}(\d+) commands were sent
 *(\d+) are done, with (\d+) sales in all
 *(\d+) were refused by the breaker and (\d+) found no connection: to be sent again
 *(\d+) lost their connection and may have been executed
 *0 are unaccounted for
$`)

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
	require.Positive(t, number(2))
	require.Positive(t, number(3))
	require.Positive(t, number(4)+number(5)+number(6), "there were outages")
	require.Equal(t, number(1), number(2)+number(4)+number(5)+number(6))
}
