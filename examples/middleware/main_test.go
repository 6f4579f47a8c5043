package main

import (
	"bytes"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestRun(t *testing.T) {
	var out bytes.Buffer
	require.NoError(t, run(t.Context(), &out))
	require.Regexp(t, `^/secret               error: log in first
/login  a guess       error: wrong password
/login  open sesame   welcome, Ali
/secret               the key is under the mat
/bug                  error: internal error, id \w+

The server's log:
level=INFO msg="arpc: message" kind=request method=/secret outcome=error
level=INFO msg="arpc: message" kind=request method=/login outcome=error
level=INFO msg="arpc: message" kind=request method=/login outcome=answered
level=INFO msg="arpc: message" kind=request method=/secret outcome=answered
level=ERROR msg="arpc: a handler panicked" kind=request method=/bug id=\w+ panic="a bug"
level=INFO msg="arpc: message" kind=request method=/bug outcome=error
$`, out.String())
}
