//go:build !race

package arpc_test

import "testing"

// The race detector cannot do with so many goroutines, so this file is built
// without it.
func TestV2TwentyThousandCallersShareAHundredTurns(t *testing.T) { v2ManyCallers(t, 20000) }
