package arpc_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/arpc-go/arpc"
	"github.com/arpc-go/arpc/arpctest"
	"github.com/arpc-go/arpc/internal/memconn"
)

// v2Around is an interceptor that notes when it begins and ends.
func v2Around(log *v2Log, name string) arpc.CallInterceptor {
	return func(ctx context.Context, call *arpc.Call, next arpc.CallFunc) error {
		log.add(fmt.Sprintf("%s %v %s", name, call.Kind, call.Method))
		err := next(ctx, call)
		log.add(name + " ends")
		return err
	}
}

// v2AsyncCall makes a CallAsync and waits for its callback, which has to run once.
func v2AsyncCall(t testing.TB, c *arpc.Client, method string, req any) (body string, err error) {
	t.Helper()
	type outcome struct {
		body string
		err  error
	}
	outcomes := make(chan outcome, 10)
	require.NoError(t, c.CallAsync(method, req, func(ctx *arpc.Context) {
		var o outcome
		o.err = ctx.Bind(&o.body)
		outcomes <- o
	}, suitePatience))
	o := suiteNext(t, outcomes)
	require.Empty(t, outcomes)
	return o.body, o.err
}

// v2Served registers what the tests of interceptors call.
func v2Served(h *arpc.Handler) {
	h.Handle("/echo", suiteEcho)
	h.Handle("/other", func(ctx *arpc.Context) { ctx.Write("other " + string(ctx.Body())) })
	h.Handle("/fail", func(ctx *arpc.Context) { ctx.Error(arpc.NewError(arpc.CodeAborted, "try later")) })
	h.HandleStream("/stream", func(st *arpc.Stream) { st.Send("from the peer"); st.Recv(nil) })
	h.HandleStream("/other", func(st *arpc.Stream) { st.Send("from another"); st.Recv(nil) })
}

func v2ServedBoth(s *arpc.Server, client *arpc.Handler) {
	v2Served(s.Handler)
	v2Served(client)
}

func TestV2InterceptorsRunAroundEverythingThatBegins(t *testing.T) {
	var reply string
	begins := map[string]func(t *testing.T, c *arpc.Client){
		"call /echo":  func(t *testing.T, c *arpc.Client) { require.NoError(t, c.Call("/echo", "x", &reply, suitePatience)) },
		"call /other": func(t *testing.T, c *arpc.Client) { require.NoError(t, c.CallWith(t.Context(), "/other", "x", &reply)) },
		"call /fail": func(t *testing.T, c *arpc.Client) {
			suiteRemote(t, c.CallWith(t.Context(), "/fail", "x", &reply), "try later")
		},
		"call /async":  func(t *testing.T, c *arpc.Client) { v2AsyncCall(t, c, "/async", "x") },
		"notify /echo": func(t *testing.T, c *arpc.Client) { require.NoError(t, c.Notify("/echo", "x", arpc.TimeZero)) },
		"notify /other": func(t *testing.T, c *arpc.Client) {
			require.NoError(t, c.NotifyWith(t.Context(), "/other", "x"))
		},
		"stream /stream": func(t *testing.T, c *arpc.Client) {
			st, err := c.OpenStream(t.Context(), "/stream")
			require.NoError(t, err)
			require.NoError(t, st.Send("x"))
			require.NoError(t, st.Recv(&reply))
			require.NoError(t, st.Close())
		},
	}
	ends := map[string]func(p *arpctest.Pair) *arpc.Client{
		"dialled":  func(p *arpctest.Pair) *arpc.Client { return p.Client },
		"accepted": (*arpctest.Pair).Peer,
	}
	for name, end := range ends {
		t.Run(name, func(t *testing.T) {
			arpctest.Each(t, func(t *testing.T, p *arpctest.Pair) {
				c, log := end(p), new(v2Log)
				c.Handler.UseCall(v2Around(log, "outer"))
				c.Handler.UseCall(v2Around(log, "inner"))
				for what, begin := range begins {
					log.list = nil
					begin(t, c)
					require.Equal(t, []string{"outer " + what, "inner " + what, "inner ends", "outer ends"}, log.all())
				}
			}, arpctest.Setup(v2ServedBoth))
		})
	}
}

func TestV2PushedMessagesAreNotIntercepted(t *testing.T) {
	p := arpctest.New(t, arpctest.Memory(), arpctest.Setup(v2ServedBoth))
	log := new(v2Log)
	p.Client.Handler.UseCall(v2Around(log, "client"))
	p.Server.Handler.UseCall(v2Around(log, "server"))
	require.NoError(t, p.Client.PushMsg(p.Client.NewMessage(arpc.CmdNotify, "/echo", "x"), arpc.TimeZero))
	require.NoError(t, p.Server.Broadcast("/echo", "x"))
	require.Empty(t, log.all())
}

