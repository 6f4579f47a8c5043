// Package markdown reads from the documentation what tests compare with the code:
// fenced code, tables, and the code in their cells.
package markdown

import (
	"fmt"
	"strings"
)

// Fence is a block of code between two lines that begin with three backticks.
type Fence struct {
	Info string // what follows the backticks, such as "go"
	Text string // without the fences, whole lines
	Line int    // of the document that Text begins with, counted from 1
}

// Fences returns the fenced code of a document. One that is not closed is an
// error.
func Fences(doc string) ([]Fence, error) {
	var fences []Fence
	var open *Fence
	for i, line := range lines(doc) {
		trimmed := strings.TrimSpace(line)
		switch {
		case open == nil && strings.HasPrefix(trimmed, "```"):
			open = &Fence{Info: strings.TrimSpace(strings.TrimLeft(trimmed, "`")), Line: i + 2}
		case open != nil && trimmed == "```":
			fences = append(fences, *open)
			open = nil
		case open != nil:
			open.Text += line + "\n"
		}
	}
	if open != nil {
		return nil, fmt.Errorf("line %d: the fence is not closed", open.Line-1)
	}
	return fences, nil
}

func lines(doc string) []string {
	return strings.Split(strings.TrimSuffix(doc, "\n"), "\n")
}

// Row is a row of a table.
type Row struct {
	Cells []string
	Line  int // of the document, counted from 1
}

// Table is a table whose rows begin and end with a pipe.
type Table struct {
	Columns []string // their headings
	Rows    []Row
}

// Tables returns the tables of a document that are not fenced.
func Tables(doc string) (tables []Table) {
	var rows []Row
	end := func() {
		if len(rows) >= 2 {
			tables = append(tables, Table{Columns: rows[0].Cells, Rows: rows[2:]})
		}
		rows = nil
	}
	fenced := false
	for i, line := range lines(doc) {
		if strings.HasPrefix(strings.TrimSpace(line), "```") {
			fenced = !fenced
		}
		if fenced || !strings.HasPrefix(line, "|") {
			end()
			continue
		}
		rows = append(rows, Row{Cells: cells(line), Line: i + 1})
	}
	end()
	return tables
}

// cells splits a row. A pipe behind a backslash is part of a cell.
func cells(row string) []string {
	const pipe = "\x00"
	row = strings.ReplaceAll(row, `\|`, pipe)
	cells := strings.Split(strings.Trim(strings.TrimSpace(row), "|"), "|")
	for i, cell := range cells {
		cells[i] = strings.ReplaceAll(strings.TrimSpace(cell), pipe, "|")
	}
	return cells
}

// Code returns what stands between backticks in a cell.
func Code(cell string) (code []string) {
	for i, part := range strings.Split(cell, "`") {
		if i%2 == 1 {
			code = append(code, part)
		}
	}
	return code
}

// Section returns what stands below a heading of a document, up to the next one of
// the same or a higher level, or "" if there is no such heading. The lines before
// it are left empty, so that lines keep their numbers.
func Section(doc, heading string) string {
	level := strings.IndexFunc(heading, func(r rune) bool { return r != '#' })
	all := lines(doc)
	begin, end := -1, len(all)
	for i, line := range all {
		switch {
		case begin < 0 && line == heading:
			begin = i
		case begin >= 0 && end == len(all) && ends(line, level):
			end = i
		}
	}
	if begin < 0 {
		return ""
	}
	return strings.Repeat("\n", begin+1) + strings.Join(all[begin+1:end], "\n") + "\n"
}

// ends reports whether a line is a heading of a level or above.
func ends(line string, level int) bool {
	hashes := strings.IndexFunc(line, func(r rune) bool { return r != '#' })
	return hashes > 0 && hashes <= level && line[hashes] == ' '
}
