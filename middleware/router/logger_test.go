package router_test

import (
	"bytes"
	"fmt"
	"log/slog"
	"maps"
	"math"
	"runtime"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/arpc-go/arpc"
	"github.com/arpc-go/arpc/middleware/router"
)

func TestLogger(t *testing.T) {
	for name, c := range map[string]struct {
		handler arpc.HandlerFunc
		notify  bool
		outcome string
	}{
		"answered":             {handler: answering, outcome: "answered"},
		"error":                {handler: func(ctx *arpc.Context) { ctx.Error("no") }, outcome: "error"},
		"an error written":     {handler: func(ctx *arpc.Context) { ctx.Write(arpc.ErrClosed) }, outcome: "error"},
		"unanswered":           {handler: func(*arpc.Context) {}, outcome: "unanswered"},
		"detached":             {handler: func(ctx *arpc.Context) { go ctx.Detach().Write("later") }, outcome: "answered"},
		"panicked":             {handler: boom, outcome: "panicked"},
		"Goexit":               {handler: func(*arpc.Context) { runtime.Goexit() }, outcome: "panicked"},
		"notification":         {handler: func(*arpc.Context) {}, notify: true, outcome: "handled"},
		"panic, notification":  {handler: boom, notify: true, outcome: "panicked"},
		"Goexit, notification": {handler: func(*arpc.Context) { runtime.Goexit() }, notify: true, outcome: "panicked"},
	} {
		t.Run(name, func(t *testing.T) {
			logs := newRecords()
			h := arpc.NewHandler()
			h.Use(router.Logger(router.WithLogger(slog.New(logs))))
			h.Handle("/m", c.handler)
			client := connect(t, h)

			kind := "request"
			if c.notify {
				kind = "notify"
				require.NoError(t, client.Notify("/m", "payload", wait))
			} else {
				client.Call("/m", "payload", nil, arpc.TimeForever) // no deadline travels along
			}
			rec, attrs := logs.next(t)
			require.Equal(t, slog.LevelInfo, rec.Level)
			require.Equal(t, kind, attrs["kind"].String())
			require.Equal(t, "/m", attrs["method"].String())
			require.Equal(t, client.Conn().LocalAddr().String(), attrs["peer"].String())
			require.Equal(t, int64(arpc.HeadLen+len("/m")+len("payload")), attrs["bytes"].Int64())
			require.Equal(t, slog.KindDuration, attrs["duration"].Kind())
			require.GreaterOrEqual(t, attrs["duration"].Duration(), time.Duration(0))
			require.Equal(t, c.outcome, attrs["outcome"].String())
			require.Len(t, attrs, 6)
			logs.requireNone(t)
		})
	}
}

func TestLoggerNeverLogsPayloads(t *testing.T) {
	var text bytes.Buffer
	done := make(chan struct{}, 2)
	h := arpc.NewHandler()
	h.Use(func(ctx *arpc.Context) { ctx.Next(); done <- struct{}{} })
	h.Use(router.Logger(router.WithLogger(slog.New(slog.NewJSONHandler(&text, nil)))))
	h.Handle("/m", func(ctx *arpc.Context) { ctx.Write(ctx.Body()) })
	h.Handle("/fails", func(ctx *arpc.Context) { ctx.Error(ctx.Body()) })
	client := connect(t, h)
	require.NoError(t, client.Call("/m", "the secret", nil, wait))
	require.Error(t, client.Call("/fails", "the secret", nil, wait))
	receive(t, done)
	receive(t, done)
	require.NotContains(t, text.String(), "secret")
	require.Contains(t, text.String(), `"method":"/fails"`)
}

func TestLoggerLevel(t *testing.T) {
	logs := newRecords()
	logs.level = slog.LevelInfo
	h, traces := traced()
	h.Use(router.Logger(router.WithLogger(slog.New(logs)), router.WithLevel(slog.LevelDebug)))
	h.Use(router.Logger(router.WithLogger(slog.New(logs)), router.WithLevel(slog.LevelWarn)))
	h.Handle("/m", answering)
	client := connect(t, h)
	require.NoError(t, client.Call("/m", nil, nil, wait))
	require.Equal(t, []string{"handler"}, receive(t, traces))
	rec, _ := logs.next(t)
	require.Equal(t, slog.LevelWarn, rec.Level)
	logs.requireNone(t)
}

// Of what went well and of what did not one in so many is logged, the first always.
func TestLoggerSampling(t *testing.T) {
	for name, c := range map[string]struct {
		well, badly int
		want        []string // 10 times each: answered, error, notification
	}{
		"all":         {1, 1, []string{"answered", "error", "handled"}},
		"all bad":     {0, 1, []string{"error"}},
		"all good":    {1, 0, []string{"answered", "handled"}},
		"nothing":     {0, 0, nil},
		"nonsense":    {-1, -5, nil},
		"some, less":  {5, 10, []string{"answered 5", "error 10", "handled 5"}},
		"hardly any":  {1000, 1, []string{"answered 1000", "error"}},
		"the extreme": {math.MaxInt, math.MaxInt, []string{fmt.Sprint("answered ", math.MaxInt), fmt.Sprint("error ", math.MaxInt)}},
	} {
		t.Run(name, func(t *testing.T) {
			logs := newRecords()
			done := make(chan struct{}, 100)
			h := arpc.NewHandler()
			h.Use(func(ctx *arpc.Context) { ctx.Next(); done <- struct{}{} })
			h.Use(router.Logger(router.WithLogger(slog.New(logs)), router.WithSampling(c.well, c.badly)))
			h.Handle("/m", answering)
			h.Handle("/fails", func(ctx *arpc.Context) { ctx.Error("no") })
			h.Handle("/n", func(*arpc.Context) {})
			client := connect(t, h)
			for range 10 {
				require.NoError(t, client.Call("/m", nil, nil, wait))
				require.Error(t, client.Call("/fails", nil, nil, wait))
				require.NoError(t, client.Notify("/n", nil, wait))
			}
			for range 30 {
				receive(t, done)
			}
			seen := make(map[string]bool)
			for len(logs.ch) > 0 {
				_, attrs := logs.next(t)
				outcome := attrs["outcome"].String()
				if sampled, ok := attrs["sampled"]; ok {
					outcome += " " + sampled.String()
				}
				seen[outcome] = true
			}
			require.ElementsMatch(t, c.want, slices.Collect(maps.Keys(seen)))
		})
	}
}

// So many are logged, and no more.
func TestLoggerSamplesOneInSoMany(t *testing.T) {
	logs := newRecords()
	done := make(chan struct{}, 100)
	h := arpc.NewHandler()
	h.Use(func(ctx *arpc.Context) { ctx.Next(); done <- struct{}{} })
	h.Use(router.Logger(router.WithLogger(slog.New(logs)), router.WithSampling(10, 4)))
	h.Handle("/m", answering)
	h.Handle("/boom", boom)
	client := connect(t, h)
	for range 21 {
		require.NoError(t, client.Call("/m", nil, nil, wait))
	}
	for range 9 {
		require.Error(t, client.Call("/boom", nil, nil, wait))
	}
	for range 21 {
		receive(t, done)
	}
	require.Eventually(t, func() bool { return len(logs.ch) == 6 }, wait, tick, "1, 11 and 21, and 1, 5 and 9")
}
