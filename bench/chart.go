package main

import (
	"fmt"
	"html"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// chart is a picture of horizontal bars.
type chart struct {
	title, subtitle string
	bars            []bar
	mark            float64 // a value with a line, 0: none
}

type bar struct {
	label string
	value float64
	text  string // the value in words
	kind  string // its class
}

const (
	barOurs   = "ours"
	barSecond = "second" // of ours too
	barPeer   = "peer"
	barLimit  = "limit"
)

// Measures of a chart in pixels.
const (
	chartWidth  = 820
	chartMargin = 20
	chartHead   = 64 // above the bars
	chartFoot   = 18
	barHeight   = 18
	barStep     = 26
	barLeft     = 335 // where bars begin; labels end 8 before
	barRight    = 710 // where the longest ends; its text is behind
)

// The background is part of the picture, so that it reads on dark pages too.
const chartStyle = `<style>
text { font: 13px system-ui, -apple-system, "Segoe UI", Helvetica, Arial, sans-serif; fill: #1f2328 }
.title { font-size: 16px; font-weight: 600 }
.subtitle { fill: #59636e }
.label { text-anchor: end }
.strong { font-weight: 600 }
.ours { fill: #0b7285 }
.second { fill: #66b2c0 }
.mark { stroke: #1f2328; stroke-dasharray: 2 3 }
.peer { fill: #adb5bd }
.limit { fill: #f1f3f5; stroke: #adb5bd; stroke-dasharray: 3 2 }
</style>
`

// SVG returns the picture.
func (c chart) SVG() string {
	var b strings.Builder
	height := chartHead + barStep*len(c.bars) + chartFoot
	fmt.Fprintf(&b, `<svg xmlns="http://www.w3.org/2000/svg" width="%d" height="%d" viewBox="0 0 %[1]d %[2]d" role="img">`+"\n", chartWidth, height)
	fmt.Fprintf(&b, "<title>%s</title>\n%s", html.EscapeString(c.title+". "+c.subtitle), chartStyle)
	fmt.Fprintf(&b, `<rect x="0.5" y="0.5" width="%d" height="%d" rx="8" fill="#ffffff" stroke="#d1d9e0"/>`+"\n", chartWidth-1, height-1)
	fmt.Fprintf(&b, `<text class="title" x="%d" y="28">%s</text>`+"\n", chartMargin, html.EscapeString(c.title))
	fmt.Fprintf(&b, `<text class="subtitle" x="%d" y="48">%s</text>`+"\n", chartMargin, html.EscapeString(c.subtitle))
	most := 0.0
	for _, bar := range c.bars {
		most = max(most, bar.value)
	}
	for i, bar := range c.bars {
		bar.write(&b, chartHead+barStep*i, most)
	}
	if c.mark > 0 {
		x := barLeft + c.mark/max(most, c.mark)*(barRight-barLeft)
		fmt.Fprintf(&b, `<line class="mark" x1="%.1f" x2="%.1[1]f" y1="%d" y2="%d"/>`+"\n", x, chartHead-4, height-chartFoot)
	}
	b.WriteString("</svg>\n")
	return b.String()
}

func (b bar) write(to *strings.Builder, y int, most float64) {
	class := ""
	if b.kind == barOurs {
		class = " strong"
	}
	length := max(1, b.value/max(most, 1e-9)*(barRight-barLeft))
	text := y + barHeight - 4
	fmt.Fprintf(to, `<text class="label%s" x="%d" y="%d">%s</text>`, class, barLeft-8, text, html.EscapeString(b.label))
	fmt.Fprintf(to, `<rect class="%s" x="%d" y="%d" width="%.1f" height="%d" rx="2"/>`, b.kind, barLeft, y, length, barHeight)
	fmt.Fprintf(to, `<text class="value%s" x="%.1f" y="%d">%s</text>`+"\n", class, barLeft+length+6, text, html.EscapeString(b.text))
}

// tableChart shows a figure of all rows of a table, the best first.
func tableChart(t *Table, unit string, figure func(Result) float64, print func(float64) string, lowerIsBetter bool) chart {
	c := chart{title: t.Name + ": " + unit, subtitle: t.Title}
	for _, row := range t.measured() {
		if _, ok := row.Participant.(limitRaw); ok {
			continue // is so far ahead now and then that nothing else can be told apart
		}
		v := row.median(figure)
		c.bars = append(c.bars, bar{row.Label, v, print(v), kindOf(row)})
	}
	slices.SortStableFunc(c.bars, func(a, b bar) int {
		if lowerIsBetter == (a.value < b.value) {
			return -1
		}
		return 1
	})
	return c
}

func kindOf(r *Row) string {
	switch r.Participant.(type) {
	case ours:
		return barOurs
	case limit:
		return barLimit
	}
	return barPeer
}

// timesChart shows how many times faster ours is than others.
func timesChart(tables []*Table) chart {
	c := chart{
		title:    "How many times faster than gRPC and than " + oldArpcName,
		subtitle: "calls or messages per second of ours over those of the other in its better mode; the line marks the same speed",
		mark:     1,
	}
	for _, t := range tables {
		if t.Section != peerSection || !t.rated() {
			continue
		}
		for _, other := range []struct {
			name, kind string
			labels     []string
		}{{"gRPC", barOurs, []string{grpcEcho{}.Name()}}, {oldArpcName, barSecond, oldArpc}} {
			if v := against(other.labels...)(t); v > 0 {
				c.bars = append(c.bars, bar{t.Name + " / " + other.name, v, fmt.Sprintf("%.1f ×", v), other.kind})
			}
		}
	}
	return c
}

// charts are those of all tables that have something to show, by file name.
func charts(tables []*Table) map[string]chart {
	all := map[string]chart{}
	for _, t := range tables {
		if t.chart != nil && len(t.measured()) > 1 {
			all[t.Name+".svg"] = t.chart(t)
		}
	}
	if c := timesChart(tables); len(c.bars) > 0 {
		all["times.svg"] = c
	}
	return all
}

// writeCharts writes the pictures into a directory.
func writeCharts(dir string, tables []*Table) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	for name, c := range charts(tables) {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(c.SVG()), 0o644); err != nil {
			return err
		}
	}
	return nil
}
