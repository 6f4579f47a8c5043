package main

import (
	"bytes"
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestRun(t *testing.T) {
	var out bytes.Buffer
	require.NoError(t, run(t.Context(), &out))
	var want string
	for _, name := range []string{"ann", "bob", "cid"} {
		want += fmt.Sprintf(`%s hears
  ann: hello
  bob: hello ann
  ann: where is cid?
  cid: here, on another server
`, name)
	}
	require.Equal(t, want, out.String())
}
