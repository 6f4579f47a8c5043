package arpc_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/arpc-go/arpc"
	"github.com/arpc-go/arpc/codec"
	"github.com/arpc-go/arpc/internal/memconn"
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
		var handler *arpc.Handler
		handler = arpc.DefaultHandler
		setUp(handler)
		return compatConnect(t).client
	},
	"server": func(t *testing.T, setUp func(*arpc.Handler)) *arpc.Client {
		pair := compatConnect(t)
		var handler *arpc.Handler
		handler = pair.server.Handler
		setUp(handler)
		return pair.client
	},
	"client": func(t *testing.T, setUp func(*arpc.Handler)) *arpc.Client {
		pair := compatConnect(t)
		var handler *arpc.Handler
		handler = pair.client.Handler
		setUp(handler)
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
				time.Sleep(time.Millisecond) // long enough for a second one to come in
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

func TestCompatHooksOfPackageAndServer(t *testing.T) {
	compatDefaults(t)
	events := make(chan string, 10)
	tell := func(event string) func(*arpc.Client) {
		return func(c *arpc.Client) { events <- event }
	}
	arpc.DefaultHandler.HandleConnected(tell("package: connected"))
	arpc.DefaultHandler.HandleDisconnected(tell("package: disconnected"))
	svr := arpc.NewServer()
	svr.Handler.HandleConnected(tell("server: connected"))
	svr.Handler.HandleDisconnected(tell("server: disconnected"))
	addr := compatListen(t, svr)

	nc, err := net.Dial("tcp", addr)
	require.NoError(t, err)
	require.Equal(t, "package: connected", compatTake(t, events))
	require.Equal(t, "server: connected", compatTake(t, events))
	nc.Close()
	require.Equal(t, "package: disconnected", compatTake(t, events))
	require.Equal(t, "server: disconnected", compatTake(t, events))
}

// A client's hook for connections can be added when the first is there
// already: it is told of the next one.
func TestCompatConnectedHookOfClient(t *testing.T) {
	compatDefaults(t)
	pair := compatConnect(t)
	connected := make(chan *arpc.Client, 1)
	pair.client.Handler.HandleConnected(func(c *arpc.Client) { connected <- c })
	require.NoError(t, pair.client.Restart())
	require.Same(t, pair.client, compatTake(t, connected))
}

func TestCompatDisconnectedHookOfClient(t *testing.T) {
	compatDefaults(t)
	pair := compatConnect(t)
	disconnected := make(chan *arpc.Client, 1)
	pair.client.Handler.HandleDisconnected(func(c *arpc.Client) { disconnected <- c })
	pair.server.Stop()
	require.Same(t, pair.client, compatTake(t, disconnected))
}

// compatFill notifies c's peer, which reads nothing, until the send queue is
// full, and returns how many notifications were taken.
func compatFill(t *testing.T, c *arpc.Client) int {
	body := strings.Repeat("x", 128<<10)
	for n := 0; ; n++ {
		require.Less(t, n, 1000, "the queue is never full")
		if err := c.Notify("/flood", body, arpc.TimeZero); err != nil {
			require.ErrorIs(t, err, arpc.ErrOverstock)
			return n
		}
	}
}

func TestCompatOverstock(t *testing.T) {
	compatDefaults(t)
	events := make(chan string, 10)
	arpc.DefaultHandler.HandleOverstock(func(c *arpc.Client) { events <- "package" })
	accepted := make(chan *arpc.Client, 1)
	ln := memconn.Listen()
	svr := arpc.NewServer()
	svr.Handler.HandleConnected(func(c *arpc.Client) { accepted <- c })
	svr.Handler.HandleOverstock(func(c *arpc.Client) { events <- "server" })
	go svr.Serve(ln)
	defer svr.Stop()
	_, err := ln.Dial()
	require.NoError(t, err)
	compatFill(t, compatTake(t, accepted))
	require.Equal(t, "package", compatTake(t, events))
	require.Equal(t, "server", compatTake(t, events))

	here, _ := memconn.Pipe()
	client, err := arpc.NewClient(func() (net.Conn, error) { return here, nil })
	require.NoError(t, err)
	defer client.Stop()
	client.Handler.HandleOverstock(func(c *arpc.Client) { events <- "client" })
	compatFill(t, client)
	require.Equal(t, "package", compatTake(t, events))
	require.Equal(t, "client", compatTake(t, events))
}

func TestCompatSendQueueSize(t *testing.T) {
	compatDefaults(t)
	arpc.DefaultHandler.SetSendQueueSize(2)
	here, _ := memconn.Pipe()
	client, err := arpc.NewClient(func() (net.Conn, error) { return here, nil })
	require.NoError(t, err)
	defer client.Stop()
	// Two that are being written, and two that wait.
	require.LessOrEqual(t, compatFill(t, client), 4)
}

func TestCompatCustomNetwork(t *testing.T) {
	compatDefaults(t)
	mem := memconn.Listen()
	unix, err := net.Listen("unix", t.TempDir()+"/s")
	require.NoError(t, err)
	networks := map[string]struct {
		ln     net.Listener
		dialer func() (net.Conn, error)
	}{
		"memory": {mem, mem.Dial},
		"unix":   {unix, func() (net.Conn, error) { return net.Dial("unix", unix.Addr().String()) }},
	}
	for name, network := range networks {
		t.Run(name, func(t *testing.T) {
			var ln net.Listener = network.ln
			svr := arpc.NewServer()
			svr.Handler.Handle("/words", compatEcho)
			go svr.Serve(ln)
			defer svr.Stop()
			dialer := func() (net.Conn, error) { return network.dialer() }
			client, err := arpc.NewClient(dialer)
			require.NoError(t, err)
			defer client.Stop()
			rsp := ""
			require.NoError(t, client.Call("/words", "anywhere", &rsp, compatWait))
			require.Equal(t, "anywhere", rsp)
		})
	}
}

// compatMarked is JSON behind a mark of its own.
type compatMarked string

func (mark compatMarked) Marshal(v any) ([]byte, error) {
	data, err := json.Marshal(v)
	return append([]byte(mark), data...), err
}

func (mark compatMarked) Unmarshal(data []byte, v any) error {
	data, ok := bytes.CutPrefix(data, []byte(mark))
	if !ok {
		return fmt.Errorf("the mark %q is missing", string(mark))
	}
	return json.Unmarshal(data, v)
}

func TestCompatCodecOfServerAndClient(t *testing.T) {
	compatDefaults(t)
	var marked arpc.Codec = compatMarked("#")
	svr := arpc.NewServer()
	svr.Codec = marked
	seen := make(chan string, 2)
	svr.Handler.Handle("/double", func(ctx *arpc.Context) {
		seen <- string(ctx.Body())
		compatDouble(ctx)
	})
	client := compatDial(t, compatListen(t, svr))
	client.Codec = marked
	rsp := compatOrder{}
	require.NoError(t, client.Call("/double", compatOrder{Count: 3}, &rsp, compatWait))
	require.Equal(t, 6, rsp.Count)
	require.Equal(t, `#{"Item":"","Count":3}`, compatTake(t, seen))
}

func TestCompatCodecOfPackage(t *testing.T) {
	compatDefaults(t)
	before := codec.DefaultCodec
	defer func() { codec.DefaultCodec = before }()
	var marked arpc.Codec = compatMarked("*")
	codec.DefaultCodec = marked
	pair := compatConnect(t)
	require.Equal(t, marked, pair.server.Codec)
	require.Equal(t, marked, pair.client.Codec)
	compatUse(t, pair.client, compatNotes(pair.server.Handler))
}

func TestCompatConnHooks(t *testing.T) {
	compatDefaults(t)
	var recvs, sends atomic.Int32
	arpc.DefaultHandler.BeforeRecv(func(conn net.Conn) error {
		recvs.Add(1)
		return nil
	})
	arpc.DefaultHandler.BeforeSend(func(conn net.Conn) error {
		sends.Add(1)
		return nil
	})
	pair := compatConnect(t)
	pair.server.Handler.Handle("/words", compatEcho)
	require.NoError(t, pair.client.Call("/words", "x", nil, compatWait))
	require.GreaterOrEqual(t, recvs.Load(), int32(2), "a read at both ends")
	require.GreaterOrEqual(t, sends.Load(), int32(2), "a write at both ends")
}

func TestCompatReaderWrapper(t *testing.T) {
	compatDefaults(t)
	var through atomic.Int64
	arpc.DefaultHandler.SetReaderWrapper(func(conn net.Conn) io.Reader {
		return io.TeeReader(bufio.NewReaderSize(conn, 1024), compatCounter{&through})
	})
	pair := compatConnect(t)
	pair.server.Handler.Handle("/words", compatEcho)
	rsp := ""
	require.NoError(t, pair.client.Call("/words", "wrapped", &rsp, compatWait))
	require.Equal(t, "wrapped", rsp)
	frame := arpc.HeadLen + len("/words") + len("wrapped")
	require.EqualValues(t, 2*frame, through.Load())
}

type compatCounter struct{ n *atomic.Int64 }

func (c compatCounter) Write(p []byte) (int, error) {
	c.n.Add(int64(len(p)))
	return len(p), nil
}
