package arpc_test

import (
	"fmt"
	"go/ast"
	"go/importer"
	"go/parser"
	"go/token"
	"go/types"
	"io"
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// typedProgram is a program around a statement.
const typedProgram = `package p

import (
	"context"

	"github.com/arpc-go/arpc"
)

type (
	A struct{ N int }
	B struct{ S string }
)

var (
	method = arpc.NewMethod[A, B]("/method", arpc.Idempotent)
	notice = arpc.NewNotice[A]("/notice")
	stream = arpc.NewStreamMethod[A, B]("/stream")
)

func _(ctx context.Context, h *arpc.Handler, server *arpc.Server, client *arpc.Client, pool *arpc.ClientPool,
	a *A, b *B, err error, opened *arpc.TypedStream[A, B], served *arpc.TypedStream[B, A]) {
	%s
}
`

func TestTypedRightTypesCompile(t *testing.T) {
	check := typedChecker(t)
	for name, code := range map[string]string{
		"call a client":    `b, err = method.Call(ctx, client, a)`,
		"call a pool":      `b, err = method.Call(ctx, pool, a)`,
		"handle a method":  `method.Handle(h, func(ctx context.Context, req *A) (*B, error) { return b, nil })`,
		"handle in order":  `method.Handle(h, func(ctx context.Context, req *A) (*B, error) { return b, nil }, false)`,
		"notify":           `err = notice.Notify(ctx, client, a)`,
		"broadcast":        `err = notice.Broadcast(server, a, func(*arpc.Client) bool { return true })`,
		"handle a notice":  `notice.Handle(h, func(ctx context.Context, v *A) {})`,
		"open a stream":    `opened, err = stream.Open(ctx, pool)`,
		"opener sends":     `err = opened.Send(a)`,
		"opener receives":  `b, err = opened.Recv()`,
		"opener loops":     `for b, err = range opened.RecvSeq() {}`,
		"handle a stream":  `stream.Handle(h, func(ctx context.Context, s *arpc.TypedStream[B, A]) error { return nil })`,
		"handler sends":    `err = served.SendContext(ctx, b)`,
		"handler receives": `err = served.RecvInto(a)`,
		"options":          `_ = arpc.NewMethod[A, B]("/x", []arpc.MethodOption{arpc.Idempotent}...)`,
	} {
		require.NoError(t, check(code), name)
	}
}

func TestTypedWrongTypesDoNotCompile(t *testing.T) {
	check := typedChecker(t)
	for name, c := range map[string]struct{ code, says string }{
		"request":               {`b, err = method.Call(ctx, client, b)`, `as *A value in argument to method.Call`},
		"request by value":      {`b, err = method.Call(ctx, client, *a)`, `as *A value in argument to method.Call`},
		"response":              {`a, err = method.Call(ctx, client, a)`, `as *A value in assignment`},
		"caller":                {`b, err = method.Call(ctx, server, a)`, `*arpc.Server does not implement arpc.Caller (missing method CallWith)`},
		"handler of B":          {`method.Handle(h, func(ctx context.Context, req *B) (*B, error) { return b, nil })`, `value in argument to method.Handle`},
		"handler answers A":     {`method.Handle(h, func(ctx context.Context, req *A) (*A, error) { return a, nil })`, `value in argument to method.Handle`},
		"handler without error": {`method.Handle(h, func(ctx context.Context, req *A) *B { return b })`, `value in argument to method.Handle`},
		"notice":                {`err = notice.Notify(ctx, client, b)`, `as *A value in argument to notice.Notify`},
		"broadcast":             {`err = notice.Broadcast(server, b)`, `as *A value in argument to notice.Broadcast`},
		"broadcast by a client": {`err = notice.Broadcast(client, a)`, `as *arpc.Server value in argument to notice.Broadcast`},
		"handler of a notice":   {`notice.Handle(h, func(ctx context.Context, v *B) {})`, `value in argument to notice.Handle`},
		"opener sends":          {`err = opened.Send(b)`, `as *A value in argument to opened.Send`},
		"opener receives":       {`a, err = opened.Recv()`, `value of type *B`},
		"opener receives into":  {`err = opened.RecvInto(a)`, `as *B value in argument to opened.RecvInto`},
		"opener loops":          {`for a, err = range opened.RecvSeq() {}`, `as *A value in assignment`},
		"stream's ends":         {`served, err = stream.Open(ctx, client)`, `*arpc.TypedStream[A, B]`},
		"handler of the opener": {`stream.Handle(h, func(ctx context.Context, s *arpc.TypedStream[A, B]) error { return nil })`, `value in argument to stream.Handle`},
		"handler sends":         {`err = served.Send(a)`, `as *B value in argument to served.Send`},
		"another method":        {`method = arpc.NewMethod[B, A]("/method")`, `value in assignment`},
		"option of a client":    {`_ = arpc.NewMethod[A, B]("/x", arpc.WithMaxStreams(1))`, `as arpc.MethodOption value`},
	} {
		require.ErrorContains(t, check(c.code), c.says, name)
	}
}

// typedChecker returns what type-checks typedProgram around a statement, against
// the export data of this package and those that it imports.
func typedChecker(t *testing.T) func(code string) error {
	t.Helper()
	out, err := exec.Command("go", "list", "-export", "-deps", "-f", "{{.ImportPath}}\t{{.Export}}", ".").Output()
	require.NoError(t, err)
	exports := make(map[string]string)
	for line := range strings.Lines(string(out)) {
		path, file, _ := strings.Cut(strings.TrimSpace(line), "\t")
		exports[path] = file
	}
	fset := token.NewFileSet()
	imports := importer.ForCompiler(fset, "gc", func(path string) (io.ReadCloser, error) { return os.Open(exports[path]) })
	return func(code string) error {
		file, err := parser.ParseFile(fset, "p.go", fmt.Sprintf(typedProgram, code), 0)
		require.NoError(t, err, code)
		_, err = (&types.Config{Importer: imports}).Check("p", fset, []*ast.File{file}, nil)
		return err
	}
}
