package router_test

import (
	"fmt"
	"io"
	"math"
	"net"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/arpc-go/arpc"
	"github.com/arpc-go/arpc/arpctest"
	"github.com/arpc-go/arpc/middleware/router"
)

func TestRateLimitRefusesWhatIsTooFast(t *testing.T) {
	each(t, func(t *testing.T, world arpctest.World) {
		limit := router.NewRateLimit(router.All(), 10, 3)
		p := serve(t, world, func(h *arpc.Handler) {
			h.Use(limit.Handler())
			h.Handle("/m", answering)
		})
		for range 3 {
			require.NoError(t, p.Client.CallWith(t.Context(), "/m", nil, nil), "the burst")
		}
		var md arpc.Metadata
		err := p.Client.CallWith(arpc.ContextWithResponseMetadata(t.Context(), &md), "/m", nil, nil)
		require.True(t, arpc.IsRemote(err))
		require.Equal(t, code(p, arpc.CodeResourceExhausted), arpc.CodeOf(err))
		require.EqualError(t, err, "over the rate limit of 10 per second with a burst of 3 (NewRateLimit); try again in 100ms")
		after, ok := router.RetryAfter(md)
		require.Equal(t, p.Version == 2, ok)
		if ok {
			require.Equal(t, 100*time.Millisecond, after)
		}

		time.Sleep(99 * time.Millisecond)
		require.Error(t, p.Client.CallWith(t.Context(), "/m", nil, nil))
		time.Sleep(time.Millisecond)
		require.NoError(t, p.Client.CallWith(t.Context(), "/m", nil, nil), "after the time that was said")
		require.Equal(t, uint64(2), limit.Refused())
		require.Zero(t, limit.Dropped())
	})
}

func TestRateLimitDropsNotifications(t *testing.T) {
	each(t, func(t *testing.T, world arpctest.World) {
		limit := router.NewRateLimit(router.ByRoute(), 1, 2)
		handled := make(chan string, 10)
		p := serve(t, world, func(h *arpc.Handler) {
			h.Use(limit.Handler())
			h.Handle("/n", func(ctx *arpc.Context) { handled <- string(ctx.Body()) })
		})
		for i := range 5 {
			require.NoError(t, p.Client.NotifyWith(t.Context(), "/n", fmt.Sprint(i)))
		}
		synctest.Wait()
		require.Len(t, handled, 2)
		require.Equal(t, uint64(3), limit.Dropped())
		require.Zero(t, limit.Refused())
	})
}

// The opening of a stream counts, what is sent on it does not.
func TestRateLimitOfStreams(t *testing.T) {
	for name, key := range map[string]router.Key{
		"all": router.All(), "peer": router.ByPeer(), "identity": router.ByIdentity(), "route": router.ByRoute(),
		"func": router.ByFunc(func(in router.Incoming) any { return fmt.Sprint(in.Kind, in.Method, in.Metadata(), in.Context().Err()) }),
	} {
		t.Run(name, func(t *testing.T) {
			each(t, func(t *testing.T, world arpctest.World) {
				limit := router.NewRateLimit(key, 1, 1)
				p := serve(t, world, func(h *arpc.Handler) {
					h.UseStream(limit.Stream)
					h.HandleStream("/echo", echoStream)
				})
				first, err := openEcho(t, p)
				require.NoError(t, err)
				_, err = openEcho(t, p)
				if p.Version == 1 {
					require.ErrorIs(t, err, io.EOF, "version 1 knows no other end")
				} else {
					require.Equal(t, arpc.CodeResourceExhausted, arpc.CodeOf(err))
					require.ErrorContains(t, err, "try again in 1s")
				}
				require.Equal(t, uint64(1), limit.Refused())
				for range 10 {
					require.NoError(t, first.Send("again"))
					require.NoError(t, first.Recv(new(string)))
				}
			})
		})
	}
}

// openEcho opens a stream and returns what came of the first message on it.
func openEcho(t *testing.T, p *arpctest.Pair) (*arpc.Stream, error) {
	s, err := p.Client.OpenStream(t.Context(), "/echo")
	require.NoError(t, err)
	s.Send("hello") // or a refusal was quicker, which Recv tells
	return s, s.Recv(new(string))
}

