package command_test

import (
	"context"
	"errors"
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/arpc-go/arpc"
	"github.com/arpc-go/arpc/arpctest"
	"github.com/arpc-go/arpc/codec"
	"github.com/arpc-go/arpc/codec/cbor"
	"github.com/arpc-go/arpc/codec/msgpack"
	"github.com/arpc-go/arpc/extension/command"
)

// messages is a codec as that of Protocol Buffers: it takes pointers to messages alone.
// The module of codec/protobuf tests the real one with commands.
type messages struct{}

type message interface {
	marshal() []byte
	unmarshal(data []byte)
}

func (messages) Marshal(v any) ([]byte, error) {
	if m, ok := v.(message); ok {
		return m.marshal(), nil
	}
	return nil, fmt.Errorf("%T is no message", v)
}

func (messages) Unmarshal(data []byte, v any) error {
	m, ok := v.(message)
	if !ok {
		return fmt.Errorf("%T is no message", v)
	}
	m.unmarshal(data)
	return nil
}

// text is what a generator would make. An empty one takes no bytes.
type text struct{ s string }

func (m *text) marshal() []byte { return []byte(m.s) }

func (m *text) unmarshal(data []byte) { m.s = string(data) }

// greet is a command made of it.
type greet struct{ text }

func (g *greet) Exec(_ context.Context, greeting string, reply *command.Reply[*text]) error {
	if g.s == "nobody" {
		return nil
	}
	if err := reply.Send(&text{greeting + g.s}); err != nil || g.s != "all" {
		return err
	}
	return reply.Last(&text{})
}

// leave has no results.
type leave struct{ text }

func (*leave) Exec(_ context.Context, _ string, reply *command.Reply[command.None]) error {
	return reply.Last(command.None{})
}

func TestC14_CodecOfMessagesAlone(t *testing.T) {
	reg := command.NewRegistry[string]()
	command.Register[string, *greet](reg)
	command.Register[string, *leave](reg)
	arpctest.Each(t, func(t *testing.T, p *arpctest.Pair) {
		s := reg.Sender(p.Client)
		got, err := command.Send(patient(t), s, &greet{text{"you"}})
		require.NoError(t, err)
		require.Equal(t, &text{"hello, you"}, got)
		got, err = command.Send(patient(t), s, &greet{})
		require.NoError(t, err, "a command without bytes")
		require.Equal(t, &text{"hello, "}, got)
		_, err = command.Send(patient(t), s, &leave{})
		require.NoError(t, err)
		_, err = command.Send(patient(t), s, &greet{text{"nobody"}})
		require.ErrorContains(t, err, "has no result")

		var values []string
		for r, err := range command.SendMulti(patient(t), s, &greet{text{"all"}}) {
			require.NoError(t, err)
			values = append(values, r.Value.s)
		}
		require.Equal(t, []string{"hello, all", ""}, values, "a result without bytes is a result")
		for range command.SendMulti(patient(t), s, &leave{}) {
		}
	}, arpctest.ServerOptions(arpc.WithCodec(messages{})), arpctest.ClientOptions(arpc.WithCodec(messages{})),
		arpctest.Setup(func(s *arpc.Server, _ *arpc.Handler) { reg.Handle(s.Handler, "hello, ") }))
}

func TestC14_Codecs(t *testing.T) {
	for name, c := range map[string]codec.Codec{"json": codec.JSON{}, "encoding/json": codec.StdJSON{}, "cbor": cbor.New(), "msgpack": msgpack.New()} {
		t.Run(name, func(t *testing.T) {
			_, s := pair(t, arpctest.Memory(), count, arpctest.ServerOptions(arpc.WithCodec(c)), arpctest.ClientOptions(arpc.WithCodec(c)))
			for _, send := range ways {
				values, err := send(patient(t), s, order{1})
				require.NoError(t, err)
				require.Equal(t, []int{1}, values)
			}
			values, last, err := all(patient(t), s, order{20})
			require.NoError(t, err)
			require.True(t, last)
			require.Equal(t, upTo(20), values)
		})
	}
}

// say has results that travel raw.
type say struct{ Words []string }

