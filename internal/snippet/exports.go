package snippet

import (
	"bytes"
	"fmt"
	"go/importer"
	"go/token"
	"go/types"
	"io"
	"os"
	"os/exec"
	"strings"
)

// exports imports packages from what the go command has compiled.
type exports struct {
	dir      string
	files    map[string]string // with export data, by import path
	importer types.Importer
}

func newExports(fset *token.FileSet, dir string) *exports {
	e := &exports{dir: dir, files: make(map[string]string)}
	e.importer = importer.ForCompiler(fset, "gc", e.open)
	return e
}

// need has packages, and what they import, compiled.
func (e *exports) need(paths []string) error {
	var missing []string
	for _, path := range paths {
		if e.files[path] == "" && path != "unsafe" {
			missing = append(missing, path)
		}
	}
	if len(missing) == 0 {
		return nil
	}
	list := exec.Command("go", append([]string{"list", "-export", "-deps", "-f", "{{.ImportPath}}\t{{.Export}}", "--"}, missing...)...)
	list.Dir = e.dir
	var stderr bytes.Buffer
	list.Stderr = &stderr
	out, err := list.Output()
	if err != nil {
		return fmt.Errorf("go list in %s: %w: %s", e.dir, err, bytes.TrimSpace(stderr.Bytes()))
	}
	for line := range strings.Lines(string(out)) {
		path, file, _ := strings.Cut(strings.TrimSpace(line), "\t")
		e.files[path] = file
	}
	return nil
}

func (e *exports) open(path string) (io.ReadCloser, error) { return os.Open(e.files[path]) }
