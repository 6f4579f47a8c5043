package main

import (
	"bytes"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestRun(t *testing.T) {
	var out bytes.Buffer
	require.NoError(t, run(t.Context(), &out))
	require.Equal(t, `""
  /status      OK
  /notes/read  Unauthenticated
  /admin/stop  Unauthenticated
  /admin/log   Unauthenticated
"token of ann"
  /status      OK
  /notes/read  OK
  /admin/stop  OK
  /admin/log   OK
"token of bob"
  /status      OK
  /notes/read  OK
  /admin/stop  PermissionDenied
  /admin/log   OK
"token of cid"
  /status      OK
  /notes/read  OK
  /admin/stop  PermissionDenied
  /admin/log   PermissionDenied
6 refused
`, out.String())
}
