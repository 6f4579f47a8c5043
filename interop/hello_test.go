package interop

import (
	"context"
	"errors"
	"testing"

	"github.com/arpc-go/arpc"
	"github.com/stretchr/testify/require"
)

// What only version 2 of the wire has is kept from old peers, which would close
// the connection: they are found out by the hello.
func TestOldPeersAreSpared(t *testing.T) {
	for name, use := range map[string]func(t *testing.T, caller ourEnd, release chan<- struct{}){
		"metadata and deadline": func(t *testing.T, caller ourEnd, _ chan<- struct{}) {
			ctx, cancel := context.WithTimeout(arpc.ContextWithMetadata(t.Context(), arpc.Metadata{"user": "alice"}), patience)
			defer cancel()
			var reply string
			require.NoError(t, caller.CallWith(ctx, "/string", "hello", &reply))
			require.Equal(t, "hello", reply)
		},
		"a cancelled call": func(t *testing.T, caller ourEnd, release chan<- struct{}) {
			ctx, cancel := context.WithCancel(t.Context())
			called := make(chan error, 1)
			go func() { called <- caller.CallWith(ctx, "/wait", nil, nil) }()
			release <- struct{}{}
			cancel()
			require.ErrorIs(t, receive(t, called), context.Canceled)
			release <- struct{}{}
		},
		"a cancelled stream": func(t *testing.T, caller ourEnd, _ chan<- struct{}) {
			ctx, cancel := context.WithCancel(t.Context())
			st, err := caller.OpenStream(ctx, "/stream")
			require.NoError(t, err)
			requireStreamEcho(t, ourStream{st})
			cancel()
			require.ErrorIs(t, st.Recv(nil), context.Canceled)
		},
		"a failed stream": func(t *testing.T, caller ourEnd, _ chan<- struct{}) {
			st, err := caller.OpenStream(t.Context(), "/stream")
			require.NoError(t, err)
			requireStreamEcho(t, ourStream{st})
			st.Fail(errors.New("had enough"))
		},
		"more than a window": func(t *testing.T, caller ourEnd, _ chan<- struct{}) {
			st, err := caller.OpenStream(t.Context(), "/stream")
			require.NoError(t, err)
			for range 100 {
				requireStreamEcho(t, ourStream{st})
			}
			require.NoError(t, st.Close())
		},
		"a ping": func(t *testing.T, caller ourEnd, _ chan<- struct{}) {
			_, err := caller.Ping(t.Context())
			require.NoError(t, err)
		},
	} {
		t.Run(name, func(t *testing.T) {
			turns := make(chan struct{})
			routes := func(r routes) {
				echoRoutes(r)
				r.handle("/wait", func(r request, _ end) {
					<-turns
					<-turns
					r.Write("too late")
				})
				r.handleStream("/stream", echoStream)
			}
			ours := []arpc.Option{arpc.WithStreamWindow(1 << 10), arpc.WithPeerName("new")}
			ourCalls(t, setup{routes: routes, ours: ours}, func(t *testing.T, caller ourEnd) {
				require.Equal(t, arpc.PeerInfo{Version: 1}, caller.Peer())
				conn := caller.Conn()
				use(t, caller, turns)
				requireReply(t, caller, "/string", "still there", "still there")
				require.Same(t, conn, caller.Conn())
			})
		})
	}
}

func requireStreamEcho(t *testing.T, st stream) {
	t.Helper()
	require.NoError(t, st.send("twenty bytes of text"))
	requireRecv(t, st, "re:twenty bytes of text")
}
