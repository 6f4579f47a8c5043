package arpc_test

import (
	"context"
	"fmt"
	"math"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/arpc-go/arpc"
	"github.com/arpc-go/arpc/arpctest"
	"github.com/arpc-go/arpc/internal/memconn"
	"github.com/arpc-go/arpc/internal/wire"
)

// v2LocalLimit requires an error of this side that names the limit of the peer.
func v2LocalLimit(t *testing.T, err error, texts ...string) {
	t.Helper()
	suiteUnsent(t, err, arpc.CodeResourceExhausted)
	for _, text := range texts {
		require.ErrorContains(t, err, text)
	}
}

func TestV2MessagesOverThePeersBodyLimitAreNotSent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, p, _ := v2Connect(t, wire.Hello{MaxBody: 100}, suiteNoKeepalive)
		fits, tooLong := strings.Repeat("x", 98), strings.Repeat("x", 99) // the method has 2
		for what, send := range map[string]func(body string) error{
			"call":    func(body string) error { return c.Call("/m", body, nil, time.Second) },
			"async":   func(body string) error { return c.CallAsync("/m", body, func(*arpc.Context) {}, time.Second) },
			"notify":  func(body string) error { return c.Notify("/m", body, arpc.TimeZero) },
			"pushmsg": func(body string) error { return c.PushMsg(c.NewMessage(arpc.CmdNotify, "/m", body), arpc.TimeZero) },
		} {
			v2LocalLimit(t, send(tooLong), "101 bytes", "the peer's limit of 100", "WithMaxBodyLen")
			err := send(fits)
			if what == "call" {
				require.ErrorIs(t, err, context.DeadlineExceeded)
			} else {
				require.NoError(t, err)
			}
			require.LessOrEqual(t, len(p.next().payload), 98+20, what) // with the metadata of a call
		}
		st, err := c.OpenStream(t.Context(), "/m")
		require.NoError(t, err)
		v2LocalLimit(t, st.Send(tooLong), "the peer's limit of 100", "WithMaxBodyLen")
		require.NoError(t, st.Send(fits))
		require.Equal(t, wire.FlagOpen, p.next().Flag)
		require.Equal(t, fits, p.next().payload)
	})
}

func TestV2ResponseOverThePeersBodyLimitIsAnErrorResponse(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := arpctest.New(t, arpctest.Memory(), arpctest.ClientOptions(arpc.WithMaxBodyLen(200)))
		said := make(chan error, 1)
		p.Server.Handler.Handle("/large", func(ctx *arpc.Context) { said <- ctx.Write(strings.Repeat("x", 500)) })
		err := p.Client.Call("/large", nil, nil, time.Minute)
		suiteRemote(t, err, "the peer's limit of 200 (WithMaxBodyLen)")
		require.Equal(t, arpc.CodeResourceExhausted, arpc.CodeOf(err))
		require.Equal(t, arpc.CodeResourceExhausted, arpc.CodeOf(<-said))
	})
}

func TestV2BroadcastLeavesOutWhoTakesNoMessagesOfThatLength(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		got := make(chan string, 10)
		p := arpctest.New(t, arpctest.Memory(), arpctest.Setup(func(_ *arpc.Server, client *arpc.Handler) {
			client.Handle("/news", func(ctx *arpc.Context) { got <- fmt.Sprint(ctx.Client.Handler.MaxBodyLen()) })
		}))
		small := p.Dial(arpc.WithMaxBodyLen(100))
		p.PeerOf(small)
		require.NoError(t, p.Server.Broadcast("/news", strings.Repeat("x", 500)))
		synctest.Wait()
		require.Len(t, got, 1)
		require.Equal(t, fmt.Sprint(p.Client.Handler.MaxBodyLen()), <-got)
		require.Equal(t, arpc.StateConnected, small.State())
	})
}

func TestV2StreamsOverThePeersLimitAreNotOpened(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, p, _ := v2Connect(t, wire.Hello{MaxStreams: 3}, suiteNoKeepalive)
		var streams []*arpc.Stream
		for range 3 {
			st, err := c.OpenStream(t.Context(), "/m")
			require.NoError(t, err)
			require.Equal(t, wire.FlagOpen, p.next().Flag)
			streams = append(streams, st)
		}
		st, err := c.OpenStream(t.Context(), "/m")
		v2LocalLimit(t, err, "3 streams are open", "the limit of the peer", "WithMaxStreams")
		require.Nil(t, st)
		require.NoError(t, streams[1].Close())
		require.Equal(t, wire.CmdCancel, p.next().Command())
		_, err = c.OpenStream(t.Context(), "/m")
		require.NoError(t, err)
		require.Equal(t, wire.FlagOpen, p.next().Flag)
	})
}

// v2Pair is metadata whose section takes n bytes.
func v2Pair(n int) arpc.Metadata {
	md := arpc.Metadata{"k": ""}
	for extra := n; extra >= 0; extra-- {
		md["k"] = strings.Repeat("v", extra)
		if len(wire.AppendPair(nil, "k", md["k"])) == n {
			break
		}
	}
	return md
}