func TestV2InterceptorMayChangeWhatIsSent(t *testing.T) {
	v2Each(t, func(t *testing.T, p *arpctest.Pair) {
		md := make(chan arpc.Metadata, 10)
		p.Server.Handler.Handle("/changed", func(ctx *arpc.Context) { md <- ctx.Metadata(); ctx.Write(ctx.Body()) })
		p.Server.Handler.HandleStream("/changed", func(st *arpc.Stream) { md <- st.Metadata() })
		p.Client.Handler.UseCall(func(ctx context.Context, call *arpc.Call, next arpc.CallFunc) error {
			call.Method = "/changed"
			if call.Kind != arpc.KindStream {
				call.Request = "something else"
			}
			return next(arpc.ContextWithMetadata(ctx, arpc.Metadata{"tenant": "7"}), call)
		})
		want := arpc.Metadata{"tenant": "7"}
		var reply string
		require.NoError(t, p.Client.Call("/x", "x", &reply, suitePatience))
		require.Equal(t, "something else", reply)
		require.Equal(t, want, suiteNext(t, md))
		reply, err := v2AsyncCall(t, p.Client, "/x", "x")
		require.NoError(t, err)
		require.Equal(t, "something else", reply)
		require.Equal(t, want, suiteNext(t, md))
		require.NoError(t, p.Client.Notify("/x", "x", arpc.TimeZero))
		require.Equal(t, want, suiteNext(t, md))
		st, err := p.Client.OpenStream(t.Context(), "/x")
		require.NoError(t, err)
		require.Equal(t, want, suiteNext(t, md))
		require.NoError(t, st.Close())
	})
}

func TestV2InterceptorSeesAndMayChangeTheResponse(t *testing.T) {
	p := arpctest.New(t, arpctest.Memory(), arpctest.Setup(v2ServedBoth))
	p.Client.Handler.UseCall(func(ctx context.Context, call *arpc.Call, next arpc.CallFunc) error {
		err := next(ctx, call)
		switch rsp := call.Response.(type) {
		case *string:
			*rsp += ", seen"
		case *[]byte:
			*rsp = append(*rsp, ", seen"...)
		}
		return err
	})
	var reply string
	require.NoError(t, p.Client.Call("/echo", "x", &reply, suitePatience))
	require.Equal(t, "x, seen", reply)
	reply, err := v2AsyncCall(t, p.Client, "/echo", "x")
	require.NoError(t, err)
	require.Equal(t, "x, seen", reply)
}

func TestV2InterceptorMayAskForTheMetadataOfTheResponse(t *testing.T) {
	p := arpctest.New(t, arpctest.Memory())
	p.Server.Handler.Handle("/meta", func(ctx *arpc.Context) { ctx.SetMetadata("cost", "3"); ctx.Write("x") })
	seen := make(chan arpc.Metadata, 10)
	p.Client.Handler.UseCall(func(ctx context.Context, call *arpc.Call, next arpc.CallFunc) error {
		var md arpc.Metadata
		err := next(arpc.ContextWithResponseMetadata(ctx, &md), call)
		seen <- md
		return err
	})
	want := arpc.Metadata{"cost": "3"}
	require.NoError(t, p.Client.Call("/meta", nil, nil, suitePatience))
	require.Equal(t, want, <-seen)
	got := make(chan arpc.Metadata, 1)
	require.NoError(t, p.Client.CallAsync("/meta", nil, func(ctx *arpc.Context) { got <- ctx.Metadata() }, suitePatience))
	require.Equal(t, want, suiteNext(t, seen))
	require.Equal(t, want, suiteNext(t, got))
}

var errV2No = errors.New("not today")

func TestV2InterceptorMayRefuse(t *testing.T) {
	p := arpctest.New(t, arpctest.Memory(), arpctest.Setup(v2ServedBoth))
	p.Server.Handler.Use(func(*arpc.Context) { t.Error("something was sent") })
	p.Client.Handler.UseCall(func(context.Context, *arpc.Call, arpc.CallFunc) error { return errV2No })
	require.ErrorIs(t, p.Client.Call("/echo", "x", nil, suitePatience), errV2No)
	require.ErrorIs(t, p.Client.CallWith(t.Context(), "/echo", "x", nil), errV2No)
	require.ErrorIs(t, p.Client.Notify("/echo", "x", arpc.TimeZero), errV2No)
	require.ErrorIs(t, p.Client.NotifyWith(t.Context(), "/echo", "x"), errV2No)
	_, err := v2AsyncCall(t, p.Client, "/echo", "x")
	require.ErrorIs(t, err, errV2No)
	st, err := p.Client.OpenStream(t.Context(), "/stream")
	require.ErrorIs(t, err, errV2No)
	require.Nil(t, st)
}

func TestV2InterceptorMayAnswerByItself(t *testing.T) {
	p := arpctest.New(t, arpctest.Memory())
	p.Client.Handler.UseCall(func(_ context.Context, call *arpc.Call, _ arpc.CallFunc) error {
		switch rsp := call.Response.(type) {
		case *string:
			*rsp = "cached"
		case *[]byte:
			*rsp = []byte("cached")
		}
		return nil
	})
	var reply string
	require.NoError(t, p.Client.Call("/none", "x", &reply, suitePatience))
	require.Equal(t, "cached", reply)
	reply, err := v2AsyncCall(t, p.Client, "/none", "x")
	require.NoError(t, err)
	require.Equal(t, "cached", reply)
	require.NoError(t, p.Client.Notify("/none", "x", arpc.TimeZero))
	st, err := p.Client.OpenStream(t.Context(), "/none")
	require.Error(t, err, "there is no stream")
	require.Nil(t, st)
}

