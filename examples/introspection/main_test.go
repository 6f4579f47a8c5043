package main

import (
	"bytes"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestRun(t *testing.T) {
	var out bytes.Buffer
	require.NoError(t, run(t.Context(), &out))
	require.Regexp(t, `^method +kind +handled +failed +half of them within
/chat +stream +0 +0 +0s
/echo +concurrent +100 +0 +\S+s
/nap +ordered +10 +0 +\S+s
/typo +concurrent +3 +3 +\S+s
arpc\.routes +concurrent +\d+ +0 +\S+s
arpc\.statistics +concurrent +\d+ +0 +\S+s

client +version +received +sent
(worker +2 +\d+ bytes +\d+ bytes
tool +2 +\d+ bytes +\d+ bytes
|tool +2 +\d+ bytes +\d+ bytes
worker +2 +\d+ bytes +\d+ bytes
)$`, out.String())
}
