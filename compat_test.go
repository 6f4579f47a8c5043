package arpc_test

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/arpc-go/arpc"
	"github.com/stretchr/testify/require"
)

// The programs of this file use the calls, signatures and order that programs
// written for deployed peers use. They must compile and run as they are.

const compatWait = 5 * time.Second

// compatDefaults gives the test a DefaultHandler of its own.
func compatDefaults(t *testing.T) {
	before := arpc.DefaultHandler
	arpc.DefaultHandler = arpc.NewHandler()
	t.Cleanup(func() { arpc.DefaultHandler = before })
}

func compatListen(t *testing.T, server *arpc.Server) string {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	go server.Serve(ln)
	t.Cleanup(server.Stop)
	return ln.Addr().String()
}

func compatDial(t *testing.T, addr string) *arpc.Client {
	client, err := arpc.NewClient(func() (net.Conn, error) {
		return net.DialTimeout("tcp", addr, time.Second*3)
	})
	require.NoError(t, err)
	t.Cleanup(client.Stop)
	return client
}

// compatPair is a server and both ends of one connection to it.
type compatPair struct {
	server           *arpc.Server
	client, accepted *arpc.Client
}

func compatConnect(t *testing.T) compatPair {
	server := arpc.NewServer()
	accepted := make(chan *arpc.Client, 1)
	server.Handler.HandleConnected(func(c *arpc.Client) { accepted <- c })
	client := compatDial(t, compatListen(t, server))
	return compatPair{server, client, compatTake(t, accepted)}
}

func compatTake[T any](t *testing.T, from <-chan T) T {
	t.Helper()
	select {
	case v := <-from:
		return v
	case <-time.After(compatWait):
		require.FailNow(t, "nothing came")
		panic("unreachable")
	}
}

func compatEcho(ctx *arpc.Context) {
	word := ""
	if err := ctx.Bind(&word); err == nil {
		ctx.Write(word)
	}
}

func TestCompatQuickStart(t *testing.T) {
	probe, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	addr := probe.Addr().String()
	probe.Close()

	server := arpc.NewServer()
	server.Handler.Handle("/words", compatEcho)
	ended := make(chan error, 1)
	go func() { ended <- server.Run(addr) }()
	require.Eventually(t, func() bool {
		nc, err := net.Dial("tcp", addr)
		if err == nil {
			nc.Close()
		}
		return err == nil
	}, compatWait, 5*time.Millisecond)

	client, err := arpc.NewClient(func() (net.Conn, error) {
		return net.DialTimeout("tcp", addr, time.Second*3)
	})
	require.NoError(t, err)
	defer client.Stop()

	req := "good morning"
	rsp := ""
	require.NoError(t, client.Call("/words", &req, &rsp, time.Second*5))
	require.Equal(t, "good morning", rsp)
	server.Stop()
	require.ErrorIs(t, compatTake(t, ended), arpc.ErrServerClosed)
}

// compatOwners are the handlers that the same setting up is done on: that of
// the package, of a server and of a client. Each returns the end that calls it.
var compatOwners = map[string]func(t *testing.T, setUp func(*arpc.Handler)) *arpc.Client{
	"package": func(t *testing.T, setUp func(*arpc.Handler)) *arpc.Client {
		setUp(arpc.DefaultHandler)
		return compatConnect(t).client
	},
	"server": func(t *testing.T, setUp func(*arpc.Handler)) *arpc.Client {
		pair := compatConnect(t)
		setUp(pair.server.Handler)
		return pair.client
	},
	"client": func(t *testing.T, setUp func(*arpc.Handler)) *arpc.Client {
		pair := compatConnect(t)
		setUp(pair.client.Handler)
		return pair.accepted
	},
}

func compatOnEach(t *testing.T, test func(t *testing.T, setUp func(func(*arpc.Handler)) *arpc.Client)) {
	for name, owner := range compatOwners {
		t.Run(name, func(t *testing.T) {
			compatDefaults(t)
			test(t, func(f func(*arpc.Handler)) *arpc.Client { return owner(t, f) })
		})
	}
}

func TestCompatHandlerVariable(t *testing.T) {
	compatDefaults(t)
	server := arpc.NewServer()
	client := compatDial(t, compatListen(t, server))
	var handler *arpc.Handler

	handler = arpc.DefaultHandler
	handler.Handle("/variable", compatEcho)
	require.ErrorIs(t, client.Call("/variable", "x", nil, compatWait), arpc.ErrMethodNotFound, "clones are apart")

	handler = server.Handler
	handler.Handle("/variable", compatEcho)
	require.NoError(t, client.Call("/variable", "x", nil, compatWait))

	handler = client.Handler
	handler.Handle("/variable", compatEcho)
	require.Len(t, server.Clients(), 1)
	require.NoError(t, server.Clients()[0].Call("/variable", "x", nil, compatWait))
}

