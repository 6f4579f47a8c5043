package pubsub_test

import (
	"encoding/hex"
	"encoding/json"
	"io"
	"net"
	"os"
	"testing"
	"time"

	"github.com/arpc-go/arpc"
	"github.com/arpc-go/arpc/extension/pubsub"
	"github.com/arpc-go/arpc/extension/pubsub/internal/proto"
	"github.com/stretchr/testify/require"
)

// captured is what two peers of version 1 said to each other.
type captured struct {
	Frames []capturedFrame `json:"frames"`
}

type capturedFrame struct {
	Dir    string `json:"dir"`
	Cmd    int    `json:"cmd"`
	Method string `json:"method"`
	Seq    int    `json:"seq"`
	Hex    string `json:"frame_hex"`
}

func capture(t *testing.T) captured {
	t.Helper()
	data, err := os.ReadFile("testdata/pubsub-v1.json")
	require.NoError(t, err)
	var c captured
	require.NoError(t, json.Unmarshal(data, &c))
	return c
}

// frame returns the bytes of the only frame of that kind.
func (c captured) frame(t *testing.T, dir, method string, cmd, seq int) []byte {
	t.Helper()
	for _, f := range c.Frames {
		if f.Dir == dir && f.Method == method && f.Cmd == cmd && f.Seq == seq {
			b, err := hex.DecodeString(f.Hex)
			require.NoError(t, err)
			return b
		}
	}
	require.FailNow(t, "no such frame", "%s %s %d %d", dir, method, cmd, seq)
	return nil
}

// exchange sends bytes and returns what comes within a second.
func exchange(t *testing.T, nc net.Conn, send []byte) []byte {
	t.Helper()
	_, err := nc.Write(send)
	require.NoError(t, err)
	require.NoError(t, nc.SetReadDeadline(time.Now().Add(time.Second))) // of the bubble
	got, err := io.ReadAll(nc)
	require.ErrorIs(t, err, os.ErrDeadlineExceeded)
	return got
}

// An old client sends what was captured, and gets what was captured.
func TestAnOldClientSeesTheFramesThatItKnows(t *testing.T) {
	const up, down, request, response, notify = "client->server", "server->client", int(arpc.CmdRequest), int(arpc.CmdResponse), int(arpc.CmdNotify)
	inBubble(t, func(t *testing.T) {
		c := capture(t)
		s := serveMemory(t)
		s.Password = "123qwe"
		one, err := s.dial()
		require.NoError(t, err)
		defer one.Close()
		other, err := s.dial()
		require.NoError(t, err)
		defer other.Close()

		for seq, nc := range map[int]net.Conn{2: one, 3: other} {
			require.Equal(t, c.frame(t, down, "in_A", response, seq), exchange(t, nc, c.frame(t, up, "in_A", request, seq)))
		}
		require.Equal(t, c.frame(t, down, "in_S", response, 4), exchange(t, one, c.frame(t, up, "in_S", request, 4)))
		require.Equal(t, c.frame(t, down, "in_P", response, 6), exchange(t, other, c.frame(t, up, "in_P", request, 6)))
		require.Equal(t, c.frame(t, down, "in_P", notify, 1), exchange(t, one, nil))
		require.Equal(t, c.frame(t, down, "in_P1", response, 7), exchange(t, other, c.frame(t, up, "in_P1", request, 7)))
		require.Equal(t, c.frame(t, down, "in_P", notify, 2), exchange(t, one, nil))

		require.NoError(t, s.Publish("Broadcast", "from server"))
		want := c.frame(t, down, "in_P", notify, 3)
		got := exchange(t, one, nil)
		require.Equal(t, want[:len(want)-8], got[:len(got)-8], "all but the time")

		require.Equal(t, c.frame(t, down, "in_U", response, 8), exchange(t, one, c.frame(t, up, "in_U", request, 8)))
		require.Equal(t, c.frame(t, down, "in_A", response, 9), exchange(t, one, c.frame(t, up, "in_A", request, 9)))
		require.NoError(t, s.Publish("Broadcast", "nobody hears it"))
		require.Empty(t, exchange(t, one, nil))
	})
}

// Old peers know these texts.
func TestOldErrorsAreTheTextsOfOldServers(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		p := serveMemory(t).oldPeer()
		for _, method := range []string{proto.Subscribe, proto.Unsubscribe, proto.Publish, proto.PublishToOne} {
			require.EqualError(t, p.Call(method, "short", nil, time.Minute), "invalid topic bytes, should be more than 10 bytes")
			require.EqualError(t, p.Call(method, oldTopic(string(make([]byte, 1025)), ""), nil, time.Minute), "invalid topic name length, should not be more than 1024")
			require.ErrorContains(t, p.Call(method, oldTopic("a.*", ""), nil, time.Minute), "wildcard", "names are all that it knows")
		}
	})
}

func TestAnOldSubscriptionMayBeMadeTwice(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		s := serveMemory(t, pubsub.WithMaxSubscriptions(1))
		p := s.oldPeer()
		require.NoError(t, p.old(proto.Subscribe, "a", ""))
		require.NoError(t, p.old(proto.Subscribe, "a", ""))
		require.ErrorContains(t, p.old(proto.Subscribe, "b", ""), "WithMaxSubscriptions")
		s.mustPublish("a", "once")
		require.Equal(t, []string{"old a once"}, p.take())
		require.NoError(t, p.old(proto.Unsubscribe, "a", ""))
		require.NoError(t, p.old(proto.Unsubscribe, "a", ""))
	})
}

// A connection of version 2 may use both forms.
func TestBothFormsOnOneConnection(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		s := serveMemory(t)
		p := s.peer()
		p.subscribe(1, "a")
		require.NoError(t, p.old(proto.Subscribe, "a", ""))
		s.mustPublish("a", "b")
		require.ElementsMatch(t, []string{"a b", "old a b"}, p.take())
	})
}
