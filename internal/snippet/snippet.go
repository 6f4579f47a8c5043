// Package snippet type-checks the Go code of the documentation: fenced blocks, and
// the code in columns of tables. Blocks are whole files, or any declarations and
// statements; one that says "..." leaves something out there.
//
// The blocks of a document that have the same info string are one program, its
// Side: declarations outside of functions are known to all that follow, and a later
// one replaces an earlier one of the same name. What all of them take for granted,
// imports too, is in Go files beside the document. Variables and imports that are
// not used are no errors.
package snippet

import (
	"fmt"
	"go/token"
	"os"
	"slices"
	"strings"

	"github.com/arpc-go/arpc/internal/markdown"
)

// Document is a Markdown file.
type Document struct {
	Path string
	// Sides has, by the info string of fenced blocks such as "go" or "go ours", the
	// paths of the Go files with what they take for granted.
	Sides map[string][]string
	// Elsewhere are the info strings of code that the tests of another module check.
	Elsewhere []string
	// Columns has the sides of the code in columns of tables, by their headings. The
	// code in other columns is not checked.
	Columns map[string]string
}

// Checker checks documents against packages. It is not safe for concurrent use.
type Checker struct {
	fset    *token.FileSet
	exports *exports
}

// NewChecker returns a Checker for code that may import what code in the directory
// may, which is in a module.
func NewChecker(dir string) *Checker {
	c := &Checker{fset: token.NewFileSet()}
	c.exports = newExports(c.fset, dir)
	return c
}

// Check returns what is wrong in a document, with its lines, and how many pieces of
// code it has looked at.
func (c *Checker) Check(doc Document) (checked int, problems []error) {
	text, err := os.ReadFile(doc.Path)
	if err != nil {
		return 0, []error{err}
	}
	fences, err := markdown.Fences(string(text))
	if err != nil {
		return 0, []error{fmt.Errorf("%s: %w", doc.Path, err)}
	}
	programs := make(map[string]*program)
	for side, files := range doc.Sides {
		if programs[side], err = c.assume(files); err != nil {
			return 0, []error{err}
		}
	}
	for _, fence := range fences {
		p := programs[fence.Info]
		if p == nil {
			if isGo(fence.Info) && !slices.Contains(doc.Elsewhere, fence.Info) {
				problems = append(problems, fmt.Errorf("%s:%d: the info string %q is none of %q", doc.Path, fence.Line-1, fence.Info, sides(doc)))
			}
			continue
		}
		checked++
		problems = append(problems, p.block(doc.Path, fence)...)
	}
	for _, table := range markdown.Tables(string(text)) {
		n, wrong := checkTable(doc, programs, table)
		checked += n
		problems = append(problems, wrong...)
	}
	return checked, distinct(problems)
}

// distinct drops what was said before, such as that packages cannot be had.
func distinct(problems []error) (all []error) {
	said := make(map[string]bool)
	for _, problem := range problems {
		if !said[problem.Error()] {
			said[problem.Error()] = true
			all = append(all, problem)
		}
	}
	return all
}

// isGo reports whether an info string was meant to say that the code is Go.
func isGo(info string) bool {
	word, _, _ := strings.Cut(strings.ToLower(info), " ")
	return word == "go" || word == "golang"
}

func sides(doc Document) (names []string) {
	for name := range doc.Sides {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

// checkTable checks the columns of a table that have a side.
func checkTable(doc Document, programs map[string]*program, table markdown.Table) (checked int, problems []error) {
	for i, heading := range table.Columns {
		p := programs[doc.Columns[heading]]
		if p == nil {
			continue
		}
		for _, row := range table.Rows {
			if i >= len(row.Cells) {
				problems = append(problems, fmt.Errorf("%s:%d: the row is short of cells", doc.Path, row.Line))
				continue
			}
			for _, code := range markdown.Code(row.Cells[i]) {
				checked++
				problems = append(problems, p.cell(doc.Path, row.Line, code)...)
			}
		}
	}
	return checked, problems
}
