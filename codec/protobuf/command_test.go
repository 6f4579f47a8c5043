package protobuf_test

import (
	"context"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/arpc-go/arpc"
	"github.com/arpc-go/arpc/arpctest"
	"github.com/arpc-go/arpc/codec/protobuf"
	"github.com/arpc-go/arpc/codec/protobuf/example/weatherpb"
	"github.com/arpc-go/arpc/extension/command"
)

// forecast is a command whose fields are those of a message: what embeds a generated
// type is a message too.
type forecast struct{ weatherpb.City }

func (f *forecast) Exec(_ context.Context, sky string, reply *command.Reply[*weatherpb.Weather]) error {
	if f.GetName() == "" {
		return arpc.NewError(arpc.CodeInvalidArgument, "which city?")
	}
	for day := range 3 {
		if err := reply.Send(&weatherpb.Weather{Sky: sky, Celsius: float64(day)}); err != nil {
			return err
		}
	}
	return reply.Last(&weatherpb.Weather{})
}

// today has one result, close none.
type today struct{ weatherpb.City }

func (t *today) Exec(_ context.Context, sky string, reply *command.Reply[*weatherpb.Weather]) error {
	return reply.Last(&weatherpb.Weather{Sky: sky + " over " + t.GetName()})
}

type closeDown struct{ weatherpb.City }

func (*closeDown) Exec(context.Context, string, *command.Reply[command.None]) error { return nil }

func TestCommands(t *testing.T) {
	reg := command.NewRegistry[string]()
	command.Register[string, *forecast](reg)
	command.Register[string, *today](reg)
	command.Register[string, *closeDown](reg)
	use := arpc.WithCodec(protobuf.Codec{})
	arpctest.Each(t, func(t *testing.T, p *arpctest.Pair) {
		s := reg.Sender(p.Client)
		w, err := command.Send(t.Context(), s, &today{weatherpb.City{Name: "Lisbon"}})
		require.NoError(t, err)
		require.Equal(t, "sunny over Lisbon", w.GetSky())
		_, err = command.Send(t.Context(), s, &closeDown{})
		require.NoError(t, err)

		days := 0
		for r, err := range command.SendMulti(t.Context(), s, &forecast{weatherpb.City{Name: "Porto"}}) {
			require.NoError(t, err)
			if !r.Last {
				require.Equal(t, float64(days), r.Value.GetCelsius())
			}
			days++
		}
		require.Equal(t, 4, days)
		for _, err = range command.SendMulti(t.Context(), s, &forecast{}) {
		}
		require.EqualError(t, err, "which city?")
	}, arpctest.ServerOptions(use), arpctest.ClientOptions(use),
		arpctest.Setup(func(s *arpc.Server, _ *arpc.Handler) { reg.Handle(s.Handler, "sunny") }))
}
