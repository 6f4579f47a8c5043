package arpctest_test

import (
	"net"
	"runtime"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/arpc-go/arpc"
	"github.com/arpc-go/arpc/arpctest"
	"github.com/stretchr/testify/require"
)

func echo(ctx *arpc.Context) { ctx.Write(ctx.Body()) }

func withEcho(server *arpc.Server, client *arpc.Handler) {
	server.Handler.Handle("/echo", echo)
	client.Handle("/echo", echo)
}

func requireEcho(t *testing.T, c *arpc.Client) {
	t.Helper()
	var reply string
	require.NoError(t, c.Call("/echo", "hello", &reply, time.Minute))
	require.Equal(t, "hello", reply)
}

func TestPairIsConnectedBothWays(t *testing.T) {
	arpctest.Each(t, func(t *testing.T, p *arpctest.Pair) {
		requireEcho(t, p.Client)
		requireEcho(t, p.Peer())
	}, arpctest.Setup(withEcho))
}

func TestPeerOfTellsClientsApart(t *testing.T) {
	arpctest.Each(t, func(t *testing.T, p *arpctest.Pair) {
		clients := []*arpc.Client{p.Client, p.Dial(), p.Dial()}
		for i, c := range clients {
			p.PeerOf(c).Set("index", i)
		}
		require.Len(t, p.Server.Clients(), len(clients))
		for i, c := range clients {
			index, _ := p.PeerOf(c).Get("index")
			require.Equal(t, i, index)
		}
	})
}

func TestPeerAfterAReconnect(t *testing.T) {
	connected := make(chan error)
	arpctest.Each(t, func(t *testing.T, p *arpctest.Pair) {
		first := p.Peer()
		first.Stop()
		require.NoError(t, <-connected)
		require.NotSame(t, first, p.Peer())
		requireEcho(t, p.Peer())
	}, arpctest.Setup(withEcho), arpctest.Setup(func(_ *arpc.Server, client *arpc.Handler) {
		client.HandleReconnect(func(_ *arpc.Client, _ int, err error) { connected <- err })
	}))
}

func TestDialChangesACloneOfTheHandler(t *testing.T) {
	p := arpctest.New(t, arpctest.Memory(), arpctest.Setup(withEcho))
	small := p.Dial(arpc.WithMaxBodyLen(8))
	require.Equal(t, arpc.CodeResourceExhausted, arpc.CodeOf(small.Call("/echo", "hello", nil, time.Minute)))
	requireEcho(t, p.Client)
	requireEcho(t, p.PeerOf(p.Dial()))
}

func TestOptionsReachBothEnds(t *testing.T) {
	own := arpc.NewHandler()
	p := arpctest.New(t, arpctest.Memory(),
		arpctest.ServerOptions(arpc.WithMaxConns(1)),
		arpctest.ClientOptions(arpc.WithHandler(own)),
		arpctest.Setup(func(_ *arpc.Server, client *arpc.Handler) { require.Same(t, own, client) }),
	)
	require.Same(t, own, p.Client.Handler)
	nc, err := p.Dialer()()
	require.NoError(t, err)
	defer nc.Close()
	_, err = nc.Read(make([]byte, 1))
	require.Error(t, err, "one connection is the limit")
}

func TestOver(t *testing.T) {
	var names []string
	note := func(_ *testing.T, p *arpctest.Pair) { names = append(names, p.Name) }
	arpctest.Each(t, note, arpctest.Over(arpctest.TCP(), arpctest.Memory()))
	require.Equal(t, []string{"tcp", "memory"}, names)
	require.Equal(t, "tls", arpctest.TLS().String())
}

func TestWorlds(t *testing.T) {
	var names []string
	for _, world := range arpctest.Worlds() {
		names = append(names, world.Name)
	}
	require.Equal(t, runtime.GOOS != "windows", slices.Contains(names, "unix"))
	require.Subset(t, names, []string{"memory", "tcp", "tls"})
}

func TestEachRunsAgainstOldEnds(t *testing.T) {
	versions := make(map[string]int)
	arpctest.Each(t, func(t *testing.T, p *arpctest.Pair) {
		versions[p.Name] = p.Version
		require.Equal(t, p.Version, p.Dial().Peer().Version)
		requireEcho(t, p.Client) // a peer that has been heard of has been told of
		require.Equal(t, p.Version, p.Peer().Peer().Version)
	}, arpctest.Setup(withEcho))
	want := map[string]int{"memory-v1-client": 1, "memory-v1-server": 1}
	for _, world := range arpctest.Worlds() {
		want[world.Name] = 2
	}
	require.Equal(t, want, versions)
}

func TestOldEndsOfAnyWorld(t *testing.T) {
	var names []string
	note := func(t *testing.T, p *arpctest.Pair) {
		names = append(names, p.Name)
		require.Equal(t, 1, p.Version)
		requireEcho(t, p.Client)
	}
	arpctest.Each(t, note, arpctest.Setup(withEcho),
		arpctest.Over(arpctest.OldClient(arpctest.TCP()), arpctest.OldServer(arpctest.OldClient(arpctest.Memory()))))
	require.Equal(t, []string{"tcp-v1-client", "memory-v1-client-v1-server"}, names)
}

func TestTheTestMayStopBothEnds(t *testing.T) {
	arpctest.Each(t, func(t *testing.T, p *arpctest.Pair) {
		p.Server.Stop()
		p.Client.Stop()
	})
}

func TestMemoryInsideABubble(t *testing.T) {
	for range 2 { // nothing made in the first may be used in the second
		synctest.Test(t, func(t *testing.T) {
			p := arpctest.New(t, arpctest.Memory(), arpctest.Setup(withEcho))
			start := time.Now()
			arpctest.FaultsOf(p.Client.Conn()).Delay(time.Second)
			requireEcho(t, p.Client)
			require.Equal(t, time.Second, time.Since(start))
		})
	}
	requireEcho(t, arpctest.New(t, arpctest.Memory(), arpctest.Setup(withEcho)).Client)
}

// A world of the user's own.
func TestWorldOfTheUsers(t *testing.T) {
	dialled := 0
	counted := arpctest.World{Name: "counted", Listen: func(t testing.TB) (net.Listener, arpc.DialerFunc) {
		ln, dial := arpctest.TCP().Listen(t)
		return ln, func() (net.Conn, error) {
			dialled++
			return dial()
		}
	}}
	requireEcho(t, arpctest.New(t, counted, arpctest.Setup(withEcho)).Client)
	require.Equal(t, 1, dialled)
}
