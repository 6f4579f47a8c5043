package pubsub_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/arpc-go/arpc"
	"github.com/arpc-go/arpc/arpctest"
	"github.com/arpc-go/arpc/extension/pubsub"
	"github.com/arpc-go/arpc/extension/pubsub/internal/proto"
)

// startsAt has the script begin subscriptions at a head, as a server with history does.
func (s *script) startsAt(epoch string, head uint64, recovered bool) {
	s.onOpen = func(proto.Opening) (proto.Opened, error) { return proto.Opened{Epoch: epoch, Offset: head}, nil }
	s.onNote = func(o proto.Opening) *proto.Noted {
		n := &proto.Noted{Kind: proto.NoteStarted, Recovered: recovered, Epoch: epoch, Offset: head}
		if o.Start == proto.StartAfter && recovered {
			n.Epoch, n.Offset = o.Epoch, o.Offset
		}
		return n
	}
}

func starting(o proto.Opening) string { return fmt.Sprint(o.Start, o.Epoch, o.Offset) }

func TestClientGoesOnBehindTheLastMessage(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s := newScript(t)
		s.startsAt("e", 3, true)
		c := s.client()
		var d diary
		sub, err := c.SubscribeWith(within(t), "t", d.message, pubsub.OnEvent(d.event))
		require.NoError(t, err)
		s.deliver(numbered("t", 4), numbered("t", 7))
		require.Equal(t, []string{"started true", "4", "7"}, d.take())

		s.cut()
		require.Equal(t, fmt.Sprint(proto.StartAfter, "e", 7), starting(s.opening()))
		s.deliver(numbered("t", 7), numbered("t", 8), numbered("t", 8), numbered("t", 6), numbered("t", 9))
		require.Equal(t, []string{"interrupted", "started true", "8", "9"}, d.take())
		require.Equal(t, uint64(3), sub.Statistics().Doubles)
		require.Zero(t, sub.Statistics().Unrecovered)
	})
}

func TestClientIsToldThatHistoryWasTooShort(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s := newScript(t)
		s.startsAt("e", 3, true)
		c := s.client()
		var d diary
		sub, err := c.SubscribeWith(within(t), "t", d.message, pubsub.OnEvent(d.event))
		require.NoError(t, err)
		s.deliver(numbered("t", 4))
		s.startsAt("other", 1, false) // another epoch, with smaller offsets
		s.cut()
		require.Equal(t, fmt.Sprint(proto.StartAfter, "e", 4), starting(s.opening()))
		s.deliver(numbered("t", 2), numbered("t", 3))
		require.Equal(t, []string{"started true", "4", "interrupted", "started false", "2", "3"}, d.take())
		require.Equal(t, uint64(1), sub.Statistics().Unrecovered)
		require.Equal(t, pubsub.Position{Epoch: "other", Offset: 3}, sub.Position())
	})
}

// The place to go on from is known before any message, and before the first note.
func TestClientRecoversWhatCameBeforeTheFirstMessage(t *testing.T) {
	cases := map[string]struct {
		noted  bool
		opts   []pubsub.SubscribeOption
		second string
		events []string
	}{
		"new":                 {true, nil, fmt.Sprint(proto.StartAfter, "e", 3), []string{"started true", "interrupted", "started true"}},
		"new, no note":        {false, nil, fmt.Sprint(proto.StartAfter, "e", 3), []string{"started true"}},
		"all":                 {true, asking(pubsub.WithStart(pubsub.Start{Kind: pubsub.StartAll})), fmt.Sprint(proto.StartAfter, "e", 3), []string{"started true", "interrupted", "started true"}},
		"all, no note":        {false, asking(pubsub.WithStart(pubsub.Start{Kind: pubsub.StartAll})), fmt.Sprint(proto.StartAll, "", 0), []string{"started true"}},
		"last, no note":       {false, asking(pubsub.WithStart(pubsub.Start{Kind: pubsub.StartLast})), fmt.Sprint(proto.StartLast, "", 0), []string{"started false"}},
		"a position, no note": {false, asking(pubsub.StartAt(pubsub.Position{Epoch: "e", Offset: 1})), fmt.Sprint(proto.StartAfter, "e", 1), []string{"started true"}},
	}
	for name, k := range cases {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				s := newScript(t)
				s.startsAt("e", 3, true)
				c := s.client()
				note := s.onNote
				if !k.noted {
					s.onNote = func(proto.Opening) *proto.Noted { return nil }
				}
				var d diary
				_, err := c.SubscribeWith(within(t), "t", d.message, append(k.opts, pubsub.OnEvent(d.event))...)
				require.NoError(t, err)
				synctest.Wait()
				s.onNote = note
				s.cut()
				require.Equal(t, k.second, starting(s.opening()))
				require.Equal(t, k.events, d.take())
			})
		})
	}
}

