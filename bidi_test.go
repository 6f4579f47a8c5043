package arpc_test

import (
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/arpc-go/arpc"
	"github.com/stretchr/testify/require"
)

// A hundred callers on each end of one connection, requests of all sizes; every
// answer is that of its call.
func TestCallersOnBothEnds(t *testing.T) {
	const callers, calls = 100, 150
	echo := func(ctx *arpc.Context) {
		var s string
		if ctx.Bind(&s) == nil {
			ctx.Write(s)
		}
	}
	peers := make(chan *arpc.Client, 1)
	s, addr := serve(t)
	s.Handler.Handle("/echo", echo)
	s.Handler.HandleConnected(func(c *arpc.Client) { peers <- c })
	c := dial(t, addr)
	c.Handler.Handle("/echo", echo)
	var all sync.WaitGroup
	for who, end := range map[string]*arpc.Client{"client": c, "server": <-peers} {
		for i := range callers {
			all.Go(func() {
				for n := range calls {
					req := fmt.Sprintf("%s %d, call %d %s", who, i, n, strings.Repeat("x", n%97*n%300))
					var reply string
					err := end.Call("/echo", req, &reply, time.Minute)
					if err != nil || reply != req {
						t.Errorf("%.40s: got %.40s, %v", req, reply, err)
						return
					}
				}
			})
		}
	}
	all.Wait()
	require.False(t, t.Failed())
}
