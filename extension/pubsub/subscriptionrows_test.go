package pubsub_test

import (
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/arpc-go/arpc"
	"github.com/arpc-go/arpc/extension/pubsub"
	"github.com/arpc-go/arpc/extension/pubsub/internal/proto"
	"github.com/arpc-go/arpc/middleware/coder/gzip"
	"github.com/stretchr/testify/require"
)

// inPlace is a coder that rewrites messages where they are.
type inPlace struct{}

func (inPlace) Encode(_ *arpc.Client, m *arpc.Message) *arpc.Message {
	for i := range m.Data() {
		m.Data()[i] ^= 0x55
	}
	m.SetFlagBit(3, true)
	return m
}

func (c inPlace) Decode(client *arpc.Client, m *arpc.Message) *arpc.Message {
	if m.IsFlagBitSet(3) {
		c.Encode(client, m)
		m.SetFlagBit(3, false)
	}
	return m
}

// Row 6: a message is made once and coded once, and everybody gets these bytes, those
// too who get it later than others.
func TestRow06TheSameBytesForEverybody(t *testing.T) {
	for name, coder := range map[string]arpc.MessageCoder{"in place": inPlace{}, "gzip": gzip.New(gzip.WithThreshold(64))} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *testing.T) {
				s := serveMemory(t)
				s.Handler.UseCoder(coder)
				var all []*peer
				for i := range 20 {
					p := s.peerWith(func(h *arpc.Handler) { h.UseCoder(coder) })
					p.mustOpen(proto.Opening{Number: 1, Filter: "a", WindowMessages: 1 + i, WindowBytes: wide})
					require.Equal(t, []string{"started"}, p.take())
					all = append(all, p)
				}
				var want []string
				for i := range 100 {
					text := strings.Repeat(fmt.Sprint(i), 50)
					want = append(want, "a "+text)
					s.mustPublish("a", text)
				}
				for _, p := range all {
					p.consume(1, 1000)
					require.Equal(t, want, p.take())
				}
				require.Equal(t, uint64(100), s.Statistics().Encoded)
			})
		})
	}
}

// Row 7: what is on its way to slow subscribers stays as it was published, whatever
// becomes of the memory that it came from.
func TestRow07WhatIsOnItsWayStaysAsItWas(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		s := serveMemory(t, pubsub.WithServerOptions(arpc.WithSendQueue(4, 4<<10)))
		publisher := s.peer()
		var all []*peer
		for i := range 10 {
			p := s.peer()
			p.mustOpen(proto.Opening{Number: 1, Filter: "a", WindowMessages: 1 + i, WindowBytes: wide})
			require.Equal(t, []string{"started"}, p.take())
			all = append(all, p)
		}
		var want []string
		buf := make([]byte, 100)
		for i := range 300 {
			n := copy(buf, strings.Repeat(fmt.Sprint(i), 10))
			want = append(want, "a "+string(buf[:n]))
			if i%2 == 0 {
				require.NoError(t, s.Publish("a", buf[:n]))
			} else {
				require.NoError(t, publisher.publish("a", string(buf[:n])))
			}
			clear(buf)
			all[i%len(all)].consume(1, 3)
		}
		for _, p := range all {
			p.consume(1, 1000)
			require.Equal(t, want, p.take())
		}
	})
}

// Row 9: messages of one publisher do not overtake each other, whatever they have to
// wait for on their way.
func TestRow09MessagesDoNotOvertakeEachOther(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		s := serveMemory(t, pubsub.WithServerOptions(arpc.WithSendQueue(8, 4<<10)))
		publisher := s.peer()
		var all []*peer
		for i := range 8 {
			p := s.peer()
			p.mustOpen(proto.Opening{Number: 1, Filter: "a", WindowMessages: 5 + 10*i, WindowBytes: wide, QueueMessages: 5000, QueueBytes: wide})
			require.Equal(t, []string{"started"}, p.take())
			all = append(all, p)
		}
		var working sync.WaitGroup
		for _, p := range all {
			working.Go(func() {
				for range 100 {
					time.Sleep(time.Millisecond)
					p.consume(1, 20)
				}
			})
		}
		for i := range 1000 {
			m := proto.Publication[string]{Topic: "a", Data: fmt.Append(nil, i+1), Time: 1}
			if i%3 == 0 {
				require.NoError(t, publisher.Call(proto.Send, m.Append(nil), nil, time.Minute))
			} else {
				require.NoError(t, publisher.Notify(proto.Send, m.Append(nil), time.Minute))
			}
			if i%50 == 0 {
				time.Sleep(time.Millisecond)
			}
		}
		working.Wait()
		for _, p := range all {
			require.Equal(t, numbers("a", 1, 1000), p.take())
		}
	})
}

// Row 14: a subscription that takes nothing holds up neither the others of its
// connection nor the calls on it.
func TestRow14ASubscriptionThatTakesNothingHoldsUpNobody(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		s := serveMemory(t)
		s.Handler.Handle("/echo", func(ctx *arpc.Context) { ctx.WriteBytes(ctx.Body()) })
		p := s.peer()
		p.subscribe(2, "other")
		p.mustOpen(proto.Opening{Number: 1, Filter: "stuck", WindowMessages: 3, WindowBytes: wide})
		require.Equal(t, []string{"started"}, p.take())
		s.publishNumbers("stuck", 1, 100)
		require.Equal(t, numbers("stuck", 1, 3), p.take())
		s.publishNumbers("other", 1, 100)
		require.Equal(t, numbers("other", 1, 100), p.take())
		require.NoError(t, p.Call("/echo", "x", nil, time.Minute))
		p.consume(1, 2)
		require.Equal(t, numbers("stuck", 4, 5), p.take())
		p.consume(1, 1000)
		require.Equal(t, numbers("stuck", 6, 100), p.take())
	})
}