func TestCompatRoutes(t *testing.T) {
	compatOnEach(t, func(t *testing.T, setUp func(func(*arpc.Handler)) *arpc.Client) {
		release := make(chan struct{})
		meet := make(chan struct{})
		var running, together atomic.Int32
		caller := setUp(func(handler *arpc.Handler) {
			handler.Handle("/plain", compatEcho)
			handler.Handle("/waits", func(ctx *arpc.Context) {
				<-release
				ctx.Write(nil)
			})
			async := true
			handler.Handle("/meet", func(ctx *arpc.Context) {
				select {
				case meet <- struct{}{}:
				case <-meet:
				}
				ctx.Write(nil)
			}, async)
			handler.Handle("/alone", func(ctx *arpc.Context) {
				if running.Add(1) > 1 {
					together.Add(1)
				}
				for range 1000 {
					runtime.Gosched() // a second one might come in
				}
				running.Add(-1)
				ctx.Write(nil)
			}, !async)
		})

		waiting := compatGo(caller, "/waits", 1)
		rsp := ""
		require.NoError(t, caller.Call("/plain", "past it", &rsp, compatWait))
		require.Equal(t, "past it", rsp)
		close(release)
		require.NoError(t, waiting())
		require.NoError(t, compatGo(caller, "/meet", 2)())
		require.NoError(t, compatGo(caller, "/alone", 8)())
		require.Zero(t, together.Load())
	})
}

// compatGo makes n calls at the same time. The function it returns waits for
// them and returns the first error.
func compatGo(c *arpc.Client, method string, n int) func() error {
	errs := make(chan error, n)
	for range n {
		go func() { errs <- c.Call(method, nil, nil, compatWait) }()
	}
	return func() error {
		for range n {
			if err := <-errs; err != nil {
				return err
			}
		}
		return nil
	}
}

func TestCompatMiddleware(t *testing.T) {
	compatOnEach(t, func(t *testing.T, setUp func(func(*arpc.Handler)) *arpc.Client) {
		steps := make(chan string, 10)
		caller := setUp(func(handler *arpc.Handler) {
			handler.Use(func(ctx *arpc.Context) {
				steps <- "first"
				ctx.Next()
				steps <- "first again"
			})
			handler.Use(func(ctx *arpc.Context) { steps <- "second" })
			handler.Handle("/step", func(ctx *arpc.Context) {
				steps <- "handler"
				ctx.Write(nil)
			})
			handler.Use(func(ctx *arpc.Context) { steps <- "behind" })
			handler.Handle("/other", func(ctx *arpc.Context) { ctx.Write(nil) })
		})
		require.NoError(t, caller.Call("/step", nil, nil, compatWait))
		for _, want := range []string{"first", "second", "handler", "behind", "first again"} {
			require.Equal(t, want, compatTake(t, steps))
		}
		require.NoError(t, caller.Call("/other", nil, nil, compatWait))
		for _, want := range []string{"first", "second", "behind", "first again"} {
			require.Equal(t, want, compatTake(t, steps))
		}
	})
}

// compatCoder turns the bits of payloads over and counts.
type compatCoder struct{ encoded, decoded atomic.Int32 }

func (c *compatCoder) Encode(_ *arpc.Client, msg *arpc.Message) *arpc.Message {
	c.encoded.Add(1)
	return compatInvert(msg)
}

func (c *compatCoder) Decode(_ *arpc.Client, msg *arpc.Message) *arpc.Message {
	c.decoded.Add(1)
	return compatInvert(msg)
}

func compatInvert(msg *arpc.Message) *arpc.Message {
	for i, b := range msg.Data() {
		msg.Data()[i] = ^b
	}
	return msg
}

func TestCompatCoder(t *testing.T) {
	compatDefaults(t)
	coder := &compatCoder{}
	var onWire bytes.Buffer
	arpc.DefaultHandler.UseCoder(coder)
	pair := compatConnect(t)
	pair.server.Handler.Handle("/coded", func(ctx *arpc.Context) {
		onWire.Write(ctx.Body())
		ctx.Write("thank you")
	})
	rsp := ""
	require.NoError(t, pair.client.Call("/coded", "please", &rsp, compatWait))
	require.Equal(t, "thank you", rsp)
	require.Equal(t, "please", onWire.String())
	require.EqualValues(t, 2, coder.encoded.Load())
	require.EqualValues(t, 2, coder.decoded.Load())
}

type compatOrder struct {
	Item  string
	Count int
}

