package router

import (
	"fmt"
	"slices"
	"strings"

	"github.com/arpc-go/arpc"
)

// patterns finds for a method what was said of it: under its own name, or else
// under the longest beginning of it.
type patterns[T any] struct {
	exact    map[string]T
	prefixes []prefix[T] // the longest first
}

type prefix[T any] struct {
	text  string
	value T
}

// maxMethodLen is the longest name that a method can have.
const maxMethodLen = 127

// add says value of a pattern: a name, or the beginning of names and "*". What
// cannot be meant panics.
func (p *patterns[T]) add(op, pattern string, value T) {
	text, isPrefix := strings.CutSuffix(pattern, "*")
	switch {
	case pattern == "":
		panic(fmt.Sprintf("router: %s: a pattern is empty", op))
	case strings.Contains(text, "*"):
		panic(fmt.Sprintf(`router: %s(%q): "*" stands at the end or nowhere`, op, pattern))
	case len(text) > maxMethodLen:
		panic(fmt.Sprintf("router: %s(%q): no method has a name of more than %d bytes", op, pattern, maxMethodLen))
	case p.has(text, isPrefix):
		panic(fmt.Sprintf("router: %s(%q): the pattern is there already", op, pattern))
	}
	if isPrefix {
		p.prefixes = append(p.prefixes, prefix[T]{text, value})
		slices.SortFunc(p.prefixes, func(a, b prefix[T]) int { return len(b.text) - len(a.text) })
		return
	}
	if p.exact == nil {
		p.exact = make(map[string]T)
	}
	p.exact[text] = value
}

func (p *patterns[T]) has(text string, isPrefix bool) bool {
	if !isPrefix {
		_, ok := p.exact[text]
		return ok
	}
	return slices.ContainsFunc(p.prefixes, func(other prefix[T]) bool { return other.text == text })
}

// find returns what was said of a method.
func (p *patterns[T]) find(method []byte) (value T, ok bool) {
	if value, ok = p.exact[string(method)]; ok {
		return value, true
	}
	for i := range p.prefixes {
		if text := p.prefixes[i].text; len(method) >= len(text) && string(method[:len(text)]) == text {
			return p.prefixes[i].value, true
		}
	}
	return value, false
}

// Only returns middleware that does what mw does, for the methods that match a
// pattern, and nothing for others. A pattern is the name of a method, or the
// beginning of names followed by "*": "/admin/*" matches "/admin/stop" and not
// "/admin". It panics if there is no pattern, or if one is empty, occurs twice or
// has a "*" elsewhere.
func Only(mw arpc.HandlerFunc, methods ...string) arpc.HandlerFunc {
	if mw == nil || len(methods) == 0 {
		panic("router: Only: there is no middleware or no pattern")
	}
	var p patterns[struct{}]
	for _, pattern := range methods {
		p.add("Only", pattern, struct{}{})
	}
	return func(ctx *arpc.Context) {
		if _, ok := p.find(methodOf(ctx.Message)); ok {
			mw(ctx)
		}
	}
}