// Peers that count as one share a rate, others do not.
func TestRateLimitByPeer(t *testing.T) {
	for name, c := range map[string]struct {
		a, b net.Addr
		one  bool
	}{
		"ports":          {&net.TCPAddr{IP: net.IPv4(10, 0, 0, 1), Port: 1}, &net.TCPAddr{IP: net.IPv4(10, 0, 0, 1), Port: 2}, true},
		"hosts":          {tcpAddr("10.0.0.1"), tcpAddr("10.0.0.2"), false},
		"4 in 6":         {tcpAddr("10.0.0.1"), &net.TCPAddr{IP: net.ParseIP("10.0.0.1").To4()}, true},
		"a customer":     {tcpAddr("2001:db8:1:2::1"), tcpAddr("2001:db8:1:2:ffff::9"), true},
		"customers":      {tcpAddr("2001:db8:1:2::1"), tcpAddr("2001:db8:1:3::1"), false},
		"UDP":            {tcpAddr("10.0.0.1"), &net.UDPAddr{IP: net.IPv4(10, 0, 0, 1)}, true},
		"text":           {tcpAddr("10.0.0.1"), text("10.0.0.1:99"), true},
		"text, IPv6":     {tcpAddr("2001:db8:1:2::1"), text("[2001:db8:1:2::7%eth0]:99"), true},
		"other texts":    {text("node-1"), text("node-2"), false},
		"sockets":        {&net.UnixAddr{Net: "unix"}, &net.UnixAddr{Net: "unix"}, true},
		"no address":     {nil, nil, true},
		"nowhere, there": {nil, tcpAddr("10.0.0.1"), false},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				limit := router.NewRateLimit(router.ByPeer(), 1, 1)
				p := serve(t, from(c.a, c.b), func(h *arpc.Handler) {
					h.Use(limit.Handler())
					h.Handle("/m", answering)
				})
				require.NoError(t, p.Client.CallWith(t.Context(), "/m", nil, nil))
				err := p.Dial().CallWith(t.Context(), "/m", nil, nil)
				require.Equal(t, c.one, err != nil)
			})
		})
	}
}

// text is an address of a kind of its own.
type text string

func (text) Network() string  { return "text" }
func (a text) String() string { return string(a) }

func TestRateLimitByIdentity(t *testing.T) {
	type account struct{ name string }
	for name, c := range map[string]struct {
		a, b any
		one  bool
	}{
		"same text":        {"ann", "ann", true},
		"two":              {"ann", "bob", false},
		"same value":       {account{"ann"}, account{"ann"}, true},
		"two values":       {account{"ann"}, account{"bob"}, false},
		"pointers":         {&account{"ann"}, &account{"ann"}, false},
		"not comparable":   {[]string{"ann"}, []string{"ann"}, true}, // they have one address
		"nobody":           {nil, nil, true},
		"nobody, somebody": {nil, "ann", false},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				limit := router.NewRateLimit(router.ByIdentity(), 1, 1)
				identities := make(chan any, 2)
				identities <- c.a
				identities <- c.b
				p := serve(t, from(tcpAddr("10.0.0.1"), tcpAddr("10.0.0.1")), func(h *arpc.Handler) {
					h.HandleConnected(func(client *arpc.Client) { client.SetIdentity(<-identities) })
					h.Use(limit.Handler())
					h.Handle("/m", answering)
				})
				require.NoError(t, p.Client.CallWith(t.Context(), "/m", nil, nil))
				err := p.Dial().CallWith(t.Context(), "/m", nil, nil)
				require.Equal(t, c.one, err != nil)
			})
		})
	}
}

