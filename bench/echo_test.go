package main

import (
	"bytes"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestCheck(t *testing.T) {
	request := make([]byte, 64)
	stamp(request, 3, 7)
	other := func(id, n uint64) []byte {
		b := make([]byte, 64)
		stamp(b, id, n)
		return b
	}
	for name, c := range map[string]struct {
		response []byte
		ok       bool
	}{
		"the same":                 {bytes.Clone(request), true},
		"of another caller":        {other(4, 7), false},
		"of the call before":       {other(3, 6), false},
		"cut":                      {request[:63:63], false},
		"empty":                    {nil, false},
		"the request's own memory": {request, false},
	} {
		t.Run(name, func(t *testing.T) {
			err := check(request, c.response, nil)
			if c.ok {
				require.NoError(t, err)
			} else {
				require.ErrorIs(t, err, errWrongAnswer)
			}
		})
	}
	require.ErrorIs(t, check(request, bytes.Clone(request), errUnable), errUnable)
}

func TestTitles(t *testing.T) {
	for title, w := range map[string]echo{
		"1 connection, 1 caller, 128 bytes, echo":                                    {conns: 1, callers: 1, size: 128},
		"64 connections, 16 callers each, 1,024 bytes, echo":                         {conns: 64, callers: 16, size: 1024},
		"1 connection, 100 callers, a struct as JSON, echo":                          {conns: 1, callers: 100, json: true},
		"100 connections, 1 caller that uses them in turn, 128 bytes, echo":          {conns: 100, hops: true, size: 128},
		"2 connections, 5 callers each, 64 bytes, echo by a handler that takes 30ms": {conns: 2, callers: 5, size: 64, delay: 30e6},
	} {
		require.Equal(t, title, w.Title())
	}
}
