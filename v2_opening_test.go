package arpc_test

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/arpc-go/arpc"
	"github.com/arpc-go/arpc/arpctest"
	"github.com/arpc-go/arpc/internal/memconn"
	"github.com/arpc-go/arpc/internal/wire"
)

// v2Noting is a handler that notes what it is called with.
func v2Noting(log *v2Log) *arpc.Handler {
	h := arpc.NewHandler()
	h.HandleConnected(func(*arpc.Client) { log.add("connected") })
	h.Handle("/note", func(ctx *arpc.Context) { log.add(string(ctx.Body())) })
	h.Handle("/ask", func(ctx *arpc.Context) { log.add("asked"); ctx.Write("answered") })
	h.HandleStream("/stream", func(st *arpc.Stream) {
		var msg string
		st.Recv(&msg)
		log.add("stream " + msg)
	})
	return h
}

func TestV2FramesBeforeThePongAreHandledBehindTheConnectedHook(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log := new(v2Log)
		d := v2Dial(t, arpc.WithHandler(v2Noting(log)))
		p := <-d.peers
		p.hello(wire.CmdPing)
		p.write(wire.Header{Cmd: wire.CmdRequest, Seq: 3}, "/ask", "")
		p.write(wire.Header{Cmd: wire.CmdStream | wire.StreamOpener, Seq: 4}, "/stream", "x")
		synctest.Wait()
		require.Empty(t, log.all())
		p.sayHello(wire.CmdPong, wire.Hello{Features: v2Features})
		d.connected()
		synctest.Wait()
		require.Equal(t, "connected", log.all()[0])
		require.ElementsMatch(t, []string{"connected", "asked", "stream x"}, log.all())
		require.ElementsMatch(t, []string{"/ask answered", "/stream "}, []string{p.next().String(), p.next().String()})
	})
}

func TestV2NotificationsBeforeThePongStayInOrder(t *testing.T) {
	hooks := map[string]func(*arpc.Client) error{
		"no hook":          nil,
		"hook":             func(*arpc.Client) error { return nil },
		"hook that sleeps": func(*arpc.Client) error { time.Sleep(time.Second); return nil },
		"hook that calls":  func(c *arpc.Client) error { return c.Call("/hook", nil, nil, time.Minute) },
		"hook that calls twice": func(c *arpc.Client) error {
			c.Call("/hook", nil, nil, time.Minute)
			return c.Call("/hook", nil, nil, time.Minute)
		},
	}
	for name, hook := range hooks {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				h, log := arpc.NewHandler(), new(v2Log)
				var want []string
				if hook != nil {
					want = append(want, "connected")
					h.HandleConnected(func(c *arpc.Client) {
						assert.NoError(t, hook(c))
						log.add("connected")
					})
				}
				h.Handle("/note", func(ctx *arpc.Context) {
					body := string(ctx.Body())
					log.add("begin " + body)
					time.Sleep(10 * time.Millisecond) // so that another would get in between
					log.add("end " + body)
				})
				v2PushAround(t, h)
				for i := range 20 {
					want = append(want, fmt.Sprintf("begin %d", i), fmt.Sprintf("end %d", i))
				}
				require.Equal(t, want, log.all())
			})
		})
	}
}

// v2PushAround connects a client to a peer that pushes ten notifications before it
// answers the hello and ten behind, and answers calls.
func v2PushAround(t *testing.T, h *arpc.Handler) {
	d := v2Dial(t, arpc.WithHandler(h))
	p := <-d.peers
	p.hello(wire.CmdPing)
	for i := range 10 {
		p.notify("/note", fmt.Sprint(i))
	}
	synctest.Wait()
	p.sayHello(wire.CmdPong, wire.Hello{Features: v2Features})
	for i := range 10 {
		p.notify("/note", fmt.Sprint(10+i))
	}
	answered := make(chan struct{})
	go func() {
		defer close(answered)
		for {
			f, err := rowReadFrame(p.nc)
			if err != nil {
				return
			}
			p.answer(f, "")
		}
	}()
	t.Cleanup(func() { <-answered })
	d.connected()
	time.Sleep(time.Minute)
}

func TestV2FramesBeforeTheAnswerAreDroppedWhenItNeverComes(t *testing.T) {
	refusal := wire.Hello{Code: uint32(arpc.CodePermissionDenied), Message: "no"}
	ends := map[string]func(p *v2Peer){
		"refused": func(p *v2Peer) { p.sayHello(wire.CmdPong, refusal) },
		"closed":  func(p *v2Peer) { p.nc.Close() },
		"silent":  func(*v2Peer) {},
		"garbage": func(p *v2Peer) { p.nc.Write(make([]byte, 16)) },
	}
	for name, end := range ends {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				log := new(v2Log)
				d := v2Dial(t, arpc.WithHandler(v2Noting(log)))
				p := <-d.peers
				p.hello(wire.CmdPing)
				p.notify("/note", "x")
				p.write(wire.Header{Cmd: wire.CmdRequest, Seq: 3}, "/ask", "")
				p.write(wire.Header{Cmd: wire.CmdStream | wire.StreamOpener, Seq: 4}, "/stream", "x")
				end(p)
				d.failed()
				synctest.Wait()
				require.Empty(t, log.all())
			})
		})
	}
}

// Frames that wait for the answer to the hello must not keep it from being read.
func TestV2MoreFramesBeforeThePongThanAreInFlightDoNotHoldItUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		start := time.Now()
		log := new(v2Log)
		d := v2Dial(t, arpc.WithHandler(v2Noting(log)), arpc.WithMaxInflight(3))
		p := <-d.peers
		p.hello(wire.CmdPing)
		for i := range 10 {
			p.notify("/note", fmt.Sprint(i))
		}
		p.sayHello(wire.CmdPong, wire.Hello{Features: v2Features})
		d.connected()
		require.Less(t, time.Since(start), time.Second)
		synctest.Wait()
		require.Equal(t, []string{"connected", "0", "1", "2"}, log.all()[:4])
	})
}