func TestRateLimitByRouteAndByFunc(t *testing.T) {
	for name, key := range map[string]router.Key{
		"route": router.ByRoute(),
		"func":  router.ByFunc(func(in router.Incoming) any { return in.Method }),
		"tenant": router.ByFunc(func(in router.Incoming) any {
			return in.Kind.String() + in.Metadata()["tenant"] + in.Client.Conn().RemoteAddr().Network() + in.Method
		}),
	} {
		t.Run(name, func(t *testing.T) {
			each(t, func(t *testing.T, world arpctest.World) {
				limit := router.NewRateLimit(key, 1, 1)
				p := serve(t, world, func(h *arpc.Handler) {
					h.Use(limit.Handler())
					h.Handle("/a", answering)
					h.Handle("/b", answering)
				})
				require.NoError(t, p.Client.CallWith(t.Context(), "/a", nil, nil))
				require.NoError(t, p.Client.CallWith(t.Context(), "/b", nil, nil))
				require.Error(t, p.Client.CallWith(t.Context(), "/a", nil, nil))
				require.Equal(t, 2, limit.Keys())
			})
		})
	}
}

// What cannot be a key shares one rate and breaks nothing.
func TestRateLimitByFuncOfWhatCannotBeCompared(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		values := map[string]any{"/slice": []int{1}, "/nil": nil, "/inside": [1]any{[]int{1}}}
		limit := router.NewRateLimit(router.ByFunc(func(in router.Incoming) any { return values[in.Method] }), 1, 1)
		p := serve(t, arpctest.Memory(), func(h *arpc.Handler) {
			h.Use(limit.Handler())
			for method := range values {
				h.Handle(method, answering)
			}
		})
		refused := 0
		for method := range values {
			if p.Client.CallWith(t.Context(), method, nil, nil) != nil {
				refused++
			}
		}
		require.Equal(t, 2, refused)
	})
}

// However large the burst is, it is never exceeded, hardly ever missed, and the rate
// is what it should be in the long run.
func TestRateLimitOfLargeBursts(t *testing.T) {
	for _, burst := range []int{31, 32, 100, 1000} {
		synctest.Test(t, func(t *testing.T) {
			limit := router.NewRateLimit(router.ByPeer(), 100, burst)
			p := serve(t, arpctest.Memory(), func(h *arpc.Handler) {
				h.Use(limit.Handler())
				h.Handle("/m", answering)
			})
			calls := func(n int) (through int) {
				for range n {
					if p.Client.CallWith(t.Context(), "/m", nil, nil) == nil {
						through++
					}
				}
				return through
			}
			missing := 0
			if burst >= 32 {
				missing = burst / 16
			}
			for range 3 {
				through := calls(burst + 100)
				require.LessOrEqual(t, through, burst)
				require.GreaterOrEqual(t, through, burst-missing)
				time.Sleep(time.Minute)
			}
			calls(burst + 100)
			long := 0
			for range 1000 {
				time.Sleep(10 * time.Millisecond)
				long += calls(2)
			}
			require.InDelta(t, 1000, long, 1)
		})
	}
}

// Who takes turns with more names than there is room for gets no more through than
// with one.
func TestRateLimitIsNotOutdoneByManyKeys(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		limit := router.NewRateLimit(router.ByRoute(), 1, 64, router.WithMaxKeys(4))
		p := serve(t, arpctest.Memory(), func(h *arpc.Handler) {
			h.Use(limit.Handler())
			h.HandleNotFound(answering)
		})
		through := 0
		for i := range 5000 {
			if p.Client.CallWith(t.Context(), fmt.Sprint("/", i%100), nil, nil) == nil {
				through++
			}
		}
		require.LessOrEqual(t, through, 5*64, "of four keys and of the rest")
	})
}

