package markdown_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/arpc-go/arpc/internal/markdown"
)

func TestFences(t *testing.T) {
	got, err := markdown.Fences("text\n```go\na\n\n  b\n```\n\n```\nc\n```\n  ```go ours  \nd\n  ```\n```sh\n```\n")
	require.NoError(t, err)
	require.Equal(t, []markdown.Fence{
		{Info: "go", Text: "a\n\n  b\n", Line: 3},
		{Info: "", Text: "c\n", Line: 9},
		{Info: "go ours", Text: "d\n", Line: 12},
		{Info: "sh", Text: "", Line: 15},
	}, got)
}

func TestFenceThatIsNotClosed(t *testing.T) {
	_, err := markdown.Fences("```go\na\n```\n\n```go\nb\n")
	require.EqualError(t, err, "line 5: the fence is not closed")
}

func TestTables(t *testing.T) {
	doc := "text\n\n| a | b |\n| --- | --- |\n| 1 | `x \\| y`, `z` |\n|  | 2 |\n\n```\n| no | table |\n| --- | --- |\n```\n| c |\n| --- |\n"
	require.Equal(t, []markdown.Table{
		{Columns: []string{"a", "b"}, Rows: []markdown.Row{
			{Cells: []string{"1", "`x | y`, `z`"}, Line: 5},
			{Cells: []string{"", "2"}, Line: 6},
		}},
		{Columns: []string{"c"}, Rows: []markdown.Row{}},
	}, markdown.Tables(doc))
}

func TestCode(t *testing.T) {
	require.Equal(t, []string{"x | y", "z"}, markdown.Code("`x | y`, or `z`"))
	require.Empty(t, markdown.Code("no code"))
}

func TestSection(t *testing.T) {
	doc := "# A\n\n## B\nb\n### C\nc\n## D\n#d\n# E\ne"
	require.Equal(t, "\n\n\nb\n### C\nc\n", markdown.Section(doc, "## B"))
	require.Equal(t, "\n\n\n\n\nc\n", markdown.Section(doc, "### C"))
	require.Equal(t, "\n\n\n\n\n\n\n#d\n", markdown.Section(doc, "## D"))
	require.Equal(t, "\n\n\n\n\n\n\n\n\ne\n", markdown.Section(doc, "# E"))
	require.Empty(t, markdown.Section(doc, "## F"))
}
