package snippet_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/arpc-go/arpc/internal/snippet"
)

const assumed = `// What documents take for granted.
package assumed

import (
	"errors"
	"fmt"
)

type T struct{ N int }

func (t *T) Get() int { return t.N }

var (
	a, b int
	t    *T
)
`

// check checks a document in which the character ' stands for a backtick.
func check(t *testing.T, text string) (checked int, problems []string) {
	t.Helper()
	dir := t.TempDir()
	path := filepath.Join(dir, "doc.md")
	require.NoError(t, os.WriteFile(path, []byte(strings.ReplaceAll(text, "'", "`")), 0o600))
	require.NoError(t, os.WriteFile(filepath.Join(dir, "assumed.go"), []byte(assumed), 0o600))
	checked, errs := snippet.NewChecker(".").Check(snippet.Document{
		Path:    path,
		Sides:   map[string][]string{"go": {filepath.Join(dir, "assumed.go")}, "go theirs": nil},
		Columns: map[string]string{"ours": "go", "theirs": "go theirs"},
	})
	for _, err := range errs {
		problems = append(problems, strings.TrimPrefix(err.Error(), dir+string(filepath.Separator)))
	}
	return checked, problems
}

func TestSoundCode(t *testing.T) {
	for name, doc := range map[string]struct {
		text    string
		checked int
	}{
		"nothing":                  {"text\n'''sh\nmake\n'''\n'''\n|- diagram -|\n'''\n", 0},
		"statements":               {"'''go\nx := a + t.Get()\nfmt.Println(x)\n'''\n", 1},
		"what is not used":         {"'''go\nimport \"os\"\n\nx := a\ny, err := fmt.Sscan(\"\")\n'''\n", 1},
		"the same name again":      {"'''go\nx := a\n\nx := b\n'''\n", 1},
		"declarations":             {"'''go\ntype U struct {\n\tT\n}\n\nfunc (u U) Twice() int {\n\treturn 2 * u.Get()\n}\n'''\n", 1},
		"both":                     {"'''go\nvar u = &T{N: 1}\n\nfmt.Println(u.Get())\n'''\n", 1},
		"a variable in between":    {"'''go\nx := 1\nvar y = x\nfmt.Println(y)\n'''\n", 1},
		"what is left out":         {"'''go\nif a == b {\n\t...\n}\nfunc() { ... }()\n'''\n", 1},
		"known from before":        {"'''go\ntype U struct{ T }\n'''\ntext\n'''go\nvar u U\n'''\n'''go\nfmt.Println(u.N)\n'''\n", 3},
		"declared anew":            {"'''go\nvar a string\nvar _ string = a\n'''\n'''go\nfunc (t *T) Get() string { return a }\n\nvar _ string = t.Get()\n'''\n", 2},
		"a whole file":             {"'''go\npackage main\n\nimport \"os\"\n\nfunc main() { os.Exit(0) }\n'''\n", 1},
		"an import of one's own":   {"'''go\nimport \"strings\"\n\nstrings.Clone(\"\")\n'''\n'''go\nstrings.ToLower(\"\")\n'''\n", 2},
		"an import instead":        {"'''go\nimport errors \"strings\"\n\nfmt.Println(errors.Clone(\"\"))\n'''\n", 1},
		"sides apart":              {"'''go theirs\nvar a string\n'''\n'''go\na = 1\n'''\n'''go theirs\na = \"1\"\n'''\n", 3},
		"indented":                 {"- item\n  '''go\n  a = 1\n  '''\n", 1},
		"a group of constants":     {"'''go\nconst (\n\tx = iota\n\ty\n)\nvar _ [y]int = [1]int{}\n'''\n", 1},
		"cells":                    {"| theirs | ours | what |\n| --- | --- | --- |\n| 'len' and 'int' | 't.Get', 't.Get()' or '*T' | 'nonsense' |\n", 5},
		"statements in cells":      {"| ours |\n| --- |\n| 'x := a; fmt.Println(x)' and 'for { ... }' |\n", 2},
		"cells of what comes late": {"| ours |\n| --- |\n| 'late' |\n\n'''go\nvar late int\n'''\n", 2},
		"cells with a pipe":        {"| ours |\n| --- |\n| 'a \\| b' |\n", 1},
		"columns without a side":   {"| a | b |\n| --- | --- |\n| 'nonsense' | 'more' |\n", 0},
	} {
		t.Run(name, func(t *testing.T) {
			checked, problems := check(t, doc.text)
			require.Empty(t, problems)
			require.Equal(t, doc.checked, checked)
		})
	}
}