func compatDouble(ctx *arpc.Context) {
	order := &compatOrder{}
	if err := ctx.Bind(order); err != nil {
		ctx.Error(err)
		return
	}
	order.Count *= 2
	ctx.Write(order)
}

// compatUse makes every kind of call to a peer that handles /double and tells
// of the notifications it gets.
func compatUse(t *testing.T, client *arpc.Client, notes <-chan string) {
	request := &compatOrder{Item: "tea", Count: 4}
	response := &compatOrder{}
	timeout := time.Second * 5
	require.NoError(t, client.Call("/double", request, response, timeout))
	require.Equal(t, &compatOrder{"tea", 8}, response)

	ctx, cancel := context.WithTimeout(context.Background(), compatWait)
	defer cancel()
	response = &compatOrder{}
	require.NoError(t, client.CallWith(ctx, "/double", request, response))
	require.Equal(t, 8, response.Count)

	answers := make(chan *compatOrder, 1)
	err := client.CallAsync("/double", request, func(ctx *arpc.Context) {
		response := &compatOrder{}
		ctx.Bind(response)
		answers <- response
	}, timeout)
	require.NoError(t, err)
	require.Equal(t, 8, compatTake(t, answers).Count)

	require.NoError(t, client.Notify("/note", "by timeout", time.Second))
	require.Equal(t, "by timeout", compatTake(t, notes))
	require.NoError(t, client.NotifyWith(ctx, "/note", "by context"))
	require.Equal(t, "by context", compatTake(t, notes))
}

func compatNotes(h *arpc.Handler) <-chan string {
	notes := make(chan string, 10)
	h.Handle("/double", compatDouble)
	h.Handle("/note", func(ctx *arpc.Context) {
		note := ""
		ctx.Bind(&note)
		notes <- note
	})
	return notes
}

func TestCompatClientCalls(t *testing.T) {
	compatDefaults(t)
	pair := compatConnect(t)
	compatUse(t, pair.client, compatNotes(pair.server.Handler))
}

func TestCompatServerCallsKeptClient(t *testing.T) {
	compatDefaults(t)
	server := arpc.NewServer()
	kept, released := make(chan *arpc.Client, 1), make(chan *arpc.Client, 1)
	server.Handler.Handle("/hello", func(ctx *arpc.Context) {
		client := ctx.Client
		client.OnDisconnected(func(c *arpc.Client) { released <- c })
		kept <- client
		ctx.Write(nil)
	})
	dialled := compatDial(t, compatListen(t, server))
	notes := compatNotes(dialled.Handler)
	require.NoError(t, dialled.Call("/hello", nil, nil, compatWait))
	client := compatTake(t, kept)
	compatUse(t, client, notes)
	dialled.Stop()
	require.Same(t, client, compatTake(t, released))
}

func TestCompatBroadcast(t *testing.T) {
	compatDefaults(t)
	var svr *arpc.Server = arpc.NewServer()
	var mux = sync.RWMutex{}
	var clientMap = make(map[*arpc.Client]struct{})
	svr.Handler.Handle("/join", func(ctx *arpc.Context) {
		mux.Lock()
		clientMap[ctx.Client] = struct{}{}
		mux.Unlock()
		ctx.Write(nil)
	})
	addr := compatListen(t, svr)
	heard := make(chan string, 10)
	for range 3 {
		client := compatDial(t, addr)
		client.Handler.Handle("/news", func(ctx *arpc.Context) { heard <- string(ctx.Body()) })
		require.NoError(t, client.Call("/join", nil, nil, compatWait))
	}

	msg := svr.NewMessage(arpc.CmdNotify, "/news", fmt.Sprintf("issue %d", 7))
	mux.RLock()
	for client := range clientMap {
		require.NoError(t, client.PushMsg(msg, arpc.TimeZero))
	}
	mux.RUnlock()
	for range 3 {
		require.Equal(t, "issue 7", compatTake(t, heard))
	}
}

func TestCompatAsyncResponse(t *testing.T) {
	compatOnEach(t, func(t *testing.T, setUp func(func(*arpc.Handler)) *arpc.Client) {
		for _, asyncResponse := range []bool{true, false} {
			caller := setUp(func(handler *arpc.Handler) {
				handler.Handle(fmt.Sprintf("/answer/%v", asyncResponse), func(ctx *arpc.Context) {
					req := &compatOrder{}
					err := ctx.Bind(req)
					if err == nil {
						data := req.Item
						ctx.Write(data)
					}
				}, asyncResponse)
			})
			rsp := ""
			err := caller.Call(fmt.Sprintf("/answer/%v", asyncResponse), compatOrder{Item: "jam"}, &rsp, compatWait)
			require.NoError(t, err)
			require.Equal(t, "jam", rsp)
		}
	})
}