// Without history nobody can know what was missed, and the client says so.
func TestClientWithoutHistorySaysThatItMayHaveMissedSomething(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s := newScript(t)
		c := s.client()
		var d, group, acked diary
		_, err := c.SubscribeWith(within(t), "t", d.message, pubsub.OnEvent(d.event))
		require.NoError(t, err)
		_, err = c.SubscribeWith(within(t), "t", group.message, pubsub.OnEvent(group.event), pubsub.WithGroup("g"))
		require.NoError(t, err)
		_, err = c.SubscribeWith(within(t), "t", acked.message, pubsub.OnEvent(acked.event), pubsub.WithGroupAck("a", pubsub.GroupOptions{}))
		require.NoError(t, err)
		s.asked()
		s.cut()
		for _, o := range s.asked() {
			require.Equal(t, fmt.Sprint(proto.StartNew, "", 0), starting(o))
		}
		require.Equal(t, []string{"started true", "interrupted", "started false"}, d.take())
		require.Equal(t, []string{"started true", "interrupted", "started false"}, group.take())
		require.Equal(t, []string{"started true", "interrupted", "started true"}, acked.take())
	})
}

// A cut at any point of subscribing leads to a subscription all the same.
func TestClientSubscribesThroughReconnects(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s := newScript(t)
		c := s.client()
		cuts := 0
		s.onOpen = func(proto.Opening) (proto.Opened, error) {
			if cuts < 3 {
				cuts++
				s.peer().Stop() // before the answer
			}
			return proto.Opened{}, nil
		}
		var d diary
		_, err := c.SubscribeWith(within(t), "t", d.message, pubsub.OnEvent(d.event))
		require.NoError(t, err)
		s.deliver(message("t", "x"))
		require.Equal(t, []string{"started true", "x"}, d.take())
		require.Len(t, s.asked(), 4)
	})
}

func TestClientSubscribesWhenThereIsAConnection(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s := newScript(t)
		at := &site{ln: s.ln}
		c, err := pubsub.NewClient(at.dial)
		require.NoError(t, err)
		defer c.Stop()
		at.set(nil)
		s.peer().Stop()
		synctest.Wait()
		short, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		_, err = c.SubscribeWith(short, "t", nothing)
		require.ErrorIs(t, err, context.DeadlineExceeded)
		time.AfterFunc(10*time.Second, func() { at.set(s.ln) })
		_, err = c.SubscribeWith(within(t), "t", nothing)
		require.NoError(t, err)
	})
}

// What comes over a connection that the client has left is not for the subscription
// that goes on over another one.
func TestClientTakesMessagesOfOneConnectionOnly(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s := newScript(t)
		s.startsAt("e", 0, true)
		c := s.client()
		var d diary
		_, err := c.SubscribeWith(within(t), "t", d.message, pubsub.OnEvent(d.event))
		require.NoError(t, err)
		s.deliver(numbered("t", 1))
		s.onNote = func(proto.Opening) *proto.Noted { return nil } // not yet
		s.cut()
		s.deliver(numbered("t", 5)) // without a note before it is nobody's
		require.Equal(t, []string{"started true", "1", "interrupted"}, d.take())
		s.tell(proto.Noted{Number: s.opening().Number, Kind: proto.NoteStarted, Recovered: true, Epoch: "e", Offset: 1})
		s.deliver(numbered("t", 2))
		require.Equal(t, []string{"started true", "2"}, d.take())
	})
}

func TestClientNotesMoveThePosition(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s := newScript(t)
		s.startsAt("e", 2, true)
		c := s.client()
		var d diary
		sub, err := c.SubscribeWith(within(t), "t", d.message, pubsub.OnEvent(d.event), pubsub.WithPresence())
		require.NoError(t, err)
		s.tell(proto.Noted{Number: 1, Kind: proto.NoteLive, Epoch: "e", Offset: 40})
		s.tell(proto.Noted{Number: 1, Kind: proto.NoteLive, Epoch: "e", Offset: 30})
		s.tell(proto.Noted{Number: 1, Kind: proto.NoteGap, Count: 12})
		s.tell(proto.Noted{Filter: "t", Kind: proto.NoteJoined, Member: proto.Member{ID: "ann"}})
		s.tell(proto.Noted{Filter: "t", Kind: proto.NoteLeft, Member: proto.Member{ID: "ann"}})
		s.tell(proto.Noted{Number: 1, Kind: 77})
		require.Equal(t, []string{"started true", "gap 12", "ann joined", "ann left"}, d.take())
		require.Equal(t, pubsub.Position{Epoch: "e", Offset: 40}, sub.Position())

		s.tell(proto.Noted{Number: 1, Kind: proto.NoteInterrupted, Code: 14, Text: "away"})
		s.tell(proto.Noted{Number: 1, Kind: proto.NoteResumed, Recovered: true})
		s.tell(proto.Noted{Number: 1, Kind: proto.NoteInterrupted})
		s.tell(proto.Noted{Number: 1, Kind: proto.NoteResumed, Epoch: "new", Offset: 1})
		s.deliver(numbered("t", 2))
		require.Equal(t, []string{"interrupted", "resumed true", "interrupted", "resumed false", "2"}, d.take())
		require.Equal(t, pubsub.Position{Epoch: "new", Offset: 2}, sub.Position())
		st := sub.Statistics()
		require.Equal(t, []uint64{12, 1, 1, 1}, []uint64{st.Missed, st.Gaps, st.Unrecovered, st.Received})
		require.Equal(t, "interrupted", pubsub.EventInterrupted.String())
		require.Equal(t, "EventKind(99)", pubsub.EventKind(99).String())
	})
}

