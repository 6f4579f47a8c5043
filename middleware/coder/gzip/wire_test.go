package gzip_test

import (
	"bytes"
	"io"
	"net"
	"os"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/arpc-go/arpc"
	"github.com/arpc-go/arpc/middleware/coder/gzip"
)

const wait = 20 * time.Second

// counted counts what is written to a connection.
type counted struct {
	net.Conn
	n *atomic.Int64
}

func (c counted) Write(b []byte) (int, error) {
	c.n.Add(int64(len(b)))
	return c.Conn.Write(b)
}

// withCoder returns a handler that compresses.
func withCoder(opts ...arpc.Option) arpc.Option {
	h := arpc.NewHandler(opts...)
	h.UseCoder(gzip.New())
	return arpc.WithHandler(h)
}

func echo(ctx *arpc.Context) { ctx.Write(ctx.Body()) }

func TestCalls(t *testing.T) {
	s, addr := serve(t, withCoder())
	s.Handler.Handle("/echo", echo)
	var sent atomic.Int64
	c, err := arpc.NewClient(func() (net.Conn, error) {
		nc, err := net.Dial("tcp", addr)
		return counted{nc, &sent}, err
	}, withCoder())
	require.NoError(t, err)
	t.Cleanup(c.Stop)

	for name, payload := range map[string][]byte{
		"empty": {}, "small": []byte("hello"), "JSON": orders(64 << 10), "noise": noise(64 << 10), "large": orders(mib),
	} {
		t.Run(name, func(t *testing.T) {
			sent.Store(0)
			var rsp []byte
			require.NoError(t, c.Call("/echo", payload, &rsp, wait))
			require.True(t, bytes.Equal(payload, rsp))
			if name == "JSON" || name == "large" {
				require.Less(t, sent.Load(), int64(len(payload)/2), "it was not compressed")
			}
		})
	}
}

// The other kinds of message pass the coder as calls do.
func TestNotifyStreamAndBroadcast(t *testing.T) {
	payload := orders(20 << 10)
	s, addr := serve(t, withCoder())
	got := make(chan []byte, 1)
	keep := func(ctx *arpc.Context) { got <- bytes.Clone(ctx.Body()) }
	s.Handler.Handle("/notify", keep)
	s.Handler.HandleStream("/stream", func(st *arpc.Stream) {
		for b, err := range st.RecvSeq() {
			if err == nil {
				err = st.Send(b)
			}
			if err != nil {
				return
			}
		}
	})
	c := dial(t, addr, withCoder())
	c.Handler.Handle("/broadcast", keep)

	require.NoError(t, c.Notify("/notify", payload, wait))
	require.Equal(t, payload, <-got)
	require.NoError(t, s.Broadcast("/broadcast", payload))
	require.Equal(t, payload, <-got)
	require.NoError(t, c.CallAsync("/none", payload, func(ctx *arpc.Context) {
		got <- []byte(ctx.Bind(nil).Error())
	}, wait))
	require.Equal(t, arpc.ErrMethodNotFound.Message(), string(<-got))

	st, err := c.OpenStream(t.Context(), "/stream")
	require.NoError(t, err)
	var rsp []byte
	require.NoError(t, st.Send(payload))
	require.NoError(t, st.Recv(&rsp))
	require.Equal(t, payload, rsp)
	require.NoError(t, st.CloseSend())
	require.ErrorIs(t, st.Recv(&rsp), io.EOF)
}

// A peer without the coder cannot read the first compressed frame. Every caller
// gets an error at once, not only when its time is over.
func TestOnlyOneSide(t *testing.T) {
	none := arpc.WithHandler(arpc.NewHandler())
	for name, c := range map[string]struct {
		server, client arpc.Option
	}{
		"the caller":   {none, withCoder()},
		"the answerer": {withCoder(), arpc.WithHandler(arpc.NewHandler())},
	} {
		t.Run(name, func(t *testing.T) {
			s, addr := serve(t, c.server)
			begun, release := make(chan struct{}), make(chan struct{})
			defer close(release)
			s.Handler.Handle("/hang", func(*arpc.Context) { close(begun); <-release }, true)
			s.Handler.Handle("/echo", echo)
			client := dial(t, addr, c.client)

			require.NoError(t, client.Call("/echo", "short", nil, wait))
			hung := make(chan error, 1)
			go func() { hung <- client.Call("/hang", nil, nil, arpc.TimeForever) }()
			<-begun
			err := client.Call("/echo", orders(5000), nil, arpc.TimeForever)
			require.Equal(t, arpc.CodeUnavailable, arpc.CodeOf(err), err)
			require.Equal(t, arpc.CodeUnavailable, arpc.CodeOf(<-hung))
		})
	}
}

