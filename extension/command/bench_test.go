package command_test

import (
	"context"
	"testing"

	"github.com/arpc-go/arpc"
	"github.com/arpc-go/arpc/arpctest"
	"github.com/arpc-go/arpc/extension/command"
)

// What a command costs beside a call with the same values, with 100 goroutines that
// send over one connection.
func BenchmarkSend(b *testing.B) {
	p, s := pair(b, arpctest.TCP(), double, arpctest.Setup(func(s *arpc.Server, _ *arpc.Handler) {
		s.Handler.Handle("/plain", func(ctx *arpc.Context) {
			var o order
			if err := ctx.Bind(&o); err != nil {
				ctx.Error(err)
				return
			}
			ctx.Write(2 * o.N)
		})
	}))
	for name, send := range map[string]func(ctx context.Context, n int) error{
		"call": func(ctx context.Context, n int) error {
			var twice int
			return p.Client.CallWith(ctx, "/plain", order{n}, &twice)
		},
		"Send": func(ctx context.Context, n int) error {
			_, err := command.Send(ctx, s, order{n})
			return err
		},
		"SendMulti": func(ctx context.Context, n int) (err error) {
			for _, err = range command.SendMulti(ctx, s, order{n}) {
			}
			return err
		},
		"Start": func(ctx context.Context, n int) error {
			pending, err := command.Start(ctx, s, order{n})
			if err != nil {
				return err
			}
			<-pending.Results()
			<-pending.Done()
			return pending.Err()
		},
	} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			b.SetParallelism(50)
			b.RunParallel(func(pb *testing.PB) {
				ctx := b.Context()
				for n := 0; pb.Next(); n++ {
					if err := send(ctx, n); err != nil {
						b.Error(err)
						return
					}
				}
			})
		})
	}
}

// The results of one command after the other.
func BenchmarkResults(b *testing.B) {
	_, s := pair(b, arpctest.TCP(), count)
	b.ReportAllocs()
	for range b.N / 1000 {
		for _, err := range command.SendMulti(b.Context(), s, order{1000}) {
			if err != nil {
				b.Fatal(err)
			}
		}
	}
}