// There are never more keys than allowed. A key makes room for another only when
// that gains it nothing; until then new ones share a rate.
func TestRateLimitKeysAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		limit := router.NewRateLimit(router.ByRoute(), 1, 2, router.WithMaxKeys(2))
		p := serve(t, arpctest.Memory(), func(h *arpc.Handler) {
			h.Use(limit.Handler())
			h.HandleNotFound(answering) // the peer picks the names
		})
		calls := func(method string) (through int) {
			for range 5 {
				if p.Client.CallWith(t.Context(), method, nil, nil) == nil {
					through++
				}
			}
			return through
		}
		require.Equal(t, 2, calls("/a"))
		require.Equal(t, 2, calls("/b"))
		require.Equal(t, 2, calls("/c"), "what the rest share")
		for i := range 1000 {
			require.Zero(t, calls(fmt.Sprint("/", i)), "nothing is left of it")
		}
		require.Equal(t, 2, limit.Keys())

		time.Sleep(time.Second)
		require.Equal(t, 1, calls("/b"), "it was not forgotten")
		time.Sleep(time.Second)
		require.Equal(t, 2, calls("/d"), "/a is full again and makes room")
		require.Equal(t, 2, calls("/a"), "/b does not yet: what the rest share")
		require.Zero(t, calls("/e"), "nothing is left of it")
		require.Equal(t, 2, limit.Keys())
		time.Sleep(time.Hour)
		for i := range 10 {
			require.Equal(t, 2, calls(fmt.Sprint("/again/", i)), "room for two, then the rest")
			time.Sleep(time.Minute)
		}
		require.Equal(t, 2, limit.Keys())
	})
}

func TestRateLimitThatMakesNoSensePanics(t *testing.T) {
	for name, fn := range map[string]func(){
		"no rate":      func() { router.NewRateLimit(router.All(), 0, 1) },
		"below":        func() { router.NewRateLimit(router.All(), -1, 1) },
		"not a number": func() { router.NewRateLimit(router.All(), math.NaN(), 1) },
		"infinite":     func() { router.NewRateLimit(router.All(), math.Inf(1), 1) },
		"no burst":     func() { router.NewRateLimit(router.All(), 1, 0) },
		"no keys":      func() { router.NewRateLimit(router.All(), 1, 1, router.WithMaxKeys(0)) },
		"no function":  func() { router.ByFunc(nil) },
	} {
		t.Run(name, func(t *testing.T) { require.Panics(t, fn) })
	}
}

// A rate that is hardly one says the longest time that there is.
func TestRateLimitOfOneInAnAge(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		limit := router.NewRateLimit(router.All(), math.SmallestNonzeroFloat64, 1)
		p := serve(t, arpctest.Memory(), func(h *arpc.Handler) {
			h.Use(limit.Handler())
			h.Handle("/m", answering)
		})
		require.NoError(t, p.Client.CallWith(t.Context(), "/m", nil, nil))
		var md arpc.Metadata
		require.Error(t, p.Client.CallWith(arpc.ContextWithResponseMetadata(t.Context(), &md), "/m", nil, nil))
		after, ok := router.RetryAfter(md)
		require.True(t, ok)
		require.Equal(t, 24*time.Hour, after)
	})
}

func TestRetryAfter(t *testing.T) {
	for text, want := range map[string]time.Duration{
		"0": 0, "1": time.Millisecond, "1500": 1500 * time.Millisecond, "007": 7 * time.Millisecond,
		"86400001": 24 * time.Hour, "18446744073709551615": 24 * time.Hour,
	} {
		after, ok := router.RetryAfter(arpc.Metadata{router.RetryAfterKey: text})
		require.True(t, ok, text)
		require.Equal(t, want, after, text)
	}
	for _, text := range []string{"", "-1", "+1", "1.5", "1s", " 1", "18446744073709551616", "١"} {
		_, ok := router.RetryAfter(arpc.Metadata{router.RetryAfterKey: text})
		require.False(t, ok, text)
	}
	_, ok := router.RetryAfter(nil)
	require.False(t, ok)
}

func FuzzRetryAfter(f *testing.F) {
	for _, text := range []string{"", "0", "1500", "-1", "99999999999999999999", "1e3"} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		after, ok := router.RetryAfter(arpc.Metadata{router.RetryAfterKey: text})
		require.GreaterOrEqual(t, after, time.Duration(0))
		require.LessOrEqual(t, after, 24*time.Hour)
		if !ok {
			require.Zero(t, after)
			return
		}
		again, ok := router.RetryAfter(arpc.Metadata{router.RetryAfterKey: fmt.Sprint(after.Milliseconds())})
		require.True(t, ok)
		require.Equal(t, after, again)
	})
}
