package main

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// small forms of all workloads.
var smallWorkloads = []Workload{
	echo{name: "echo", conns: 2, callers: 4, size: 64},
	echo{name: "hops", conns: 3, hops: true, size: 64},
	echo{name: "JSON", conns: 1, callers: 4, json: true},
	echo{name: "delay", conns: 2, callers: 8, size: 64, delay: time.Millisecond},
	notify{name: "notify", senders: 3, size: 110},
	broadcast{name: "broadcast", subscribers: 5, size: 110, ahead: 8},
	broadcast{name: "broadcast-1", subscribers: 5, size: 110, ahead: 1},
	idle{name: "idle", conns: 5},
	held{name: "held", conns: 2, callers: 20, size: 64},
	stalled{name: "stalled", peers: 2, size: 4 << 10, total: 256 << 10},
}

func brief(s *remote) *Meter { return newMeter(0, 50*time.Millisecond, s) }

func TestWorkloadsMeasure(t *testing.T) {
	for _, w := range smallWorkloads {
		for _, p := range []Participant{ours{}, ours{async: true}} {
			t.Run(w.Name()+" "+p.Name(), func(t *testing.T) {
				require.NotEmpty(t, w.Title())
				s := serveHere(t, p, w)
				m := brief(s)
				require.NoError(t, w.Run(t.Context(), p, s, m))
				require.NotZero(t, m.result.Calls)
				require.NotZero(t, m.result.Client.Mallocs)
				require.NotZero(t, m.result.Server.Mallocs)
			})
		}
	}
}

func TestWrongResultsEndTheRun(t *testing.T) {
	for _, w := range smallWorkloads {
		if w.Name() == "stalled" {
			continue // its reader is that of broadcast
		}
		t.Run(w.Name(), func(t *testing.T) {
			s := serveHere(t, corrupting{}, w)
			m := newMeter(0, time.Second, s)
			m.patience = 100 * time.Millisecond
			err := w.Run(t.Context(), corrupting{}, s, m)
			require.Error(t, err)
			require.Regexp(t, "wrong (answer|notification)", err.Error())
		})
	}
}

func TestWhoeverCannotIsLeftOut(t *testing.T) {
	for _, w := range smallWorkloads {
		t.Run(w.Name(), func(t *testing.T) {
			s := serveHere(t, mute{}, w)
			require.ErrorIs(t, w.Run(t.Context(), mute{}, s, brief(s)), errUnfit)
		})
	}
}

func TestBlockingHandlersAreLeftOut(t *testing.T) {
	inline := lesismal{}
	for _, w := range []Workload{echo{conns: 1, callers: 1, size: 64, delay: time.Second}, held{conns: 1, callers: 1, size: 64}} {
		require.ErrorIs(t, w.Run(t.Context(), inline, nil, nil), errUnfit)
	}
}

func TestWorkChecksNotifications(t *testing.T) {
	message := func(id, n uint64) []byte {
		b := newNotice(64)
		stamp(b, id, n)
		return b
	}
	changed := message(0, 2)
	changed[30]++
	for name, c := range map[string]struct {
		bodies [][]byte
		fault  string
	}{
		"in order":         {[][]byte{message(0, 1), message(1, 1), message(0, 2)}, ""},
		"lost":             {[][]byte{message(0, 1), message(0, 3)}, "number 3 came after 1"},
		"twice":            {[][]byte{message(0, 1), message(0, 1)}, "number 1 came after 1"},
		"in another order": {[][]byte{message(0, 2), message(0, 1)}, "number 2 came after 0"},
		"changed":          {[][]byte{message(0, 1), changed}, "64 bytes"},
		"cut":              {[][]byte{message(0, 1)[:20]}, "20 bytes"},
		"of nobody":        {[][]byte{message(maxSenders, 1)}, "64 bytes"},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWork(0, false)
			for _, b := range c.bodies {
				w.Notice(b)
			}
			var s state
			w.state(&s)
			if c.fault == "" {
				require.NoError(t, s.err())
				require.Equal(t, uint64(len(c.bodies)), s.notices())
			} else {
				require.ErrorContains(t, s.err(), c.fault)
			}
		})
	}
}

func TestUnorderedNotificationsAreCounted(t *testing.T) {
	sent := &notifyLoop{tally: &tally{}}
	sent.calls.Store(3)
	for name, c := range map[string]struct {
		numbers []uint64
		ok      bool
	}{
		"each once":        {[]uint64{3, 1, 2}, true},
		"one for another":  {[]uint64{1, 2, 2}, false},
		"one is missing":   {[]uint64{1, 2}, false},
		"one is too many":  {[]uint64{1, 2, 3, 3}, false},
		"one is not known": {[]uint64{1, 2, 4}, false},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWork(0, false)
			for _, n := range c.numbers {
				b := newNotice(64)
				stamp(b, 0, n)
				w.NoticeUnordered(b)
			}
			var s state
			w.state(&s)
			var res Result
			err := compareSenders(s.Senders, []loop{sent}, &res)
			if c.ok {
				require.NoError(t, err)
				require.True(t, res.Unordered)
			} else {
				require.ErrorIs(t, err, errWrongNotice)
			}
		})
	}
}

// A run that is given up must not wait for answers that never come. arpc 1.2.17
// ends its calls too, with data races that are its own.
func TestCloseEndsCalls(t *testing.T) {
	for _, p := range []Participant{ours{}, ours{async: true}, grpcEcho{}, limit{}, limitRaw{}} {
		t.Run(p.Name(), func(t *testing.T) {
			ctx, cancel := context.WithCancel(t.Context())
			w := echo{name: "T", conns: 2, callers: 4, size: 64}
			s := serveHere(t, p, w)
			m := newMeter(0, time.Hour, s)
			time.AfterFunc(20*time.Millisecond, cancel)
			require.ErrorIs(t, w.Run(ctx, p, s, m), context.Canceled)
		})
	}
}

func TestServerWithoutBroadcastSaysSo(t *testing.T) {
	w := newWork(0, false)
	c := newCaster(w)
	c.allow(1, 64)
	require.Eventually(t, func() bool {
		var s state
		w.state(&s)
		return s.Fault == errNoBroadcast.Error()
	}, patience, time.Millisecond)
	c.stop()
}