func (c say) Exec(_ context.Context, _ *desk, reply *command.Reply[string]) error {
	for _, w := range c.Words {
		if err := reply.Send(w); err != nil {
			return err
		}
	}
	return nil
}

func TestTextsAndBytesTravelRaw(t *testing.T) {
	reg := command.NewRegistry[*desk]()
	command.Register[*desk, say](reg)
	arpctest.Each(t, func(t *testing.T, p *arpctest.Pair) {
		words := []string{"", "a", "\xff\x00"}
		var got []string
		for r, err := range command.SendMulti(patient(t), reg.Sender(p.Client), say{words[:2]}) {
			require.NoError(t, err)
			got = append(got, r.Value)
		}
		require.Equal(t, words[:2], got)
		one, err := command.Send(patient(t), reg.Sender(p.Client), say{words[:1]})
		require.NoError(t, err)
		require.Empty(t, one, "an empty text is a result")
	}, arpctest.Setup(func(s *arpc.Server, _ *arpc.Handler) { reg.Handle(s.Handler, &desk{}) }))
}

// blob has bytes as its only result.
type blob struct{ N int }

func (b blob) Exec(_ context.Context, _ *desk, reply *command.Reply[[]byte]) error {
	return reply.Last(make([]byte, b.N))
}

func TestBytesAsTheOnlyResult(t *testing.T) {
	reg := command.NewRegistry[*desk]()
	command.Register[*desk, blob](reg)
	p := arpctest.New(t, arpctest.TCP(), arpctest.Setup(func(s *arpc.Server, _ *arpc.Handler) { reg.Handle(s.Handler, &desk{}) }))
	for _, n := range []int{0, 1, 1 << 20} {
		b, err := command.Send(patient(t), reg.Sender(p.Client), blob{n})
		require.NoError(t, err)
		require.Equal(t, make([]byte, n), b)
		for r, err := range command.SendMulti(patient(t), reg.Sender(p.Client), blob{n}) {
			require.NoError(t, err)
			require.Equal(t, b, r.Value)
		}
	}
}

// picky cannot encode 13, nor decode 666.
type picky struct{ codec.JSON }

var errPicky = errors.New("13 is not for me")

func (p picky) Marshal(v any) ([]byte, error) { return p.MarshalAppend(nil, v) }

func (p picky) MarshalAppend(dst []byte, v any) ([]byte, error) {
	if o, ok := v.(order); ok && o.N == 13 || v == 13 {
		return dst, errPicky
	}
	return p.JSON.MarshalAppend(dst, v)
}

func (p picky) Unmarshal(data []byte, v any) error {
	err := p.JSON.Unmarshal(data, v)
	if o, ok := v.(*order); ok && o.N == 666 {
		return errPicky
	}
	if n, ok := v.(*int); ok && *n == 666 {
		return errPicky
	}
	return err
}

func TestWhatCannotBeCodedIsAnError(t *testing.T) {
	_, s := pair(t, arpctest.Memory(), func(_ context.Context, o order, reply *command.Reply[int]) error {
		return reply.Last(o.N + 1)
	}, arpctest.ServerOptions(arpc.WithCodec(picky{})), arpctest.ClientOptions(arpc.WithCodec(picky{})))
	for name, send := range ways {
		t.Run(name, func(t *testing.T) {
			_, err := send(patient(t), s, order{13})
			require.ErrorIs(t, err, errPicky, "the command, here")
			require.True(t, arpc.SafeToRetry(err))
			_, err = send(patient(t), s, order{666})
			require.Equal(t, arpc.CodeInvalidArgument, arpc.CodeOf(err), "the command, there")
			require.True(t, arpc.IsRemote(err))
			_, err = send(patient(t), s, order{12})
			require.Equal(t, arpc.CodeInternal, arpc.CodeOf(err), "the result, there")
			require.True(t, arpc.IsRemote(err))
			_, err = send(patient(t), s, order{665})
			require.ErrorIs(t, err, errPicky, "the result, here")
			require.False(t, arpc.SafeToRetry(err))
			values, err := send(patient(t), s, order{1})
			require.NoError(t, err)
			require.Equal(t, []int{2}, values)
		})
	}
}
