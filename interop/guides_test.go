package interop

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/arpc-go/arpc/internal/snippet"
)

// guides are those of docs/migrate and how many pieces of code each had when it was
// written, so that none goes missing.
var guides = map[string]struct {
	theirs string // heading of the columns with their code
	pieces int
}{
	"arpc":        {"lesismal/arpc", 160},
	"cmd-stream":  {"cmd-stream-go", 100},
	"buffstreams": {"BuffStreams", 55},
}

// The code of both sides compiles, in fenced blocks and in tables.
func TestGuidesCompile(t *testing.T) {
	checker := snippet.NewChecker(".")
	for name, guide := range guides {
		t.Run(name, func(t *testing.T) {
			dir := filepath.Join("..", "docs", "migrate")
			assumed := func(side string) []string { return []string{filepath.Join(dir, "testdata", name+"-"+side+".go")} }
			checked, problems := checker.Check(snippet.Document{
				Path:    filepath.Join(dir, name+".md"),
				Sides:   map[string][]string{"go theirs": assumed("theirs"), "go ours": assumed("ours")},
				Columns: map[string]string{guide.theirs: "go theirs", "here": "go ours"},
			})
			for _, problem := range problems {
				t.Error(problem)
			}
			require.GreaterOrEqual(t, checked, guide.pieces)
		})
	}
}

func TestEveryGuideIsTested(t *testing.T) {
	paths, err := filepath.Glob("../docs/migrate/*.md")
	require.NoError(t, err)
	for _, path := range paths {
		require.Contains(t, guides, strings.TrimSuffix(filepath.Base(path), ".md"))
	}
	require.Len(t, paths, len(guides))
}

// What a guide says that a test keeps is kept by one.
func TestGuidesNameTestsThatThereAre(t *testing.T) {
	there := make(map[string]bool)
	err := filepath.WalkDir("..", func(path string, _ os.DirEntry, err error) error {
		if err != nil || !strings.HasSuffix(path, "_test.go") {
			return err
		}
		source, err := os.ReadFile(path)
		for _, name := range regexp.MustCompile(`(?m)^func (Test\w+)\(`).FindAllStringSubmatch(string(source), -1) {
			there[name[1]] = true
		}
		return err
	})
	require.NoError(t, err)
	for name := range guides {
		text, err := os.ReadFile(filepath.Join("..", "docs", "migrate", name+".md"))
		require.NoError(t, err)
		named := regexp.MustCompile("`(Test\\w+)`").FindAllStringSubmatch(string(text), -1)
		require.NotEmpty(t, named, name)
		for _, test := range named {
			require.True(t, there[test[1]], "%s names %s", name, test[1])
		}
	}
}