// A server that did not reach its Broker and then ends a subscription, since something was
// lost, has interrupted it once.
func TestAnInterruptionIsToldOnce(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s := newScript(t)
		s.startsAt("e", 2, true)
		c := s.client()
		var d diary
		_, err := c.SubscribeWith(within(t), "t", d.message, pubsub.OnEvent(d.event))
		require.NoError(t, err)
		s.tell(proto.Noted{Number: 1, Kind: proto.NoteInterrupted, Code: 14, Text: "away"})
		s.startsAt("e", 5, false)
		s.tell(proto.Noted{Number: 1, Kind: proto.NoteEnded, Code: 14, Text: "lost"})
		time.Sleep(time.Minute)
		require.Equal(t, []string{"started true", "interrupted", "started false"}, d.take())
	})
	bubble(t, func(t *testing.T) {
		s := newScript(t)
		s.startsAt("e", 2, true)
		c := s.client()
		var d diary
		_, err := c.SubscribeWith(within(t), "t", d.message, pubsub.OnEvent(d.event))
		require.NoError(t, err)
		for range 2 {
			s.tell(proto.Noted{Number: 1, Kind: proto.NoteInterrupted})
			s.tell(proto.Noted{Number: 1, Kind: proto.NoteInterrupted})
			s.tell(proto.Noted{Number: 1, Kind: proto.NoteResumed, Recovered: true})
		}
		require.Equal(t, []string{"started true", "interrupted", "resumed true", "interrupted", "resumed true"}, d.take())
	})
}

// Cuts at any byte, of any connection: each message once and in order.
func TestClientSurvivesCutsAnywhere(t *testing.T) {
	for seed := range 40 {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			bubble(t, func(t *testing.T) { cutAnywhere(t, seed) })
		})
	}
}

func cutAnywhere(t *testing.T, seed int) {
	const messages = 200
	log := &historyScript{epoch: "e"}
	s := newScript(t)
	s.onOpen, s.opened = log.open, log.opened
	var cut atomic.Int64
	cut.Store(int64(200 + seed*37))
	s.ln.Close()
	s.ln = arpctest.ListenMemory(func(f arpctest.Faults) { f.CutAfter(cut.Add(50 + cut.Load()/2)) })
	go s.server.Serve(s.ln)
	var c *pubsub.Client
	var err error
	for c == nil {
		if c, err = pubsub.NewClient(s.ln.Dial); err != nil {
			c = nil
		}
	}
	defer c.Stop()
	var d diary
	_, err = c.SubscribeWith(within(t), "t", d.message, pubsub.WithWindow(8, 1<<20), pubsub.OnEvent(func(e pubsub.Event) {
		if e.Kind == pubsub.EventStarted && !e.Recovered {
			t.Error("not recovered")
		}
	}))
	require.NoError(t, err)
	for range messages {
		log.publish()
		time.Sleep(50 * time.Millisecond)
	}
	time.Sleep(time.Minute)
	lines := d.take()
	require.Len(t, lines, messages)
	for i, line := range lines {
		require.Equal(t, fmt.Sprint(i+1), line)
	}
}

// historyScript is a topic with a history, and one subscription to it at a time.
type historyScript struct {
	epoch string

	mu   sync.Mutex
	head uint64
	to   *arpc.Client // nil: nobody
	next uint64       // offset that the subscription gets next
}

func (l *historyScript) open(proto.Opening) (proto.Opened, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.to = nil
	return proto.Opened{Epoch: l.epoch, Offset: l.head}, nil
}

func (l *historyScript) opened(c *arpc.Client, o proto.Opening) {
	l.mu.Lock()
	defer l.mu.Unlock()
	from := l.head
	if o.Start == proto.StartAfter {
		from = o.Offset
	}
	n := proto.Noted{Number: o.Number, Kind: proto.NoteStarted, Recovered: true, Epoch: l.epoch, Offset: from}
	push(c, proto.Note, n.Append(nil))
	l.to, l.next = c, from+1
	l.pump()
}

func (l *historyScript) publish() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.head++
	l.pump()
}

// pump sends what is to be sent. Guarded by mu.
func (l *historyScript) pump() {
	for ; l.to != nil && l.next <= l.head; l.next++ {
		d := numbered("t", l.next)
		if errors.Is(push(l.to, proto.Message, d.Append(nil)), arpc.ErrClosed) {
			l.to = nil
			return
		}
	}
}
