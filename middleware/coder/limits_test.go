package coder_test

import (
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/arpc-go/arpc"
	"github.com/arpc-go/arpc/arpctest"
	"github.com/arpc-go/arpc/internal/markdown"
	"github.com/arpc-go/arpc/middleware/coder/aead"
	"github.com/arpc-go/arpc/middleware/coder/gzip"
	"github.com/arpc-go/arpc/middleware/coder/internal/codertest"
	"github.com/arpc-go/arpc/middleware/coder/msgpack"
	"github.com/arpc-go/arpc/middleware/coder/s2"
	"github.com/arpc-go/arpc/middleware/coder/zstd"
)

// limitBody is the default of WithMaxDecoded.
const limitBody = "as `WithMaxBodyLen`"

// limitDefaults are the limits of docs/LIMITS.md as the code has them.
func limitDefaults() map[string]string {
	return map[string]string{
		"zstd.WithMaxDecoded":   limitBody,
		"s2.WithMaxDecoded":     limitBody,
		"gzip.WithMaxDecoded":   limitBody,
		"aead.WithMaxAge":       aead.DefaultMaxAge.String(),
		"aead.WithMaxSessions":  fmt.Sprint(aead.DefaultMaxSessions),
		"msgpack.WithMaxValues": fmt.Sprint(msgpack.DefaultMaxValues),
	}
}

func TestLimitsTableSaysWhatTheCodeDoes(t *testing.T) {
	text, err := os.ReadFile("../../docs/LIMITS.md")
	require.NoError(t, err)
	section := markdown.Section(string(text), "## Coders")
	require.Contains(t, section, fmt.Sprintf("values nest %d deep in `msgpack` (`msgpack.MaxDepth`)", msgpack.MaxDepth))
	require.Contains(t, section, fmt.Sprintf("%d MiB\n(`zstd.MaxDictionary`)", zstd.MaxDictionary>>20))
	tables := markdown.Tables(section)
	require.Len(t, tables, 1)
	rows := make(map[string]string)
	for _, row := range tables[0].Rows {
		require.Len(t, row.Cells, 4, "line %d", row.Line)
		name := markdown.Code(row.Cells[0])[0]
		require.NotContains(t, rows, name)
		rows[name] = row.Cells[1]
	}
	require.Equal(t, limitDefaults(), rows)
}

// A message over the limit of its receiver is an error to its caller that names the
// setting, and the connection goes on.
func TestLimitsOfCoders(t *testing.T) {
	many := make(map[any]any)
	for i := range 20 {
		many[fmt.Sprint("key", i)] = i
	}
	for setting, c := range map[string]struct{ server, client arpc.MessageCoder }{
		"zstd.WithMaxDecoded":   {zstd.New(zstd.WithMaxDecoded(10_000)), zstd.New()},
		"s2.WithMaxDecoded":     {s2.New(s2.WithMaxDecoded(10_000)), s2.New()},
		"gzip.WithMaxDecoded":   {gzip.New(gzip.WithMaxDecoded(10_000)), gzip.New()},
		"msgpack.WithMaxValues": {msgpack.New(msgpack.WithMaxValues(30)), msgpack.New()},
	} {
		t.Run(setting, func(t *testing.T) {
			p := limited(t, c.server, c.client)
			ctx := arpc.ContextWithValues(t.Context(), many)
			err := p.Client.CallWith(ctx, "/echo", strings.Repeat("so many words ", 1000), nil)
			require.Equal(t, arpc.CodeDataLoss, arpc.CodeOf(err), err)
			require.True(t, arpc.IsRemote(err))
			require.ErrorContains(t, err, setting[strings.Index(setting, ".")+1:])
			require.NoError(t, p.Client.Call("/echo", "hello", nil, wait))
			require.EqualValues(t, 1, p.Server.Statistics().Dropped)
		})
	}
}

// Without a limit of their own coders have that of bodies.
func TestLimitsOfBodiesAreThoseOfCoders(t *testing.T) {
	for _, name := range []string{"gzip", "s2", "zstd"} {
		t.Run(name, func(t *testing.T) {
			coder := makers[name]()
			frame := codertest.Frame([]byte(strings.Repeat("so many words ", 1000)))
			coded := coder.Encode(nil, codertest.Message(frame)).Buffer
			checked := coder.(arpc.CheckedDecoder)
			_, err := checked.DecodeChecked(codertest.Client(len(frame)-arpc.HeadLen), codertest.Message(coded))
			require.NoError(t, err)
			_, err = checked.DecodeChecked(codertest.Client(len(frame)-arpc.HeadLen-1), codertest.Message(coded))
			require.Equal(t, arpc.CodeResourceExhausted, arpc.CodeOf(err))
			require.ErrorContains(t, err, "WithMaxBodyLen")
		})
	}
}

// limited returns a pair with a coder each.
func limited(t *testing.T, server, client arpc.MessageCoder) *arpctest.Pair {
	return arpctest.New(t, arpctest.Memory(), arpctest.Setup(func(s *arpc.Server, h *arpc.Handler) {
		s.Handler.UseCoder(server)
		h.UseCoder(client)
		s.Handler.Handle("/echo", func(ctx *arpc.Context) { ctx.Write(ctx.Body()) })
	}))
}