func TestV2AcceptingSideKnowsThePeerInItsConnectedHook(t *testing.T) {
	v2Worlds(t, func(t *testing.T, world arpctest.World) {
		peers := make(chan arpc.PeerInfo, 1)
		p := arpctest.New(t, world, arpctest.ClientOptions(arpc.WithPeerName("it is me")), arpctest.Setup(func(s *arpc.Server, _ *arpc.Handler) {
			s.Handler.HandleConnected(func(c *arpc.Client) { peers <- c.Peer() })
		}))
		seen := suiteNext(t, peers)
		require.Equal(t, 2, seen.Version)
		require.Equal(t, "it is me", seen.Name)
		require.Equal(t, seen, p.Peer().Peer())
	})
}

// A peer of version 1 may wait for us to speak.
func TestV2ConnectedHookRunsForASilentPeer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ln := memconn.Listen()
		s := rowServe(t, ln)
		start := time.Now()
		s.Handler.HandleConnected(func(c *arpc.Client) {
			require.NoError(t, c.Notify("/hello", fmt.Sprint(c.Peer().Version), arpc.TimeZero))
		})
		p := v2Caller(t, ln)
		f := p.next()
		require.Equal(t, "/hello 1", f.method+" "+f.payload)
		require.Less(t, time.Since(start), time.Second)
	})
}

// Whatever the first frame is, and however long the hook takes, the hook is first.
func TestV2ConnectedHookRunsBeforeTheFirstFrameOfAnOldPeer(t *testing.T) {
	for _, late := range []time.Duration{0, time.Second} {
		t.Run("after "+late.String(), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ln, log := memconn.Listen(), new(v2Log)
				h := v2Noting(log)
				h.HandleConnected(func(*arpc.Client) { time.Sleep(3 * time.Second); log.add("slowly") })
				rowServe(t, ln, arpc.WithHandler(h))
				p := v2Caller(t, ln)
				time.Sleep(late)
				p.notify("/note", "1")
				p.write(wire.Header{Cmd: wire.CmdRequest, Seq: 3}, "/ask", "")
				require.Equal(t, "answered", p.next().payload)
				synctest.Wait()
				require.Equal(t, []string{"connected", "slowly"}, log.all()[:2])
				require.ElementsMatch(t, []string{"1", "asked"}, log.all()[2:])
			})
		})
	}
}

// A hello that comes late is answered as one, though the hook had to run without.
func TestV2HelloBehindTheGraceCounts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ln, log := memconn.Listen(), new(v2Log)
		s := rowServe(t, ln)
		s.Handler.HandleConnected(func(c *arpc.Client) { log.add(fmt.Sprint(c.Peer().Version)) })
		p := v2Caller(t, ln)
		time.Sleep(time.Second)
		p.sayHello(wire.CmdPing, wire.Hello{Features: v2Features, Name: "late"})
		p.hello(wire.CmdPong)
		require.Equal(t, "late", rowClient(t, s).Peer().Name)
		require.Equal(t, []string{"1"}, log.all())
	})
}

func TestV2ConnectedHookOfTheAcceptingSideMayEndItsGoroutine(t *testing.T) {
	for name, hello := range map[string]bool{"hello": true, "silent": false} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ln := memconn.Listen()
				s := rowServe(t, ln)
				s.Handler.HandleConnected(func(*arpc.Client) { panic("in the hook") })
				s.Handler.Handle("/echo", rowEcho)
				p := v2Caller(t, ln)
				if hello {
					p.sayHello(wire.CmdPing, wire.Hello{Features: v2Features})
					p.hello(wire.CmdPong)
				}
				time.Sleep(time.Second)
				p.write(wire.Header{Cmd: wire.CmdRequest, Seq: 3}, "/echo", "still here")
				require.Equal(t, "still here", p.next().payload)
			})
		})
	}
}

func TestV2DisconnectedHookComesBehindTheConnectedHook(t *testing.T) {
	first := map[string]func(p *v2Peer){
		"silent":       func(*v2Peer) { time.Sleep(200 * time.Millisecond) },
		"hello":        func(p *v2Peer) { p.sayHello(wire.CmdPing, wire.Hello{Features: v2Features}) },
		"notification": func(p *v2Peer) { p.notify("/note", "x") },
	}
	hooks := map[string]func(*arpc.Client){
		"sleeps": func(*arpc.Client) { time.Sleep(time.Second) },
		"calls":  func(c *arpc.Client) { c.Call("/x", nil, nil, time.Hour); time.Sleep(time.Second) },
	}
	for how, begin := range first {
		for what, hook := range hooks {
			t.Run(how+"/"+what, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					ln, log := memconn.Listen(), new(v2Log)
					s := rowServe(t, ln)
					s.Handler.HandleConnected(func(c *arpc.Client) { hook(c); log.add("connected") })
					s.Handler.HandleDisconnected(func(*arpc.Client) { log.add("disconnected") })
					s.Handler.Handle("/note", func(*arpc.Context) { log.add("note") })
					p := v2Caller(t, ln)
					begin(p)
					synctest.Wait()
					p.nc.Close()
					time.Sleep(time.Minute)
					require.Equal(t, "connected", log.all()[0])
					require.Equal(t, "disconnected", log.all()[len(log.all())-1])
				})
			})
		}
	}
}
