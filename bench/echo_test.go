package main

import (
	"bytes"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestWrongAnswerEndsTheRun(t *testing.T) {
	w := echo{name: "T", conns: 1, callers: 4, size: 64}
	meter := newMeter(0, time.Hour, func() (Usage, error) { return Usage{}, nil })
	err := w.Run(t.Context(), corrupting{}, serveHere(t, corrupting{}), meter)
	require.ErrorIs(t, err, errWrongAnswer)
}

func TestCompare(t *testing.T) {
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
			err := compare(request, c.response)
			if c.ok {
				require.NoError(t, err)
			} else {
				require.ErrorIs(t, err, errWrongAnswer)
			}
		})
	}
}
