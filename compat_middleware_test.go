package arpc_test

import (
	"bytes"
	"io"
	"log"
	"log/slog"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/arpc-go/arpc"
	"github.com/arpc-go/arpc/middleware/coder/gzip"
	"github.com/arpc-go/arpc/middleware/router"
	"github.com/stretchr/testify/require"
)

// compatLog is what the default logger writes.
type compatLog struct {
	mu    sync.Mutex
	lines bytes.Buffer
}

func (l *compatLog) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.lines.Write(p)
}

func (l *compatLog) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.lines.String()
}

// compatLogged has the default logger write where the test can read.
func compatLogged(t *testing.T) *compatLog {
	logger, writer, flags := slog.Default(), log.Writer(), log.Flags()
	t.Cleanup(func() {
		slog.SetDefault(logger)
		log.SetOutput(writer)
		log.SetFlags(flags)
	})
	lines := &compatLog{}
	slog.SetDefault(slog.New(slog.NewTextHandler(lines, nil)))
	return lines
}

func TestCompatRouterMiddleware(t *testing.T) {
	lines := compatLogged(t)
	compatOnEach(t, func(t *testing.T, setUp func(func(*arpc.Handler)) *arpc.Client) {
		own := make(chan string, 10)
		caller := setUp(func(handler *arpc.Handler) {
			handler.Use(router.Recover())
			handler.Use(router.Logger())
			handler.Use(func(ctx *arpc.Context) { own <- "before" })
			handler.Handle("/words", compatEcho)
			handler.Handle("/breaks", func(ctx *arpc.Context) { panic("the jar") })
			handler.Use(func(ctx *arpc.Context) { own <- "behind" })
		})
		rsp := ""
		require.NoError(t, caller.Call("/words", "logged", &rsp, compatWait))
		require.Equal(t, "logged", rsp)
		require.Equal(t, "before", compatTake(t, own))
		require.Equal(t, "behind", compatTake(t, own))
		require.ErrorContains(t, caller.Call("/breaks", nil, nil, compatWait), "internal error")
		require.NoError(t, caller.Call("/words", "goes on", &rsp, compatWait))
	})
	// Lines are written when the handler is through, the last maybe after its
	// answer has come.
	require.GreaterOrEqual(t, strings.Count(lines.String(), "method=/words"), 3)
	require.GreaterOrEqual(t, strings.Count(lines.String(), `panic="the jar"`), 3)
}

func TestCompatGzip(t *testing.T) {
	for name, connect := range map[string]func(t *testing.T) compatPair{
		"package": func(t *testing.T) compatPair {
			arpc.DefaultHandler.UseCoder(gzip.New())
			return compatConnect(t)
		},
		"server and client": func(t *testing.T) compatPair {
			pair := compatConnect(t)
			pair.server.Handler.UseCoder(gzip.New())
			pair.client.Handler.UseCoder(gzip.New())
			return pair
		},
	} {
		t.Run(name, func(t *testing.T) {
			compatDefaults(t)
			var read atomic.Int64
			arpc.DefaultHandler.SetReaderWrapper(func(conn net.Conn) io.Reader {
				return io.TeeReader(conn, compatCounter{&read})
			})
			arpc.DefaultHandler.Handle("/words", compatEcho)
			pair := connect(t)
			text := strings.Repeat("a long story ", 1000)
			for _, caller := range []*arpc.Client{pair.client, pair.accepted} {
				rsp := ""
				require.NoError(t, caller.Call("/words", text, &rsp, compatWait))
				require.Equal(t, text, rsp)
			}
			require.Less(t, read.Load(), int64(len(text)), "for four messages")
		})
	}
}
