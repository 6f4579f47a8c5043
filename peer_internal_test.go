package arpc

import (
	"testing"

	"github.com/arpc-go/arpc/internal/wire"
	"github.com/stretchr/testify/require"
)

// What peers say alike is kept once, and nobody gets what another one said.
func TestPeersThatSayTheSameShareTheRecord(t *testing.T) {
	ln, dial := engListeners["memory"](t)
	s := NewServer(WithHandler(NewHandler()))
	go s.Serve(ln)
	t.Cleanup(s.Stop)
	byName := map[string]*wire.Hello{}
	sessions := map[string]bool{}
	for _, name := range []string{"a", "a", "b", "a", "b", "b"} {
		near, err := NewClient(dial, WithHandler(NewHandler(WithReconnect(0, 0, 0))), WithPeerName(name))
		require.NoError(t, err)
		far := s.Clients()[0]
		require.Equal(t, name, far.Peer().Name)
		require.Equal(t, near.Session(), far.Session())
		sessions[far.Session()] = true
		byName[name] = far.conn.Load().hello.Load()
		near.Stop()
		<-far.Done()
	}
	require.Len(t, sessions, 6)
	require.NotSame(t, byName["a"], byName["b"])
	require.Same(t, byName["b"], s.Handler.hellos.last.Load())
}
