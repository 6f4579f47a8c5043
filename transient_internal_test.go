package arpc

import (
	"net"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/arpc-go/arpc/internal/transient"
)

// Only handlers that promise to keep nothing have their Contexts reused, and only if
// nobody else stands around them.
func TestContextsAreReusedWhereNothingIsKept(t *testing.T) {
	for name, c := range map[string]struct {
		prepare func(h *Handler)
		reused  bool
	}{
		"kept":    {func(*Handler) {}, false},
		"marked":  {func(h *Handler) { transient.Mark(h, "/note") }, true},
		"guarded": {func(h *Handler) { transient.Mark(h, "/note"); h.Use(func(*Context) {}) }, false},
	} {
		t.Run(name, func(t *testing.T) {
			contexts := map[*Context]bool{}
			h := NewHandler()
			h.Handle("/note", func(ctx *Context) { contexts[ctx] = true })
			h.Handle("/done", func(ctx *Context) { ctx.Write(nil) }, false)
			c.prepare(h)
			const n = 10 * slabSize
			notifyOften(t, h, n)
			if c.reused {
				require.Less(t, len(contexts), n/2, "one for each time that the reader found work")
			} else {
				require.Len(t, contexts, n)
			}
		})
	}
}

func notifyOften(t *testing.T, h *Handler, n int) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	s := NewServer(WithHandler(h))
	go s.Serve(ln)
	defer s.Stop()
	c, err := NewClient(func() (net.Conn, error) { return net.Dial("tcp", ln.Addr().String()) })
	require.NoError(t, err)
	defer c.Stop()
	for range n {
		require.NoError(t, c.Notify("/note", "x", time.Minute))
	}
	require.NoError(t, c.Call("/done", nil, nil, time.Minute))
}
