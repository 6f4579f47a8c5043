package arpc_test

import (
	"strconv"
	"sync/atomic"
	"testing"

	"github.com/arpc-go/arpc"
	"github.com/arpc-go/arpc/arpctest"
	"github.com/stretchr/testify/require"
)

// encoding runs a function each time it is encoded.
type encoding func() string

func (e encoding) MarshalJSON() ([]byte, error) { return []byte(`"` + e() + `"`), nil }

// What a value encodes to may differ from time to time, as with what reads a stream.
func TestACallThatMovesOnIsEncodedOnce(t *testing.T) {
	arpctest.Each(t, func(t *testing.T, p *arpctest.Pair) {
		entered, leave := make(chan struct{}, 1), make(chan struct{})
		p.Server.Handler.Handle("/stay", func(ctx *arpc.Context) {
			entered <- struct{}{}
			<-leave
			ctx.Write(nil)
		})
		p.Server.Handler.Handle("/echo", func(ctx *arpc.Context) { ctx.Write(ctx.Body()) })
		staying := make(chan error, 1)
		go func() { staying <- p.Client.Call("/stay", nil, nil, suitePatience) }()
		suiteNext(t, entered)
		var times atomic.Int32
		encoded := make(chan struct{}, 10)
		req := encoding(func() string {
			encoded <- struct{}{}
			return strconv.Itoa(int(times.Add(1)))
		})
		var rsp string
		called := make(chan error, 1)
		go func() { called <- p.Client.Call("/echo", req, &rsp, suitePatience) }()
		suiteNext(t, encoded)
		p.Client.Conn().Close() // the call waits for its turn, or is about to
		close(leave)
		require.Error(t, suiteNext(t, staying))
		err := suiteNext(t, called)
		require.EqualValues(t, 1, times.Load())
		if err != nil && p.Client.Peer().Version == 1 { // not told of the limit: it may have left
			require.False(t, arpc.SafeToRetry(err))
			return
		}
		require.NoError(t, err)
		require.Equal(t, `"1"`, rsp)
	}, arpctest.ServerOptions(arpc.WithMaxInflight(1)), arpctest.ClientOptions(arpc.WithWaitForReady(true)))
}

// The connection may be another one by the time that a value is encoded.
func TestACallGoesWhereTheClientIsWhenItIsEncoded(t *testing.T) {
	arpctest.Each(t, func(t *testing.T, p *arpctest.Pair) {
		p.Server.Handler.Handle("/echo", func(ctx *arpc.Context) { ctx.Write(ctx.Body()) })
		back := make(chan error, 100)
		p.Client.Handler.HandleReconnect(func(_ *arpc.Client, _ int, err error) { back <- err })
		var rsp string
		require.NoError(t, p.Client.Call("/echo", encoding(func() string {
			p.Client.Conn().Close()
			for suiteNext(t, back) != nil {
			}
			return "moved"
		}), &rsp, suitePatience))
		require.Equal(t, `"moved"`, rsp)
	})
}
