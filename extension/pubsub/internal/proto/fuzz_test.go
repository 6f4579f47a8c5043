package proto

import (
	"testing"

	"github.com/stretchr/testify/require"
)

// again parses, appends and parses: what comes out is the same, and no longer than
// what came in.
func again[T any](t *testing.T, body []byte, parse func([]byte) (T, error), write func(T) []byte, appended bool) {
	v, err := parse(body)
	if err != nil {
		return
	}
	written := write(v)
	if appended {
		require.LessOrEqual(t, len(written), len(body))
	}
	got, err := parse(written)
	require.NoError(t, err)
	require.Equal(t, write(v), write(got))
}

func FuzzDelivered(f *testing.F) {
	seed(f, "Delivered")
	f.Fuzz(func(t *testing.T, body []byte) {
		again(t, body, ParseDelivered, func(d Delivered[[]byte]) []byte { return d.Append(nil) }, true)
	})
}

func FuzzPublication(f *testing.F) {
	seed(f, "Publication")
	f.Fuzz(func(t *testing.T, body []byte) {
		again(t, body, ParsePublication, func(p Publication[[]byte]) []byte { return p.Append(nil) }, true)
	})
}

// FuzzBatch takes a batch apart to its end, and makes one of what is sound in it.
func FuzzBatch(f *testing.F) {
	seed(f, "Batch")
	f.Fuzz(func(t *testing.T, body []byte) {
		var sound []Publication[[]byte]
		var again []byte
		for rest := body; len(rest) > 0; {
			before := len(rest)
			p, after, err := NextOfBatch(rest)
			require.Less(t, len(after), before)
			if rest = after; err == nil {
				sound = append(sound, p)
				again = p.AppendToBatch(again)
			}
		}
		require.LessOrEqual(t, len(again), len(body))
		for _, want := range sound {
			p, rest, err := NextOfBatch(again)
			require.NoError(t, err)
			require.Equal(t, want.Append(nil), p.Append(nil))
			again = rest
		}
		require.Empty(t, again)
	})
}

func FuzzSmall(f *testing.F) {
	seed(f, "Position", "Consumed", "Settled", "Number")
	f.Fuzz(func(t *testing.T, body []byte) {
		again(t, body, ParsePosition, func(p Position[[]byte]) []byte { return p.Append(nil) }, true)
		again(t, body, ParseConsumed, func(r Consumed) []byte { return r.Append(nil) }, true)
		again(t, body, ParseSettled, func(r Settled) []byte { return r.Append(nil) }, true)
		again(t, body, ParseNumber, func(n uint64) []byte { return AppendNumber(nil, n) }, true)
	})
}

// The records of fields: windows are written also when they were left out.
func FuzzRecords(f *testing.F) {
	seed(f, "Opening", "Opened", "Noted", "Members", "Announced")
	f.Fuzz(func(t *testing.T, body []byte) {
		again(t, body, ParseOpening, func(o Opening) []byte { return o.Append(nil) }, false)
		again(t, body, ParseOpened, func(o Opened) []byte { return o.Append(nil) }, true)
		again(t, body, ParseNoted, func(n Noted) []byte { return n.Append(nil) }, true)
		again(t, body, ParseMembers, func(m []Member) []byte { return AppendMembers(nil, m) }, true)
		again(t, body, ParseAnnounced, func(a Announced) []byte { return a.Append(nil) }, true)
	})
}

func FuzzTopic(f *testing.F) {
	seed(f, "Topic")
	f.Fuzz(func(t *testing.T, body []byte) {
		topic, err := ParseTopic(body)
		if err == nil {
			require.Equal(t, string(body), string(topic.Append(nil)))
		}
	})
}

// seed adds the vectors of some records.
func seed(f *testing.F, records ...string) {
	for _, v := range vectors() {
		for _, record := range records {
			if v.Record == record {
				f.Add(unhex(f, v.Hex))
			}
		}
	}
}
