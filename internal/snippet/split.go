package snippet

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"path"
	"regexp"
	"strconv"
	"strings"
)

// parts are the pieces of a block.
type parts struct {
	imports, decls, body []piece
}

// opening is what a declaration outside of functions begins with.
var opening = regexp.MustCompile(`^(import|type|func|var|const) `)

// split takes a block that begins at a line of a document apart. A variable behind a
// statement belongs to it.
func split(path string, line int, text string) (parts, error) {
	var p parts
	rest := strings.Split(strings.TrimSuffix(text, "\n"), "\n")
	statements := false
	for n := 0; len(rest) > 0; rest, line = rest[n:], line+n {
		word := opening.FindStringSubmatch(rest[0])
		if word == nil || statements && word[1] == "var" {
			p.body = append(p.body, piece{text: rest[0] + "\n", path: path, line: line})
			statements = statements || isCode(rest[0])
			n = 1
			continue
		}
		var pieces []piece
		var err error
		if n, pieces, err = declaration(path, line, rest); err != nil {
			return parts{}, err
		}
		for _, decl := range pieces {
			p.declare(decl)
		}
	}
	p.body = joined(p.body)
	return p, nil
}

func (p *parts) declare(decl piece) {
	if strings.HasPrefix(decl.text, "import ") {
		p.imports = append(p.imports, decl)
		return
	}
	p.decls = append(p.decls, decl)
}

func isCode(line string) bool {
	line = strings.TrimSpace(line)
	return line != "" && !strings.HasPrefix(line, "//")
}

// declaration returns the first declaration, a piece for each of a group, and how
// many lines it has.
func declaration(path string, line int, lines []string) (n int, pieces []piece, err error) {
	for n := 1; n <= len(lines); n++ {
		fset := token.NewFileSet()
		source := "package p;" + strings.Join(lines[:n], "\n")
		file, err := parser.ParseFile(fset, "", source, parser.SkipObjectResolution)
		if err == nil {
			return n, ungrouped(fset, file, piece{text: source, path: path, line: line}), nil
		}
	}
	whole := piece{text: "package p;" + strings.Join(lines, "\n"), path: path, line: line}
	_, err = parser.ParseFile(token.NewFileSet(), "", whole.source(), parser.SkipObjectResolution)
	return 0, nil, syntax(err)[0]
}

// ungrouped returns the declarations of a file, which is the source. Constants stay
// together: one may follow from the one before it.
func ungrouped(fset *token.FileSet, file *ast.File, source piece) (pieces []piece) {
	part := func(prefix string, node ast.Node, names []string) {
		begin, end := fset.Position(node.Pos()), fset.Position(node.End())
		pieces = append(pieces, piece{
			text: prefix + source.text[begin.Offset:end.Offset] + "\n", path: source.path, line: source.line + begin.Line - 1, names: names,
		})
	}
	for _, decl := range file.Decls {
		switch decl := decl.(type) {
		case *ast.FuncDecl:
			part("", decl, []string{funcName(decl)})
		case *ast.GenDecl:
			var all []string
			for _, spec := range decl.Specs {
				if decl.Lparen.IsValid() && decl.Tok != token.CONST {
					part(decl.Tok.String()+" ", spec, specNames(spec))
				}
				all = append(all, specNames(spec)...)
			}
			if !decl.Lparen.IsValid() || decl.Tok == token.CONST {
				part("", decl, all)
			}
		}
	}
	return pieces
}

// joined makes one piece of those that follow each other, so that a statement may
// have many lines.
func joined(pieces []piece) (all []piece) {
	for _, next := range pieces {
		if n := len(all); n > 0 {
			last := &all[n-1]
			if last.line+strings.Count(last.text, "\n") == next.line {
				last.text += next.text
				continue
			}
		}
		all = append(all, next)
	}
	return all
}

func funcName(decl *ast.FuncDecl) string {
	if decl.Recv == nil || len(decl.Recv.List) == 0 {
		return decl.Name.Name
	}
	receiver := decl.Recv.List[0].Type
	if star, ok := receiver.(*ast.StarExpr); ok {
		receiver = star.X
	}
	return fmt.Sprint(receiver, ".", decl.Name.Name)
}

func specNames(spec ast.Spec) (names []string) {
	switch spec := spec.(type) {
	case *ast.TypeSpec:
		names = append(names, spec.Name.Name)
	case *ast.ValueSpec:
		for _, name := range spec.Names {
			names = append(names, name.Name)
		}
	case *ast.ImportSpec:
		if spec.Name != nil {
			return []string{spec.Name.Name}
		}
		importPath, _ := strconv.Unquote(spec.Path.Value)
		names = append(names, path.Base(importPath))
	}
	return names
}
