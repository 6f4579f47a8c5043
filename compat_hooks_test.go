package arpc_test

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/arpc-go/arpc"
	"github.com/arpc-go/arpc/codec"
	"github.com/arpc-go/arpc/internal/memconn"
	"github.com/stretchr/testify/require"
)

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

	dialer, _ := oldPeer(t)
	client, err := arpc.NewClient(dialer)
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
	dialer, _ := oldPeer(t)
	client, err := arpc.NewClient(dialer)
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
	hellos := through.Load()
	require.Positive(t, hellos)
	pair.server.Handler.Handle("/words", compatEcho)
	rsp := ""
	require.NoError(t, pair.client.CallWith(t.Context(), "/words", "wrapped", &rsp))
	require.Equal(t, "wrapped", rsp)
	frame := arpc.HeadLen + len("/words") + len("wrapped")
	require.EqualValues(t, 2*frame, through.Load()-hellos)
}

type compatCounter struct{ n *atomic.Int64 }

func (c compatCounter) Write(p []byte) (int, error) {
	c.n.Add(int64(len(p)))
	return len(p), nil
}