func TestV2InterceptorMayTryAgain(t *testing.T) {
	p := arpctest.New(t, arpctest.Memory())
	var runs rowTally
	p.Server.Handler.Handle("/flaky", func(ctx *arpc.Context) {
		if runs.add("/flaky")%2 == 1 {
			ctx.Error(arpc.NewError(arpc.CodeUnavailable, "not now"))
			return
		}
		ctx.Write("now")
	})
	p.Client.Handler.UseCall(func(ctx context.Context, call *arpc.Call, next arpc.CallFunc) error {
		err := next(ctx, call)
		if arpc.CodeOf(err) == arpc.CodeUnavailable {
			err = next(ctx, call)
		}
		return err
	})
	var reply string
	require.NoError(t, p.Client.Call("/flaky", "x", &reply, suitePatience))
	require.Equal(t, "now", reply)
	reply, err := v2AsyncCall(t, p.Client, "/flaky", "x")
	require.NoError(t, err)
	require.Equal(t, "now", reply)
	require.Equal(t, 4, runs.total())
}

func TestV2InterceptorSeesTheDeadline(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := arpctest.New(t, arpctest.Memory(), arpctest.Setup(v2ServedBoth), arpctest.ClientOptions(arpc.WithCallTimeout(7*time.Second)))
		var left []time.Duration
		p.Client.Handler.UseCall(func(ctx context.Context, call *arpc.Call, next arpc.CallFunc) error {
			deadline, ok := ctx.Deadline()
			if !ok {
				deadline = time.Now()
			}
			left = append(left, time.Until(deadline))
			return next(ctx, call)
		})
		ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
		defer cancel()
		require.NoError(t, p.Client.Call("/echo", "x", nil, time.Second))
		require.NoError(t, p.Client.Call("/echo", "x", nil, arpc.TimeForever))
		require.NoError(t, p.Client.CallWith(ctx, "/echo", "x", nil))
		require.NoError(t, p.Client.CallWith(t.Context(), "/echo", "x", nil))
		require.NoError(t, p.Client.Notify("/echo", "x", 2*time.Second))
		require.NoError(t, p.Client.Notify("/echo", "x", arpc.TimeZero))
		require.NoError(t, p.Client.NotifyWith(t.Context(), "/echo", "x"))
		require.Equal(t, []time.Duration{time.Second, 0, 3 * time.Second, 7 * time.Second, 2 * time.Second, 0, 0}, left)
	})
}

// The time that interceptors take is that of the call.
func TestV2InterceptorsAreWithinTheTimeout(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, line, s := v2Out(t, arpc.WithWaitForReady(true))
		s.Handler.Handle("/slow", func(ctx *arpc.Context) { <-ctx.Done() })
		c.Handler.UseCall(func(ctx context.Context, call *arpc.Call, next arpc.CallFunc) error {
			time.Sleep(2 * time.Second)
			return next(ctx, call)
		})
		time.AfterFunc(5*time.Second, func() { line.setDown(false) })
		start := time.Now()
		var all sync.WaitGroup
		all.Go(func() { require.ErrorIs(t, c.Call("/slow", nil, nil, 10*time.Second), context.DeadlineExceeded) })
		_, err := v2AsyncCallFor(c, "/slow", 10*time.Second)
		require.ErrorIs(t, err, context.DeadlineExceeded)
		all.Wait()
		require.InDelta(t, 10*time.Second, time.Since(start), float64(10*time.Millisecond))
	})
}

// v2AsyncCallFor is a CallAsync that waits for its outcome.
func v2AsyncCallFor(c *arpc.Client, method string, timeout time.Duration) (body string, err error) {
	ended := make(chan error, 1)
	if err := c.CallAsync(method, nil, func(ctx *arpc.Context) { ended <- ctx.Bind(&body) }, timeout); err != nil {
		return "", err
	}
	return body, <-ended
}

func TestV2InterceptorsOfAPoolSeeACallOnce(t *testing.T) {
	ln := memconn.Listen()
	s := rowServe(t, ln)
	v2Served(s.Handler)
	pool, err := arpc.NewClientPool(ln.Dial, 3)
	require.NoError(t, err)
	defer pool.Stop()
	log := new(v2Log)
	pool.Handler().UseCall(v2Around(log, "outer"))
	pool.Handler().UseCall(v2Around(log, "inner"))
	require.NoError(t, pool.CallWith(t.Context(), "/echo", "x", nil))
	require.NoError(t, pool.NotifyWith(t.Context(), "/echo", "x"))
	st, err := pool.OpenStream(t.Context(), "/stream")
	require.NoError(t, err)
	require.NoError(t, st.Close())
	var want []string
	for _, what := range []string{"call /echo", "notify /echo", "stream /stream"} {
		want = append(want, "outer "+what, "inner "+what, "inner ends", "outer ends")
	}
	require.Equal(t, want, log.all())
}
