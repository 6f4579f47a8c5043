package router_test

import (
	"errors"
	"log/slog"
	"regexp"
	"runtime"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/arpc-go/arpc"
	"github.com/arpc-go/arpc/middleware/router"
)

var panicText = regexp.MustCompile(`^internal error, id ([A-Z2-7]{10})$`)

func boom(*arpc.Context) { panic("the secret") }

func TestRecover(t *testing.T) {
	logs := newRecords()
	h := arpc.NewHandler()
	h.Use(router.Recover(router.WithLogger(slog.New(logs))))
	h.Handle("/boom", boom)
	h.Handle("/fine", answering)
	client := connect(t, h)

	ids := make(map[string]bool)
	for range 3 {
		err := client.Call("/boom", "payload", nil, wait)
		require.True(t, arpc.IsRemote(err))
		require.Regexp(t, panicText, err.Error())
		id := panicText.FindStringSubmatch(err.Error())[1]
		ids[id] = true

		rec, attrs := logs.next(t)
		require.Equal(t, slog.LevelError, rec.Level)
		require.Equal(t, id, attrs["id"].String())
		require.Equal(t, "the secret", attrs["panic"].String())
		require.Contains(t, attrs["stack"].String(), "router_test.boom")
		require.Equal(t, "/boom", attrs["method"].String())
		require.Equal(t, "request", attrs["kind"].String())
		require.Equal(t, client.Conn().LocalAddr().String(), attrs["peer"].String())
		require.NotContains(t, attrs, "payload")
	}
	require.Len(t, ids, 3)
	require.NoError(t, client.Call("/fine", nil, nil, wait))
	logs.requireNone(t)
}

func TestRecoverKinds(t *testing.T) {
	for name, c := range map[string]struct {
		handler arpc.HandlerFunc
		logged  string // the panic; empty: nothing is logged
		says    string // of the error
	}{
		"an error":          {func(*arpc.Context) { panic(errors.New("the cause")) }, "the cause", "internal error, id "},
		"nil":               {func(*arpc.Context) { panic(nil) }, "panic called with nil", "internal error, id "},
		"of the runtime":    {func(ctx *arpc.Context) { _ = ctx.Body()[5] }, "index out of range", "internal error, id "},
		"after the answer":  {func(ctx *arpc.Context) { ctx.Write("done"); panic("late") }, "late", ""},
		"after an error":    {func(ctx *arpc.Context) { ctx.Error("own"); panic("late") }, "late", "own"},
		"behind the route":  {func(ctx *arpc.Context) { ctx.Set("behind", true) }, "behind", "internal error, id "},
		"no panic":          {answering, "", ""},
		"Goexit":            {func(*arpc.Context) { runtime.Goexit() }, "", "without an answer"},
		"Goexit, unwinding": {func(*arpc.Context) { defer func() { _ = recover() }(); runtime.Goexit() }, "", "without an answer"},
	} {
		t.Run(name, func(t *testing.T) {
			logs := newRecords()
			h := arpc.NewHandler()
			h.Use(router.Recover(router.WithLogger(slog.New(logs)), router.WithLevel(slog.LevelWarn)))
			h.Handle("/m", c.handler)
			h.Use(func(ctx *arpc.Context) {
				if _, ok := ctx.Get("behind"); ok {
					panic("behind")
				}
			})
			client := connect(t, h)
			err := client.Call("/m", nil, nil, wait)
			if c.says == "" {
				require.NoError(t, err)
			} else {
				require.ErrorContains(t, err, c.says)
			}
			if c.logged == "" {
				logs.requireNone(t)
				return
			}
			rec, attrs := logs.next(t)
			require.Equal(t, slog.LevelWarn, rec.Level)
			require.Contains(t, attrs["panic"].String(), c.logged)
		})
	}
}

// The panic ends at Recover: what is around it goes on, what is behind the
// panic does not.
func TestRecoverInTheChain(t *testing.T) {
	h, traces := traced()
	h.Use(around("outer"))
	h.Use(router.Recover(router.WithLogger(slog.New(newRecords()))))
	h.Use(around("inner"))
	h.Handle("/boom", boom)
	h.Use(noting("behind"))
	client := connect(t, h)
	require.Error(t, client.Call("/boom", nil, nil, wait))
	require.Equal(t, []string{"outer in", "inner in", "outer out"}, receive(t, traces))
}

func TestRecoverNotification(t *testing.T) {
	logs := newRecords()
	h := arpc.NewHandler()
	h.Use(router.Recover(router.WithLogger(slog.New(logs))))
	h.Handle("/boom", boom)
	client := connect(t, h)
	require.NoError(t, client.Notify("/boom", nil, wait))
	_, attrs := logs.next(t)
	require.Equal(t, "notify", attrs["kind"].String())
}

// Without options the log is the one that is the default at that time.
func TestDefaultLogger(t *testing.T) {
	h := arpc.NewHandler()
	h.Use(router.Logger())
	h.Use(router.Recover())
	h.Handle("/boom", boom)
	client := connect(t, h)

	logs := newRecords()
	useDefault(t, slog.New(logs))
	require.Error(t, client.Call("/boom", nil, nil, wait))
	rec, _ := logs.next(t)
	require.Equal(t, slog.LevelError, rec.Level)
	rec, attrs := logs.next(t)
	require.Equal(t, slog.LevelInfo, rec.Level)
	require.Equal(t, "error", attrs["outcome"].String())
}
