package arpc_test

import (
	"sync/atomic"
	"testing"
	"time"

	"github.com/arpc-go/arpc"
	"github.com/arpc-go/arpc/arpctest"
	"github.com/stretchr/testify/require"
)

// suiteGauge counts how many of a handler run at the same time, at most.
type suiteGauge struct{ now, most atomic.Int32 }

func (g *suiteGauge) enter() {
	for n := g.now.Add(1); ; {
		most := g.most.Load()
		if n <= most || g.most.CompareAndSwap(most, n) {
			return
		}
	}
}

func (g *suiteGauge) leave() { g.now.Add(-1) }

// suiteCallers has n callers call at the same time, and passes on what they get.
func suiteCallers(c *arpc.Client, n int, method, body string) <-chan suiteOutcome {
	outcomes := make(chan suiteOutcome, n)
	for range n {
		go func() {
			var o suiteOutcome
			o.err = c.Call(method, body, &o.text, suitePatience)
			outcomes <- o
		}()
	}
	return outcomes
}

// Requests over the limits wait, and are answered in the end.
func TestSuiteInflightWaits(t *testing.T) {
	limits := map[string]struct {
		option arpc.Option
		most   int
	}{
		"number": {arpc.WithMaxInflight(3), 3},
		"bytes":  {arpc.WithMaxInflightBytes(100 << 10), 2},
	}
	for name, limit := range limits {
		t.Run(name, func(t *testing.T) {
			arpctest.Each(t, func(t *testing.T, p *arpctest.Pair) {
				var gauge suiteGauge
				gate := newSuiteGate()
				p.Server.Handler.Handle("/wait", func(ctx *arpc.Context) {
					gauge.enter()
					gate.began <- struct{}{}
					<-gate.release
					gauge.leave() // before the caller may count it as done
					ctx.Write(ctx.Body())
				})
				body := string(suiteBody(45 << 10))
				outcomes := suiteCallers(p.Client, 10, "/wait", body)
				for range limit.most {
					suiteNext(t, gate.began)
				}
				for range cap(outcomes) - limit.most {
					gate.release <- struct{}{}
					suiteNext(t, gate.began)
				}
				close(gate.release)
				for range cap(outcomes) {
					require.Equal(t, suiteOutcome{text: body}, suiteNext(t, outcomes))
				}
				require.LessOrEqual(t, int(gauge.most.Load()), limit.most)
				suiteAlive(t, p)
			}, arpctest.Setup(suiteWithEcho), arpctest.ServerOptions(limit.option))
		})
	}
}

// While the end at its limit waits for an answer itself, it refuses instead of
// waiting: the answer comes through the same connection. A peer of version 2 knows
// the limit and waits by itself.
func TestSuiteInflightRefused(t *testing.T) {
	arpctest.Each(t, func(t *testing.T, p *arpctest.Pair) {
		atClient, atServer := newSuiteGate(), newSuiteGate()
		p.Client.Handler.Handle("/wait", atClient.handle)
		p.Server.Handler.Handle("/wait", atServer.handle)
		p.Server.Handler.Handle("/ask", func(ctx *arpc.Context) {
			var reply string
			if err := ctx.Client.Call("/wait", "asked", &reply, suitePatience); err != nil {
				ctx.Error(err)
				return
			}
			ctx.Write(reply)
		})
		asked := suiteAsync(t, p.Client, "/ask", nil)
		suiteNext(t, atClient.began)
		var waiting []<-chan suiteOutcome
		for range 2 {
			waiting = append(waiting, suiteAsync(t, p.Client, "/wait", "waited for"))
			suiteNext(t, atServer.began)
		}
		for range 5 {
			if p.Version == 1 {
				suiteRemote(t, p.Client.Call("/wait", nil, nil, suitePatience), "WithMaxInflight")
			} else {
				suiteUnsent(t, p.Client.Call("/wait", nil, nil, time.Millisecond), arpc.CodeDeadlineExceeded)
			}
		}
		close(atClient.release)
		require.Equal(t, suiteOutcome{text: "asked"}, suiteNext(t, asked))
		close(atServer.release)
		for _, outcome := range waiting {
			require.Equal(t, suiteOutcome{text: "waited for"}, suiteNext(t, outcome))
		}
		suiteAlive(t, p)
	}, arpctest.Setup(suiteWithEcho), arpctest.ServerOptions(arpc.WithMaxInflight(3)))
}

// A detached request counts until it is answered.
func TestSuiteInflightDetached(t *testing.T) {
	arpctest.Each(t, func(t *testing.T, p *arpctest.Pair) {
		detached := make(chan *arpc.Context, 10)
		p.Server.Handler.Handle("/later", func(ctx *arpc.Context) { detached <- ctx.Detach() })
		outcomes := suiteCallers(p.Client, 6, "/later", "x")
		for range 3 {
			first, second := suiteNext(t, detached), suiteNext(t, detached)
			require.Empty(t, detached, "two are the limit")
			require.NoError(t, first.Write("x"))
			require.NoError(t, second.Write("x"))
		}
		for range cap(outcomes) {
			require.Equal(t, suiteOutcome{text: "x"}, suiteNext(t, outcomes))
		}
		suiteAlive(t, p)
	}, arpctest.Setup(suiteWithEcho), arpctest.ServerOptions(arpc.WithMaxInflight(2)))
}
