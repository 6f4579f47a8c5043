package nats_test

import (
	"path/filepath"
	"testing"

	"github.com/arpc-go/arpc/internal/snippet"
	"github.com/stretchr/testify/require"
)

// The code of docs/PUBSUB.md that needs this module compiles.
func TestGoInDocumentsCompiles(t *testing.T) {
	checked, problems := snippet.NewChecker(".").Check(snippet.Document{
		Path:      filepath.Join("..", "..", "docs", "PUBSUB.md"),
		Sides:     map[string][]string{"go nats": {filepath.Join("testdata", "assumed.go")}},
		Elsewhere: []string{"go"},
	})
	require.Empty(t, problems)
	require.GreaterOrEqual(t, checked, 2)
}