// A message over the limit of its receiver is an error of that one message.
func TestOverTheLimit(t *testing.T) {
	for name, c := range map[string]struct {
		server, client arpc.Option
		remote         bool
	}{
		"the request":  {withCoder(arpc.WithMaxBodyLen(8192)), withCoder(), false}, // both know the limits of the other
		"the response": {withCoder(), withCoder(arpc.WithMaxBodyLen(8192)), true},
	} {
		t.Run(name, func(t *testing.T) {
			s, addr := serve(t, c.server)
			s.Handler.Handle("/zeros", func(ctx *arpc.Context) { ctx.Write(make([]byte, 1<<20)) })
			s.Handler.Handle("/len", func(ctx *arpc.Context) { ctx.Write(len(ctx.Body())) })
			client := dial(t, addr, c.client)
			conn := client.Conn()

			var err error
			if !c.remote {
				err = client.Call("/len", make([]byte, 1<<20), nil, wait)
			} else {
				err = client.Call("/zeros", nil, nil, wait)
			}
			require.ErrorContains(t, err, "WithMaxBodyLen")
			require.Equal(t, c.remote, arpc.IsRemote(err))
			var n int
			require.NoError(t, client.Call("/len", make([]byte, 5000), &n, wait))
			require.Equal(t, 5000, n)
			require.Equal(t, conn, client.Conn(), "the connection did not survive")
		})
	}
}

// The sender's own limit is one of what it sends, not of what is left of it.
func TestOverTheSendersLimit(t *testing.T) {
	_, addr := serve(t, withCoder())
	client := dial(t, addr, withCoder(arpc.WithMaxBodyLen(8192)))
	err := client.Call("/len", make([]byte, 1<<20), nil, wait)
	require.Equal(t, arpc.CodeResourceExhausted, arpc.CodeOf(err), err)
	require.True(t, arpc.SafeToRetry(err))
}

// raw is a connection on which a test writes bytes itself.
func raw(t *testing.T, addr string) net.Conn {
	t.Helper()
	nc, err := net.Dial("tcp", addr)
	require.NoError(t, err)
	t.Cleanup(func() { nc.Close() })
	require.NoError(t, nc.SetDeadline(time.Now().Add(wait)))
	return nc
}

func TestCorruptFrameEndsTheConnection(t *testing.T) {
	_, addr := serve(t, withCoder())
	nc := raw(t, addr)
	frame := seal(t, frameOf(orders(5000)))
	frame[1000] ^= 1
	_, err := nc.Write(frame)
	require.NoError(t, err)
	_, err = io.ReadAll(nc)
	require.NotErrorIs(t, err, os.ErrDeadlineExceeded)
}

// A frame that only claims to be compressed has a header that can be read: its
// sender is told.
func TestFalseMarkIsAnswered(t *testing.T) {
	_, addr := serve(t, withCoder())
	nc := raw(t, addr)
	_, err := nc.Write(fixed(frameOf(make([]byte, 100))))
	require.NoError(t, err)
	rsp := arpc.Message{Buffer: make([]byte, arpc.HeadLen)}
	_, err = io.ReadFull(nc, rsp.Buffer)
	require.NoError(t, err)
	rsp.Buffer = append(rsp.Buffer, make([]byte, rsp.BodyLen())...)
	_, err = io.ReadFull(nc, rsp.Buffer[arpc.HeadLen:])
	require.NoError(t, err)
	require.Equal(t, byte(arpc.CmdResponse), rsp.Cmd())
	require.ErrorContains(t, rsp.Error(), "gzip: ")
}
