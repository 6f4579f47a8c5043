package bubble

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

func TestIs(t *testing.T) {
	require.False(t, Is(time.Now()))
	synctest.Test(t, func(t *testing.T) { require.True(t, Is(time.Now())) })
}
