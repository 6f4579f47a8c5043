package interop

import (
	"bytes"
	"encoding/binary"
	"io"
	"net"
	"runtime"
	"testing"
	"time"

	"github.com/arpc-go/arpc"
	old "github.com/lesismal/arpc"
	"github.com/stretchr/testify/require"
)

// broadcaster is a server with clients of the other library.
type broadcaster struct {
	toAll func(note string)
	toOne func(note string)
}

// broadcasters dial a number of clients.
var broadcasters = map[string]func(t *testing.T, clients int, s setup) broadcaster{
	"our server": func(t *testing.T, clients int, s setup) broadcaster {
		server := serveOurs(t, setup{})
		var one *arpc.Client
		for range clients {
			dialOld(t, server.dial, s)
			one = receive(t, server.accepted)
		}
		return broadcaster{
			toAll: func(note string) { require.NoError(t, server.Broadcast("/note", note)) },
			toOne: func(note string) {
				require.NoError(t, server.Broadcast("/note", note, func(c *arpc.Client) bool { return c == one }))
			},
		}
	},
	"old server": func(t *testing.T, clients int, s setup) broadcaster {
		server := serveOld(t, setup{})
		var one *old.Client
		for range clients {
			dialOurs(t, server.dial, s)
			one = receive(t, server.accepted)
		}
		return broadcaster{
			toAll: func(note string) { server.Broadcast("/note", note) },
			toOne: func(note string) {
				server.BroadcastWithFilter("/note", note, func(c *old.Client) bool { return c == one })
			},
		}
	},
}

func TestBroadcast(t *testing.T) {
	const clients = 5
	for name, connect := range broadcasters {
		t.Run(name, func(t *testing.T) {
			notes := make(chan string, 10*clients)
			server := connect(t, clients, setup{routes: func(r routes) {
				r.handleOrdered("/note", func(r request, _ end) {
					var note string
					r.Bind(&note)
					notes <- note
				})
			}})
			server.toOne("one")
			server.toAll("all")
			got := map[string]int{}
			for range clients + 1 {
				got[receive(t, notes)]++
			}
			require.Equal(t, map[string]int{"one": 1, "all": clients}, got)
		})
	}
}

var (
	ping = append([]byte{5: arpc.CmdPing}, make([]byte, 10)...)
	pong = append([]byte{5: arpc.CmdPong}, make([]byte, 10)...)
)

// pingingConn is what a client of the old library pings over: what it reads is
// told to heard, and the goroutine that wants to send one ping too many ends.
type pingingConn struct {
	net.Conn
	pings int // left to send; owned by the goroutine of Keepalive
	ended chan struct{}
	heard chan []byte
}

func (c *pingingConn) Write(b []byte) (int, error) {
	if bytes.Equal(b, ping) {
		if c.pings == 0 {
			close(c.ended)
			runtime.Goexit()
		}
		c.pings--
	}
	return c.Conn.Write(b)
}

func (c *pingingConn) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	c.heard <- bytes.Clone(b[:n])
	return n, err
}

// requirePongs expects n pongs among the frames that were read.
func requirePongs(t *testing.T, heard <-chan []byte, n int) {
	t.Helper()
	for got := []byte(nil); n > 0; {
		for len(got) < arpc.HeadLen || len(got) < frameLen(got) {
			got = append(got, receive(t, heard)...)
		}
		end := frameLen(got)
		if got[5] == arpc.CmdPong {
			require.Equal(t, pong, got[:end])
			n--
		}
		got = got[end:]
	}
}

// frameLen returns the length of the frame that begins with this header.
func frameLen(head []byte) int { return arpc.HeadLen + int(binary.LittleEndian.Uint32(head)) }

func TestKeepaliveOfOldClient(t *testing.T) {
	const pings = 3
	server := serveOurs(t, setup{})
	nc, err := server.dial()
	require.NoError(t, err)
	conn := &pingingConn{Conn: nc, pings: pings, ended: make(chan struct{}), heard: make(chan []byte, 100)}
	client := dialOld(t, func() (net.Conn, error) { return conn, nil }, setup{})
	client.Keepalive(5 * time.Millisecond)
	receive(t, conn.ended)
	requirePongs(t, conn.heard, pings)
}

// hearing has our end tell what its connections read.
func hearing(heard chan []byte) func(routes) {
	return func(r routes) {
		echoRoutes(r)
		if ours, ok := r.(ourRoutes); ok {
			ours.SetReaderWrapper(func(nc net.Conn) io.Reader { return io.TeeReader(nc, sink(heard)) })
		}
	}
}

type sink chan []byte

func (s sink) Write(b []byte) (int, error) {
	select {
	case s <- bytes.Clone(b):
	default: // enough was heard
	}
	return len(b), nil
}

// Our pings are answered by the old library, in both roles, and keep the
// connection.
func TestKeepaliveOfOurs(t *testing.T) {
	for name, connect := range pairs {
		t.Run(name, func(t *testing.T) {
			heard := make(chan []byte, 100)
			p := connect(t, setup{
				routes: hearing(heard),
				ours:   []arpc.Option{arpc.WithKeepalive(2*time.Millisecond, patience)},
			})
			requirePongs(t, heard, 3)
			requireReply(t, p.client, "/string", "alive", "alive")
			requireReply(t, p.server, "/string", "alive", "alive")
		})
	}
}
