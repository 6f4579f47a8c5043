package arpc_test

import (
	"context"
	"testing"

	"github.com/arpc-go/arpc"
	"github.com/arpc-go/arpc/arpctest"
	"github.com/stretchr/testify/require"
)

// What travels beside the payload reaches a peer of version 2, whoever calls, and
// none of version 1, to which everything else is the same.

// suiteBothEnds runs body for calls of either end, with routes at the other.
func suiteBothEnds(t *testing.T, routes func(h *arpc.Handler), body func(t *testing.T, p *arpctest.Pair, caller *arpc.Client)) {
	t.Helper()
	arpctest.Each(t, func(t *testing.T, p *arpctest.Pair) {
		for _, caller := range []*arpc.Client{p.Client, p.Peer()} {
			body(t, p, caller)
		}
		suiteAlive(t, p)
	}, arpctest.Setup(suiteWithEcho), arpctest.Setup(func(server *arpc.Server, client *arpc.Handler) {
		routes(server.Handler)
		routes(client)
	}))
}

func TestSuiteCodesReachTheCaller(t *testing.T) {
	suiteBothEnds(t, func(h *arpc.Handler) {
		h.Handle("/find", func(ctx *arpc.Context) { ctx.Error(arpc.NewError(arpc.CodeNotFound, "no such user")) })
	}, func(t *testing.T, p *arpctest.Pair, caller *arpc.Client) {
		for _, err := range []error{
			caller.Call("/find", nil, nil, suitePatience),
			suiteNext(t, suiteAsync(t, caller, "/find", nil)).err,
		} {
			suiteRemote(t, err, "no such user")
			require.Equal(t, suiteTold(p, arpc.CodeNotFound), arpc.CodeOf(err))
		}
	})
}

// suiteTold is the code of an error as a peer gets it.
func suiteTold(p *arpctest.Pair, code arpc.Code) arpc.Code {
	if p.Version == 1 {
		return arpc.CodeUnknown
	}
	return code
}

func TestSuiteDeadlinesReachTheHandler(t *testing.T) {
	suiteBothEnds(t, func(h *arpc.Handler) {
		h.Handle("/deadline", func(ctx *arpc.Context) {
			_, ok := ctx.Deadline()
			ctx.Write(ok)
		})
	}, func(t *testing.T, p *arpctest.Pair, caller *arpc.Client) {
		var known bool
		require.NoError(t, caller.Call("/deadline", nil, &known, suitePatience))
		require.Equal(t, p.Version > 1, known)
		require.NoError(t, caller.Call("/deadline", nil, &known, arpc.TimeForever))
		require.False(t, known)
	})
}

func TestSuiteMetadataReachesTheOtherEnd(t *testing.T) {
	suiteBothEnds(t, func(h *arpc.Handler) {
		h.Handle("/meta", func(ctx *arpc.Context) {
			ctx.SetMetadata("answered-by", "a test")
			ctx.Write(ctx.Metadata()["user"])
		})
	}, func(t *testing.T, p *arpctest.Pair, caller *arpc.Client) {
		var user string
		var md arpc.Metadata
		ctx := arpc.ContextWithMetadata(t.Context(), arpc.Metadata{"user": "alice"})
		require.NoError(t, caller.CallWith(arpc.ContextWithResponseMetadata(ctx, &md), "/meta", nil, &user))
		if p.Version == 1 {
			require.Empty(t, user)
			require.Empty(t, md)
			return
		}
		require.Equal(t, "alice", user)
		require.Equal(t, arpc.Metadata{"answered-by": "a test"}, md)
	})
}

// A handler whose caller has given up hears of it, or works on for nobody.
func TestSuiteCancelReachesTheHandler(t *testing.T) {
	began, ended, release := make(chan struct{}), make(chan bool), make(chan struct{}, 1)
	suiteBothEnds(t, func(h *arpc.Handler) {
		h.Handle("/wait", func(ctx *arpc.Context) {
			began <- struct{}{}
			select {
			case <-ctx.Done():
				ended <- true
			case <-release:
				ended <- false
			}
		})
	}, func(t *testing.T, p *arpctest.Pair, caller *arpc.Client) {
		ctx, cancel := context.WithCancel(t.Context())
		called := make(chan error, 1)
		go func() { called <- caller.CallWith(ctx, "/wait", nil, nil) }()
		suiteNext(t, began)
		cancel()
		require.ErrorIs(t, suiteNext(t, called), context.Canceled)
		if p.Version == 1 {
			release <- struct{}{}
		}
		require.Equal(t, p.Version > 1, suiteNext(t, ended))
	})
}

// A stream that is ended before its time says why, or at least that it has ended.
func TestSuiteStreamFailReachesTheOtherEnd(t *testing.T) {
	ended := make(chan error)
	suiteBothEnds(t, func(h *arpc.Handler) {
		h.HandleStream("/fail", func(s *arpc.Stream) {
			s.Recv(nil)
			s.Fail(arpc.NewError(arpc.CodeAborted, "had enough"))
		})
		h.HandleStream("/wait", func(s *arpc.Stream) {
			s.Recv(nil)
			ended <- s.Recv(nil)
		})
	}, func(t *testing.T, p *arpctest.Pair, caller *arpc.Client) {
		s := suiteOpen(t, caller, "/fail")
		require.NoError(t, s.Send("x"))
		suiteReset(t, p, s.Recv(nil), arpc.CodeAborted)
		s = suiteOpen(t, caller, "/wait")
		require.NoError(t, s.Send("x"))
		s.Fail(arpc.NewError(arpc.CodeAborted, "had enough"))
		suiteReset(t, p, suiteNext(t, ended), arpc.CodeAborted)
	})
}

func TestSuitePeersKnowEachOther(t *testing.T) {
	arpctest.Each(t, func(t *testing.T, p *arpctest.Pair) {
		suiteAlive(t, p)
		server, client := p.Client.Peer(), p.Peer().Peer()
		require.Equal(t, p.Version, server.Version)
		require.Equal(t, p.Version, client.Version)
		if p.Version == 1 {
			require.Equal(t, arpc.PeerInfo{Version: 1}, server)
			require.Equal(t, arpc.PeerInfo{Version: 1}, client)
			require.Empty(t, p.Peer().Session())
			return
		}
		require.Equal(t, "the server", server.Name)
		require.Equal(t, 123, server.MaxInflight)
		require.Equal(t, "the client", client.Name)
		require.Equal(t, 456, client.MaxStreams)
		require.NotEmpty(t, p.Client.Session())
		require.Equal(t, p.Client.Session(), p.Peer().Session())
	}, arpctest.Setup(suiteWithEcho),
		arpctest.ServerOptions(arpc.WithPeerName("the server"), arpc.WithMaxInflight(123)),
		arpctest.ClientOptions(arpc.WithPeerName("the client"), arpc.WithMaxStreams(456)))
}