func TestV2MetadataOverThePeersLimitIsNotSent(t *testing.T) {
	const limit = 200
	synctest.Test(t, func(t *testing.T) {
		c, p, _ := v2Connect(t, wire.Hello{MaxMetadata: limit}, suiteNoKeepalive)
		fits := arpc.ContextWithMetadata(t.Context(), v2Pair(limit))
		tooLong := arpc.ContextWithMetadata(t.Context(), v2Pair(limit+1))
		v2LocalLimit(t, c.CallWith(tooLong, "/m", "x", nil), "metadata of 201 bytes", "the peer's limit of 200", "WithMaxMetadata")
		v2LocalLimit(t, c.NotifyWith(tooLong, "/m", "x"), "WithMaxMetadata")
		_, err := c.OpenStream(tooLong, "/m")
		v2LocalLimit(t, err, "WithMaxMetadata")
		require.NoError(t, c.NotifyWith(fits, "/m", "x"))
		require.Equal(t, wire.CmdNotify, p.next().Command())
		_, err = c.OpenStream(fits, "/m")
		require.NoError(t, err)
		require.Equal(t, wire.CmdStream, p.next().Command())
	})
}

// The time left counts for the receiver as well.
func TestV2MetadataAtTheLimitPassesOrFailsHere(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := arpctest.New(t, arpctest.Memory(), arpctest.Setup(suiteWithEcho), arpctest.ServerOptions(arpc.WithMaxMetadata(200)))
		for n := 180; n <= 201; n++ {
			ctx, cancel := context.WithTimeout(arpc.ContextWithMetadata(t.Context(), v2Pair(n)), time.Minute)
			err := p.Client.CallWith(ctx, "/echo", "x", nil)
			cancel()
			if n <= 188 {
				require.NoError(t, err)
			}
			if n > 200 || err != nil {
				v2LocalLimit(t, err, "WithMaxMetadata")
			}
		}
	})
}

func TestV2ResponseMetadataOverThePeersLimitIsAnErrorOfTheHandler(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := arpctest.New(t, arpctest.Memory(), arpctest.ClientOptions(arpc.WithMaxMetadata(200)))
		said := make(chan error, 1)
		p.Server.Handler.Handle("/meta", func(ctx *arpc.Context) {
			said <- ctx.SetMetadata("k", strings.Repeat("v", 300))
			ctx.SetMetadata("k", "small")
			ctx.Write("x")
		})
		var md arpc.Metadata
		require.NoError(t, p.Client.CallWith(arpc.ContextWithResponseMetadata(t.Context(), &md), "/meta", nil, nil))
		require.Equal(t, arpc.Metadata{"k": "small"}, md)
		err := <-said
		require.Equal(t, arpc.CodeResourceExhausted, arpc.CodeOf(err))
		require.ErrorContains(t, err, "WithMaxMetadata")
	})
}

// What a peer does not say is not limited, and large numbers are none.
func TestV2PeerWithoutLimitsOrWithHugeOnes(t *testing.T) {
	const most = math.MaxUint64
	hellos := map[string]wire.Hello{
		"nothing said": {},
		"huge":         {MaxBody: most, MaxInflight: most, MaxStreams: most, MaxMetadata: most, Window: most},
	}
	for name, hello := range hellos {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c, p, _ := v2Connect(t, hello, suiteNoKeepalive)
				peer := c.Peer()
				for _, limit := range []int{peer.MaxBodyLen, peer.MaxInflight, peer.MaxStreams} {
					require.GreaterOrEqual(t, limit, 0)
					require.Equal(t, name == "huge", limit > 0)
				}
				go func() {
					ctx := arpc.ContextWithMetadata(context.Background(), v2Pair(10<<10))
					c.CallWith(ctx, "/m", make([]byte, 1<<20), nil)
				}()
				require.Greater(t, len(p.next().payload), 1<<20)
				st, err := c.OpenStream(t.Context(), "/m")
				require.NoError(t, err)
				require.Equal(t, wire.FlagOpen, p.next().Flag)
				require.NoError(t, st.Send(make([]byte, 200<<10)))
				require.Len(t, p.next().payload, 200<<10)
			})
		})
	}
}

// A limit that lets nothing pass is the peer's affair; it must not hang us.
func TestV2PeerWithTheSmallestLimits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		hello := wire.Hello{MaxBody: 1, MaxInflight: 1, MaxStreams: 1, MaxMetadata: 1, Window: 1}
		c, p, _ := v2Connect(t, hello, suiteNoReconnect)
		require.Equal(t, 1, c.Peer().MaxBodyLen)
		v2LocalLimit(t, c.Call("/m", nil, nil, time.Second), "WithMaxBodyLen")
		v2LocalLimit(t, c.Notify("/m", nil, arpc.TimeZero), "WithMaxBodyLen")
		_, err := c.OpenStream(t.Context(), "/m")
		v2LocalLimit(t, err, "WithMaxBodyLen")
		_, err = c.OpenStream(t.Context(), "m")
		require.NoError(t, err)
		require.Equal(t, wire.FlagOpen, p.next().Flag)
		start := time.Now()
		require.ErrorIs(t, c.Call("m", nil, nil, time.Second), context.DeadlineExceeded)
		require.Equal(t, time.Second, time.Since(start))
	})
}

func TestV2OldPeerHasNoLimitsToHoldTo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ln := memconn.Listen()
		s := rowServe(t, ln, arpc.WithVersions(1, 1), arpc.WithMaxInflight(1), arpc.WithMaxStreams(1), arpc.WithMaxBodyLen(100))
		s.Handler.Handle("/echo", rowEcho)
		c := rowDial(t, ln.Dial)
		suiteRequireEcho(t, c)
		err := c.Call("/echo", strings.Repeat("x", 200), nil, time.Minute)
		suiteRemote(t, err, "the receiver's limit of 100 (WithMaxBodyLen)")
		for range 3 {
			_, err := c.OpenStream(t.Context(), "/echo")
			require.NoError(t, err)
		}
	})
}
