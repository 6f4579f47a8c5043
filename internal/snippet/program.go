package snippet

import (
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	"go/scanner"
	"go/token"
	"go/types"
	"os"
	"slices"
	"strconv"
	"strings"

	"github.com/arpc-go/arpc/internal/markdown"
)

// program is what the blocks of one side have declared so far.
type program struct {
	checker *Checker
	imports []piece
	decls   []piece
}

// piece is a part of the text of a document, whole lines.
type piece struct {
	text  string
	path  string
	line  int
	names []string // that it declares; of an import those of packages
}

// assume returns a program of Go files.
func (c *Checker) assume(files []string) (*program, error) {
	p := &program{checker: c}
	for _, path := range files {
		text, err := os.ReadFile(path)
		if err != nil {
			return nil, err
		}
		fset := token.NewFileSet()
		file, err := parser.ParseFile(fset, path, text, parser.SkipObjectResolution)
		if err != nil {
			return nil, syntax(err)[0]
		}
		var parts parts
		for _, decl := range ungrouped(fset, file, piece{text: string(text), path: path, line: 1}) {
			parts.declare(decl)
		}
		p.add(parts)
	}
	return p, nil
}

// add makes the declarations of a block known.
func (p *program) add(parts parts) {
	p.imports = replace(p.imports, parts.imports)
	p.decls = replace(p.decls, parts.decls)
}

// replace appends new pieces and drops those that they declare anew.
func replace(old, added []piece) []piece {
	var names []string
	for _, a := range added {
		names = append(names, a.names...)
	}
	kept := slices.DeleteFunc(slices.Clone(old), func(o piece) bool {
		return slices.ContainsFunc(o.names, func(name string) bool { return slices.Contains(names, name) })
	})
	return append(kept, added...)
}

// block checks a fenced block and makes its declarations known.
func (p *program) block(path string, fence markdown.Fence) []error {
	text := complete(fence.Text)
	if strings.HasPrefix(text, "package ") || strings.Contains(text, "\npackage ") {
		_, _, problems := p.check(piece{text: text, path: path, line: fence.Line}.source())
		return problems
	}
	parts, err := split(path, fence.Line, text)
	if err != nil {
		return []error{err}
	}
	p.add(parts)
	_, _, problems := p.check(p.source(parts.body))
	return problems
}

// complete puts something in the place of what was left out.
func complete(text string) string {
	lines := strings.Split(text, "\n")
	for i, line := range lines {
		if strings.TrimSpace(line) == "..." {
			lines[i] = ""
		}
		lines[i] = strings.ReplaceAll(lines[i], "{ ... }", "{}")
	}
	return strings.Join(lines, "\n")
}

// cell checks what stands in a table: an expression, a type, or statements.
func (p *program) cell(path string, line int, code string) []error {
	where := piece{path: path, line: line}
	expr, err := parser.ParseExpr(code)
	if err != nil {
		where.text = complete(code) + "\n"
		_, _, problems := p.check(p.source([]piece{where}))
		return problems
	}
	pkg, pos, problems := p.check(p.source(nil))
	if len(problems) > 0 {
		return problems
	}
	if err := types.CheckExpr(p.checker.fset, pkg, pos, expr, nil); err != nil {
		var typed types.Error
		if errors.As(err, &typed) {
			err = errors.New(typed.Msg)
		}
		return []error{fmt.Errorf("%s:%d: %s: %w", path, line, code, err)}
	}
	return nil
}

// source returns a file with all that is known, and a function of these statements.
func (p *program) source(body []piece) string {
	var b strings.Builder
	b.WriteString("package p\n")
	for _, pieces := range [][]piece{p.imports, p.decls} {
		for _, piece := range pieces {
			b.WriteString(piece.source())
		}
	}
	b.WriteString("func _() {\n")
	for _, piece := range body {
		b.WriteString(piece.source())
	}
	b.WriteString("}\n")
	return b.String()
}

// source returns the text with its place.
func (pc piece) source() string {
	return fmt.Sprintf("//line %s:%d\n%s\n", pc.path, pc.line, strings.TrimSuffix(pc.text, "\n"))
}

// check type-checks a file. The position is within its last function.
func (p *program) check(source string) (*types.Package, token.Pos, []error) {
	c := p.checker
	file, err := parser.ParseFile(c.fset, "", source, parser.SkipObjectResolution)
	if err != nil {
		return nil, token.NoPos, syntax(err)
	}
	var paths []string
	for _, spec := range file.Imports {
		path, err := strconv.Unquote(spec.Path.Value)
		if err != nil {
			return nil, token.NoPos, []error{err}
		}
		paths = append(paths, path)
	}
	if err := c.exports.need(paths); err != nil {
		return nil, token.NoPos, []error{err}
	}
	var problems []error
	config := types.Config{Importer: c.exports.importer, Error: func(err error) {
		var typed types.Error
		if !errors.As(err, &typed) || !typed.Soft { // soft: not used, nothing new
			problems = append(problems, err)
		}
	}}
	pkg, _ := config.Check("p", c.fset, []*ast.File{file}, nil)
	return pkg, file.End() - 2, problems
}

// syntax returns the first error of the parser: others follow from it.
func syntax(err error) []error {
	var list scanner.ErrorList
	if errors.As(err, &list) {
		return []error{list[0]}
	}
	return []error{err}
}
