package arpc_test

import (
	"os/exec"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// The root package imports the standard library, codec and internal packages
// only; json-iterator comes through codec. Nobody pays for what he does not use.
func TestRootImports(t *testing.T) {
	out, err := exec.Command("go", "list", "-deps", "-f", "{{if not .Standard}}{{.ImportPath}}{{end}}", ".").CombinedOutput()
	require.NoError(t, err, "%s", out)
	allowed := []string{
		"github.com/arpc-go/arpc",
		"github.com/json-iterator/go",
		"github.com/modern-go/",
	}
	for _, path := range strings.Fields(string(out)) {
		ok := false
		for _, prefix := range allowed {
			ok = ok || strings.HasPrefix(path, prefix)
		}
		require.True(t, ok, "the root package depends on %s", path)
	}
	direct, err := exec.Command("go", "list", "-f", `{{join .Imports "\n"}}`, ".").CombinedOutput()
	require.NoError(t, err, "%s", direct)
	for _, path := range strings.Fields(string(direct)) {
		if strings.Contains(path, ".") {
			require.True(t, path == "github.com/arpc-go/arpc/codec" || strings.HasPrefix(path, "github.com/arpc-go/arpc/internal/"), "the root package imports %s", path)
		}
	}
}
