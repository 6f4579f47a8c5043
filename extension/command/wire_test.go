package command_test

import (
	"bytes"
	"context"
	"io"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/arpc-go/arpc"
	"github.com/arpc-go/arpc/arpctest"
	"github.com/arpc-go/arpc/extension/command"
)

// The bytes of a stream, which docs/COMMAND.md describes.
func TestMessagesOnTheWire(t *testing.T) {
	arpctest.Each(t, func(t *testing.T, p *arpctest.Pair) {
		s, err := p.Client.OpenStream(patient(t), orderMethod)
		require.NoError(t, err)
		require.NoError(t, s.Send([]byte("\x00{\"N\":2}")))
		for _, want := range []string{"\x011", "\x022"} {
			var got string
			require.NoError(t, s.Recv(&got))
			require.Equal(t, want, got)
		}
		require.Equal(t, io.EOF, s.Recv(new([]byte)))
		s, err = p.Client.OpenStream(patient(t), orderMethod)
		require.NoError(t, err)
		require.NoError(t, s.Send([]byte("\x00{\"N\":0}")))
		var got string
		err = s.Recv(&got)
		if p.Version == 1 {
			require.NoError(t, err)
			require.Equal(t, "\x04not today", got)
			return
		}
		require.EqualError(t, err, errRefused.Error())
	}, doing(func(ctx context.Context, o order, reply *command.Reply[int]) error {
		if o.N == 0 {
			return errRefused
		}
		return count(ctx, o, reply)
	}))
}

func TestServerRefusesWhatIsNoCommand(t *testing.T) {
	executed := make(chan int, 1)
	arpctest.Each(t, func(t *testing.T, p *arpctest.Pair) {
		for name, message := range map[string]string{"of another kind": "\x01{\"N\":1}", "without bytes": "", "damaged": "\x00{\"N\":", "of an unknown kind": "\xff"} {
			if p.Version == 1 && message == "" {
				continue // it would be no message
			}
			s, err := p.Client.OpenStream(patient(t), orderMethod)
			require.NoError(t, err)
			require.NoError(t, s.Send(message))
			var got []byte
			err = s.Recv(&got)
			if p.Version == 1 {
				require.NoError(t, err, name)
				require.Equal(t, byte(4), got[0])
				continue
			}
			require.Equal(t, arpc.CodeInvalidArgument, arpc.CodeOf(err), name)
		}
		s, err := p.Client.OpenStream(patient(t), orderMethod)
		require.NoError(t, err)
		require.NoError(t, s.CloseSend())
		var said []byte
		if err = s.Recv(&said); p.Version == 2 {
			require.Equal(t, arpc.CodeInvalidArgument, arpc.CodeOf(err), "no command at all")
		}
		require.Equal(t, arpc.CodeInvalidArgument, codeUnlessOld(p, p.Client.CallWith(patient(t), orderMethod, "{", nil)))
		require.Empty(t, executed)
	}, doing(func(context.Context, order, *command.Reply[int]) error {
		executed <- 1
		return nil
	}))
}

// codeUnlessOld is the code of an error, which does not reach an old client.
func codeUnlessOld(p *arpctest.Pair, err error) arpc.Code {
	if p.Version == 1 && err != nil {
		return arpc.CodeInvalidArgument
	}
	return arpc.CodeOf(err)
}

// saying is a server that sends messages to whoever opens a stream of orders, and closes
// it.
func saying(said ...[]byte) arpctest.Option {
	return arpctest.Setup(func(s *arpc.Server, _ *arpc.Handler) {
		s.Handler.HandleStream(orderMethod, func(s *arpc.Stream) {
			var cmd []byte
			s.Recv(&cmd)
			for _, m := range said {
				s.Send(m)
			}
		})
	})
}

func TestClientRefusesWhatIsNoResult(t *testing.T) {
	for name, c := range map[string]struct {
		said   []string
		values []int
		ok     bool
	}{
		"nothing at all":                   {nil, nil, false},
		"results without an end":           {[]string{"\x011", "\x012"}, upTo(2), false},
		"an empty message":                 {[]string{""}, nil, false},
		"a command":                        {[]string{"\x00{}"}, nil, false},
		"an unknown kind":                  {[]string{"\x011", "\xff"}, upTo(1), false},
		"a damaged result":                 {[]string{"\x01{"}, nil, false},
		"a result behind the last":         {[]string{"\x021", "\x012"}, upTo(1), true},
		"a result behind the end":          {[]string{"\x03", "\x011"}, nil, true},
		"a failure, as to an old peer":     {[]string{"\x011", "\x04no"}, upTo(1), false},
		"a failure behind the last result": {[]string{"\x021", "\x04no"}, upTo(1), true},
	} {
		t.Run(name, func(t *testing.T) {
			var said [][]byte
			for _, m := range c.said {
				said = append(said, []byte(m))
			}
			p := arpctest.New(t, arpctest.Memory(), saying(said...))
			for _, way := range []string{"SendMulti", "Start"} {
				values, err := ways[way](patient(t), orders().Sender(p.Client), order{})
				require.Equal(t, c.values, values)
				require.Equal(t, c.ok, err == nil, "%v", err)
			}
			require.Equal(t, arpc.StateConnected, p.Client.State())
		})
	}
}

// Whatever a server says, a command ends, in order and without a panic; it fails unless
// the server has said that all results were sent.
func FuzzResults(f *testing.F) {
	f.Add([]byte("\x011\xfe\x022"))
	f.Add([]byte("\x03"))
	f.Add([]byte("\x011\xfe\xfe\x04no"))
	f.Fuzz(func(t *testing.T, data []byte) {
		said := bytes.Split(data, []byte{0xfe})
		p := arpctest.New(t, arpctest.Memory(), saying(said...))
		values, _, err := all(patient(t), orders().Sender(p.Client), order{})
		ends := len(said)
		for i, m := range said {
			if len(m) > 0 && (m[0] == 2 || m[0] == 3) {
				ends = i
				break
			}
		}
		require.LessOrEqual(t, len(values), ends+1)
		if ends == len(said) {
			require.Error(t, err)
		}
	})
}

// Whatever a client sends, the server goes on.
func FuzzCommands(f *testing.F) {
	f.Add([]byte("\x00{\"N\":1}"))
	f.Add([]byte("\x00"))
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, data []byte) {
		p, s := pair(t, arpctest.Memory(), func(_ context.Context, o order, reply *command.Reply[int]) error {
			return reply.Last(o.N)
		})
		stream, err := p.Client.OpenStream(patient(t), orderMethod)
		require.NoError(t, err)
		stream.Send(data)
		for range stream.RecvSeq() {
		}
		p.Client.CallWith(patient(t), orderMethod, data, nil)
		n, err := command.Send(patient(t), s, order{7})
		require.NoError(t, err)
		require.Equal(t, 7, n)
	})
}
