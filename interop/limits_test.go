package interop

import (
	"bytes"
	"strconv"
	"testing"

	"github.com/arpc-go/arpc"
	old "github.com/lesismal/arpc"
	"github.com/stretchr/testify/require"
)

// pattern returns n bytes that are no repetition of one.
func pattern(n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(i ^ i>>8 ^ i>>16)
	}
	return b
}

func TestLargeBodies(t *testing.T) {
	each(t, setup{routes: echoRoutes}, func(t *testing.T, caller end) {
		for _, n := range []int{4 << 10, 64 << 10, 1 << 20} {
			body := pattern(n)
			var reply []byte
			require.NoError(t, caller.call("/bytes", body, &reply))
			require.True(t, bytes.Equal(body, reply))
		}
	})
}

func TestLargeStreamMessages(t *testing.T) {
	routes := func(r routes) { r.handleStream("/echo", echoStream) }
	each(t, setup{routes: routes}, func(t *testing.T, opener end) {
		st := open(t, opener, "/echo")
		body := string(pattern(300 << 10))
		for range 3 {
			require.NoError(t, st.send(body))
		}
		for range 3 {
			var reply string
			require.NoError(t, st.recv(&reply))
			require.True(t, reply == "re:"+body)
		}
		st.closeSend()
		requireEnd(t, st)
	})
}

// The limit of both is 64 MiB less 16 bytes, method and payload.
func TestBodyLimit(t *testing.T) {
	const method = "/length"
	routes := func(r routes) {
		r.handle(method, func(r request, _ end) {
			var body []byte
			r.Bind(&body)
			r.Write(strconv.Itoa(len(body)))
		})
	}
	require.Equal(t, old.DefaultMaxBodyLen, arpc.DefaultMaxBodyLen)
	largest := arpc.DefaultMaxBodyLen - len(method)
	body := make([]byte, largest+1)
	test := func(t *testing.T, caller end) error {
		requireReply(t, caller, method, body[:largest], strconv.Itoa(largest))
		err := caller.call(method, body, nil)
		require.ErrorContains(t, err, "WithMaxBodyLen")
		require.ErrorContains(t, err, strconv.Itoa(arpc.DefaultMaxBodyLen+1))
		requireReply(t, caller, method, "after", "5")
		return err
	}
	oldCalls(t, setup{routes: routes}, func(t *testing.T, caller oldEnd) { test(t, caller) })
	ourCalls(t, setup{routes: routes}, func(t *testing.T, caller ourEnd) {
		err := test(t, caller)
		require.Equal(t, arpc.CodeResourceExhausted, arpc.CodeOf(err))
		require.True(t, arpc.SafeToRetry(err), "it was not sent")
	})
}

// Our limit holds for answers, on their way out and on their way in, and costs
// nobody the connection.
func TestLimitOfAnswers(t *testing.T) {
	const limit = 1 << 16
	s := setup{
		ours: []arpc.Option{arpc.WithMaxBodyLen(limit)},
		routes: func(r routes) {
			r.handle("/large", func(r request, _ end) { r.Write(make([]byte, limit)) })
			r.handle("/string", echo[string])
		},
	}
	each(t, s, func(t *testing.T, caller end) {
		err := caller.call("/large", nil, nil)
		require.ErrorContains(t, err, "WithMaxBodyLen")
		require.ErrorContains(t, err, strconv.Itoa(limit))
		if _, ours := caller.(ourEnd); ours {
			require.Equal(t, arpc.CodeResourceExhausted, arpc.CodeOf(err))
			require.False(t, arpc.IsRemote(err))
		}
		requireReply(t, caller, "/string", "after", "after")
	})
}

// A body over the limit of an old receiver costs the connection. Our call ends
// with it, and our client comes back.
func TestLimitOfOldReceiver(t *testing.T) {
	const limit = 1 << 10
	s := setup{routes: echoRoutes, old: func(h old.Handler) { h.SetMaxBodyLen(limit) }}
	server := serveOld(t, s)
	back := make(chan error, 1)
	client := dialOurs(t, server.dial, setup{routes: onReconnect(back), ours: quickly})
	err := client.Call("/string", make([]byte, limit), nil, patience)
	require.Equal(t, arpc.CodeUnavailable, arpc.CodeOf(err))
	require.False(t, arpc.IsRemote(err))
	require.False(t, arpc.SafeToRetry(err))
	require.NoError(t, receive(t, back))
	requireReply(t, ourEnd{client}, "/string", "after", "after")
}
