package arpc_test

import (
	"io"
	"testing"
	"time"

	"github.com/arpc-go/arpc"
	"github.com/arpc-go/arpc/arpctest"
	"github.com/stretchr/testify/require"
)

// suitePatience is how long the suite waits for what must happen. It is long
// for a busy machine, and no test waits that long unless it fails.
const suitePatience = 30 * time.Second

// suiteTick is how often the suite looks at what it cannot be told.
const suiteTick = 2 * time.Millisecond

// suiteWorlds runs body over every world that Each does, for tests that connect by
// themselves.
func suiteWorlds(t *testing.T, body func(t *testing.T, world arpctest.World)) {
	t.Helper()
	old := []arpctest.World{arpctest.OldClient(arpctest.Memory()), arpctest.OldServer(arpctest.Memory())}
	for _, world := range append(arpctest.Worlds(), old...) {
		t.Run(world.Name, func(t *testing.T) { body(t, world) })
	}
}

// suiteEcho answers with the body.
func suiteEcho(ctx *arpc.Context) { ctx.Write(ctx.Body()) }

// suiteWithEcho registers suiteEcho at both ends, for suiteAlive.
func suiteWithEcho(server *arpc.Server, client *arpc.Handler) {
	server.Handler.Handle("/echo", suiteEcho)
	client.Handle("/echo", suiteEcho)
}

// suiteAlive requires that both ends of the pair answer, each over the
// connection of p.Client.
func suiteAlive(t testing.TB, p *arpctest.Pair) {
	t.Helper()
	suiteRequireEcho(t, p.Client)
	suiteRequireEcho(t, p.Peer())
}

func suiteRequireEcho(t testing.TB, c *arpc.Client) {
	t.Helper()
	var reply string
	require.NoError(t, c.Call("/echo", "are you there", &reply, suitePatience))
	require.Equal(t, "are you there", reply)
}

// suiteNext returns what comes out of the channel next, the zero value when it
// is closed.
func suiteNext[T any](t testing.TB, ch <-chan T) T {
	t.Helper()
	timer := time.NewTimer(suitePatience)
	defer timer.Stop()
	select {
	case v := <-ch:
		return v
	case <-timer.C:
		require.FailNow(t, "nothing came")
		panic("unreachable")
	}
}

// suiteReturns requires that f returns.
func suiteReturns(t testing.TB, f func()) {
	t.Helper()
	returned := make(chan struct{})
	go func() {
		defer close(returned)
		f()
	}()
	suiteNext(t, returned)
}

// suiteRemote requires an error that the peer said.
func suiteRemote(t testing.TB, err error, text string) {
	t.Helper()
	require.Error(t, err)
	require.Contains(t, err.Error(), text)
	require.True(t, arpc.IsRemote(err))
	require.False(t, arpc.SafeToRetry(err))
}

// suiteReset requires the error of a stream that the peer ended before its time:
// what it said, or in version 1, which cannot say anything, an end.
func suiteReset(t testing.TB, p *arpctest.Pair, err error, code arpc.Code) {
	t.Helper()
	if p.Version == 1 {
		require.ErrorIs(t, err, io.EOF)
		return
	}
	require.Error(t, err)
	require.Equal(t, code, arpc.CodeOf(err), "%v", err)
	require.True(t, arpc.IsRemote(err))
}

// suiteUnsent requires an error of a message of which nothing was sent.
func suiteUnsent(t testing.TB, err error, code arpc.Code) {
	t.Helper()
	require.Error(t, err)
	require.Equal(t, code, arpc.CodeOf(err))
	require.False(t, arpc.IsRemote(err))
	require.True(t, arpc.SafeToRetry(err))
}
