// Package docs_test compiles the Go code of the documentation.
package docs_test

import (
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/arpc-go/arpc/internal/snippet"

	// What testdata imports is imported here as well, so that a result is not taken
	// from the cache of the go command when it has changed.
	_ "github.com/arpc-go/arpc/arpctest"
	_ "github.com/arpc-go/arpc/codec/cbor"
	_ "github.com/arpc-go/arpc/codec/msgpack"
	_ "github.com/arpc-go/arpc/extension/buffstreams"
	_ "github.com/arpc-go/arpc/extension/command"
	_ "github.com/arpc-go/arpc/extension/pubsub"
	_ "github.com/arpc-go/arpc/middleware/call"
	_ "github.com/arpc-go/arpc/middleware/coder/aead"
	_ "github.com/arpc-go/arpc/middleware/coder/gzip"
	_ "github.com/arpc-go/arpc/middleware/coder/s2"
	_ "github.com/arpc-go/arpc/middleware/coder/zstd"
	_ "github.com/arpc-go/arpc/middleware/router"
)

// documents returns the paths of all that is written, but for other modules, which
// test theirs, and for the migration guides, which the module interop tests: they have
// code of other systems.
func documents(t *testing.T) (paths []string) {
	t.Helper()
	root := filepath.Clean("..")
	err := filepath.WalkDir(root, func(path string, entry fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case entry.IsDir() && path != root && isElsewhere(path):
			return filepath.SkipDir
		case strings.HasSuffix(path, ".md"):
			paths = append(paths, path)
		}
		return nil
	})
	require.NoError(t, err)
	return paths
}

func isElsewhere(dir string) bool {
	if name := filepath.Base(dir); strings.HasPrefix(name, ".") || name == "node_modules" || name == "testdata" || name == "migrate" {
		return true
	}
	_, err := os.Stat(filepath.Join(dir, "go.mod"))
	return err == nil
}

// elsewhere is the code that needs other modules, which check it.
var elsewhere = []string{"go nats"}

// What all documents take for granted is in testdata/assumed.go, and what one alone
// does in a file of its name.
func TestGoInDocumentsCompiles(t *testing.T) {
	checker := snippet.NewChecker(".")
	total := 0
	for _, path := range documents(t) {
		assumed := []string{filepath.Join("testdata", "assumed.go")}
		own := filepath.Join("testdata", strings.TrimSuffix(filepath.Base(path), ".md")+".go")
		if _, err := os.Stat(own); err == nil {
			assumed = append(assumed, own)
		}
		checked, problems := checker.Check(snippet.Document{Path: path, Sides: map[string][]string{"go": assumed}, Elsewhere: elsewhere})
		for _, problem := range problems {
			t.Errorf("%v (what is taken for granted: %s, %s)", problem, assumed[0], own)
		}
		total += checked
	}
	require.GreaterOrEqual(t, total, 16, "there were so many when this was written")
}