// The tester is tested: everything that does not compile is found, where it is.
func TestBrokenCode(t *testing.T) {
	for name, doc := range map[string]struct{ text, problem string }{
		"an unknown name":            {"text\n\n'''go\nfmt.Println(\n\tnobody)\n'''\n", "doc.md:5: undefined: nobody"},
		"an unknown method":          {"'''go\nt.Nothing()\n'''\n", "doc.md:2: t.Nothing undefined (type *T has no field or method Nothing)"},
		"a wrong type":               {"'''go\nvar s string = a\n'''\n", "doc.md:2: cannot use a (variable of type int) as string value in variable declaration"},
		"too many arguments":         {"'''go\nt.Get(1)\n'''\n", "doc.md:2: too many arguments in call to t.Get\n\thave (number)\n\twant ()"},
		"too few results":            {"'''go\nx, err := t.Get()\n'''\n", "doc.md:2: assignment mismatch: 2 variables but t.Get returns 1 value"},
		"no import":                  {"'''go\nos.Exit(1)\n'''\n", "doc.md:2: undefined: os"},
		"an import there is not":     {"'''go\nimport \"no/such/package\"\n'''\n", "no/such/package"},
		"no Go":                      {"'''go\na = = 1\n'''\n", "doc.md:2: expected operand, found '='"},
		"a declaration without end":  {"'''go\na = 1\nfunc f() {\n'''\n", "doc.md:3: expected '}', found 'EOF'"},
		"a bad declaration":          {"'''go\ntype U struct{ X nobody }\n'''\n", "doc.md:2: undefined: nobody"},
		"in a whole file":            {"'''go\npackage main\n\nfunc main() { nobody() }\n'''\n", "doc.md:4: undefined: nobody"},
		"in the second of two":       {"'''go\nvar x = 1\n'''\n\n'''go\nx = \"1\"\n'''\n", "doc.md:6: cannot use \"1\" (untyped string constant) as int value in assignment"},
		"of the other side":          {"'''go theirs\nvar t *T\n'''\n", "doc.md:2: undefined: T"},
		"another language of ours":   {"'''golang\na = 1\n'''\n", "doc.md:1: the info string \"golang\" is none of [\"go\" \"go theirs\"]"},
		"a side there is not":        {"'''go other\na = 1\n'''\n", "doc.md:1: the info string \"go other\" is none of [\"go\" \"go theirs\"]"},
		"a fence that is not closed": {"text\n'''go\na = 1\n", "doc.md: line 2: the fence is not closed"},
		"an unknown name in a cell":  {"| ours |\n| --- |\n| 't.Nothing' |\n", "doc.md:3: t.Nothing: t.Nothing undefined (type *T has no field or method Nothing)"},
		"no Go in a cell":            {"| ours |\n| --- |\n| 'a = = 1' |\n", "doc.md:3: expected operand, found '='"},
		"a wrong statement":          {"| ours |\n| --- |\n| 'a = \"1\"' |\n", "doc.md:3: cannot use \"1\" (untyped string constant) as int value in assignment"},
		"their cell":                 {"| theirs | ours |\n| --- | --- |\n| 't' | 't' |\n", "doc.md:3: t: undefined: t"},
		"a row too short":            {"| x | ours |\n| --- | --- |\n| x |\n", "doc.md:3: the row is short of cells"},
	} {
		t.Run(name, func(t *testing.T) {
			_, problems := check(t, doc.text)
			require.Len(t, problems, 1, "%q", problems)
			require.Contains(t, problems[0], doc.problem)
		})
	}
}

func TestWhatIsAssumedMustBeSound(t *testing.T) {
	dir := t.TempDir()
	doc := filepath.Join(dir, "doc.md")
	require.NoError(t, os.WriteFile(doc, []byte("```go\n```\n"), 0o600))
	for name, c := range map[string]struct{ source, problem string }{
		"no file":         {"", "no such file"},
		"no Go":           {"package p\n\nfunc {\n", "3:6: expected 'IDENT', found '{'"},
		"no declaration":  {"// About it.\npackage p\n\nx := 1\n", ".go:4:1: expected declaration, found x"},
		"an unknown name": {"package p\n\nvar x nobody\n", ".go:3: undefined: nobody"},
	} {
		t.Run(name, func(t *testing.T) {
			file := filepath.Join(dir, fmt.Sprintf("%x.go", name))
			if c.source != "" {
				require.NoError(t, os.WriteFile(file, []byte(c.source), 0o600))
			}
			_, problems := snippet.NewChecker(".").Check(snippet.Document{Path: doc, Sides: map[string][]string{"go": {file}}})
			require.Len(t, problems, 1)
			require.ErrorContains(t, problems[0], c.problem)
		})
	}
	_, problems := snippet.NewChecker(".").Check(snippet.Document{Path: filepath.Join(dir, "nothing.md")})
	require.Len(t, problems, 1)
	require.ErrorContains(t, problems[0], "no such file")
}

func TestCodeThatAnotherModuleChecksIsLeftAlone(t *testing.T) {
	doc := filepath.Join(t.TempDir(), "doc.md")
	require.NoError(t, os.WriteFile(doc, []byte("```go other\nnobody()\n```\n"), 0o600))
	checked, problems := snippet.NewChecker(".").Check(snippet.Document{Path: doc, Elsewhere: []string{"go other"}})
	require.Empty(t, problems)
	require.Zero(t, checked)
}
