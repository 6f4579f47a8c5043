package router_test

import (
	"context"
	"log"
	"log/slog"
	"net"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/arpc-go/arpc"
)

const (
	wait = 20 * time.Second
	tick = time.Millisecond
)

// connect serves h and returns a client of it.
func connect(tb testing.TB, h *arpc.Handler) *arpc.Client {
	tb.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(tb, err)
	s := arpc.NewServer(arpc.WithHandler(h))
	go s.Serve(ln)
	tb.Cleanup(s.Stop)

	c, err := arpc.NewClient(func() (net.Conn, error) { return net.Dial("tcp", ln.Addr().String()) },
		arpc.WithHandler(arpc.NewHandler()))
	require.NoError(tb, err)
	tb.Cleanup(c.Stop)
	return c
}

// receive waits for what comes on ch.
func receive[T any](t *testing.T, ch <-chan T) T {
	t.Helper()
	select {
	case v := <-ch:
		return v
	case <-time.After(wait):
		require.FailNow(t, "nothing comes")
		panic("not reached")
	}
}

// records is a slog.Handler that hands on what it gets.
type records struct {
	level slog.Level
	ch    chan slog.Record
}

func newRecords() records { return records{ch: make(chan slog.Record, 100)} }

func (r records) Enabled(_ context.Context, level slog.Level) bool { return level >= r.level }
func (r records) Handle(_ context.Context, rec slog.Record) error  { r.ch <- rec.Clone(); return nil }
func (r records) WithAttrs([]slog.Attr) slog.Handler               { return r }
func (r records) WithGroup(string) slog.Handler                    { return r }

// next waits for a record and returns it with its attributes.
func (r records) next(t *testing.T) (slog.Record, map[string]slog.Value) {
	t.Helper()
	rec := receive(t, r.ch)
	attrs := make(map[string]slog.Value)
	rec.Attrs(func(a slog.Attr) bool { attrs[a.Key] = a.Value; return true })
	return rec, attrs
}

func (r records) requireNone(t *testing.T) {
	t.Helper()
	select {
	case rec := <-r.ch:
		require.Fail(t, "something is logged", rec.Message)
	default:
	}
}

// useDefault makes l slog.Default for the time of the test.
func useDefault(t *testing.T, l *slog.Logger) {
	before, out, flags := slog.Default(), log.Writer(), log.Flags()
	slog.SetDefault(l)
	t.Cleanup(func() {
		slog.SetDefault(before)
		log.SetOutput(out)
		log.SetFlags(flags)
	})
}
