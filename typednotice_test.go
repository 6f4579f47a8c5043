package arpc_test

import (
	"context"
	"math"
	"testing"

	"github.com/arpc-go/arpc"
	"github.com/arpc-go/arpc/arpctest"
	"github.com/stretchr/testify/require"
)

func TestTypedNotifyFromBothEnds(t *testing.T) {
	got := make(chan string, 1)
	arpctest.Each(t, func(t *testing.T, p *arpctest.Pair) {
		require.Equal(t, "/told", typedTold.Name())
		for name, c := range typedEnds(p) {
			require.NoError(t, typedTold.Notify(t.Context(), c, &typedRequest{Name: name}))
			require.Equal(t, name, suiteNext(t, got))
			require.NoError(t, typedTold.Notify(t.Context(), c, nil))
			require.Empty(t, suiteNext(t, got))
			require.NoError(t, c.Notify("/told", nil, suitePatience))
			require.Empty(t, suiteNext(t, got))
		}
	}, typedBoth(func(h *arpc.Handler) {
		typedTold.Handle(h, func(_ context.Context, v *typedRequest) { got <- v.Name })
	}))
}

// A notification that is no T does not reach its handler, and somebody hears of it.
func TestTypedUndecodableNotice(t *testing.T) {
	arpctest.Each(t, func(t *testing.T, p *arpctest.Pair) {
		dropped := make(chan string, 1)
		p.Server.Handler.HandleMessageDropped(func(_ *arpc.Client, m *arpc.Message) { dropped <- string(m.Data()) })
		typedTold.Handle(p.Server.Handler, func(context.Context, *typedRequest) { t.Error("the handler ran") })
		require.NoError(t, p.Client.Notify("/told", "no JSON", suitePatience))
		require.Equal(t, "no JSON", suiteNext(t, dropped))
		suiteAlive(t, p)
	}, arpctest.Setup(suiteWithEcho))
}

// Who calls a notice hears that it was handled, or why not.
func TestTypedNoticeCalled(t *testing.T) {
	arpctest.Each(t, func(t *testing.T, p *arpctest.Pair) {
		reply := "untouched"
		require.NoError(t, p.Client.Call("/told", &typedRequest{Name: "x"}, &reply, suitePatience))
		require.Empty(t, reply)
		err := p.Client.Call("/told", "no JSON", nil, suitePatience)
		suiteRemote(t, err, "typedRequest")
	}, typedBoth(func(h *arpc.Handler) { typedTold.Handle(h, func(context.Context, *typedRequest) {}) }))
}

func TestTypedBroadcast(t *testing.T) {
	arpctest.Each(t, func(t *testing.T, p *arpctest.Pair) {
		got := make(chan string, 10)
		hear := func(c *arpc.Client, as string) {
			typedTold.Handle(c.Handler, func(_ context.Context, v *typedRequest) { got <- as + " " + v.Name })
		}
		other := p.Dial()
		hear(p.Client, "first")
		hear(other, "second")
		first := p.Peer()
		p.PeerOf(other)
		require.NoError(t, typedTold.Broadcast(p.Server, &typedRequest{Name: "all"}))
		require.ElementsMatch(t, []string{"first all", "second all"}, []string{suiteNext(t, got), suiteNext(t, got)})
		only := func(c *arpc.Client) bool { return c == first }
		require.NoError(t, typedTold.Broadcast(p.Server, nil, only))
		require.NoError(t, typedTold.Broadcast(p.Server, &typedRequest{Name: "end"}))
		require.ElementsMatch(t, []string{"first ", "first end", "second end"}, []string{suiteNext(t, got), suiteNext(t, got), suiteNext(t, got)})

		floats := arpc.NewNotice[float64]("/floats")
		require.Equal(t, arpc.CodeInternal, arpc.CodeOf(floats.Broadcast(p.Server, new(math.NaN()))))
	})
}
