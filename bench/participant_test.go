package main

import (
	"bytes"
	"os"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// TestParticipantsDoWhatTheyCan has each participant do all workloads that it is
// made for, which check what comes back.
func TestParticipantsDoWhatTheyCan(t *testing.T) {
	for _, p := range slices.Concat(participants, variants) {
		t.Run(p.Name(), func(t *testing.T) {
			skipRacy(t, p)
			require.NotEmpty(t, p.Setup())
			can := 0
			for _, w := range []Workload{
				echo{name: "echo", conns: 2, callers: 3, size: 128},
				echo{name: "JSON", conns: 1, callers: 3, json: true},
				notify{name: "notify", senders: 3, size: 110},
				broadcast{name: "broadcast", subscribers: 4, size: 110, ahead: 8},
			} {
				s := serveHere(t, p, w)
				err := w.Run(t.Context(), p, s, newMeter(0, 10*time.Millisecond, s))
				if err != nil {
					require.ErrorIs(t, err, errUnfit, w.Name())
					continue
				}
				can++
			}
			require.NotZero(t, can)
		})
	}
}

// skipRacy skips the systems of others under the race detector. Some have data races
// when an end stops (arpc 1.2.17, BuffStreams 2.0.0), which it would report now and
// then: make test has all of them do the same again without it.
func skipRacy(t *testing.T, p Participant) {
	t.Helper()
	switch p.(type) {
	case ours, oursBuff, oursCommands, limit, limitRaw:
		return
	}
	if raceDetector {
		t.Skip("a system of others: tested without the race detector, as some have data races of their own")
	}
}

func TestParticipantsAnswerBodiesOfAllSizes(t *testing.T) {
	for _, p := range slices.Concat(participants, variants) {
		t.Run(p.Name(), func(t *testing.T) {
			skipRacy(t, p)
			conn, err := p.Dial(serveHere(t, p, small).addr)
			require.NoError(t, err)
			defer conn.Close()
			for size := minBody; size <= 2<<20; size *= 3 {
				for _, n := range []int{size, size - 1 + minBody} {
					if err := useOnce(conn, bytes.Repeat([]byte{byte(n)}, n)); err != nil {
						require.ErrorIs(t, err, errUnfit)
						return
					}
				}
			}
		})
	}
}

func TestNamesSayTheVersions(t *testing.T) {
	mod, err := os.ReadFile("go.mod")
	require.NoError(t, err)
	require.Contains(t, string(mod), "github.com/lesismal/arpc v1.2.17")
	require.Contains(t, lesismal{}.Name(), "1.2.17")
	for _, p := range participants {
		require.NotContains(t, p.Name(), "unknown")
	}
}

func TestNamesAreDistinct(t *testing.T) {
	seen := map[string]bool{}
	for _, p := range slices.Concat(participants, variants) {
		require.False(t, seen[p.Name()], p.Name())
		seen[p.Name()] = true
	}
	require.Equal(t, oursName, participants[0].Name())
}

func TestRowsAreKnownByTheirNames(t *testing.T) {
	tables := suite()
	all := known(tables)
	for _, table := range tables {
		for _, row := range table.Rows {
			p, err := all.participant(row.Participant.Name())
			require.NoError(t, err)
			require.Equal(t, row.Participant, p)
			w, err := all.workload(row.Workload.Name())
			require.NoError(t, err)
			require.Equal(t, row.Workload, w)
		}
	}
	_, err := all.workload("nothing")
	require.ErrorContains(t, err, "nothing")
}

func TestTablesAndLabelsAreDistinct(t *testing.T) {
	seen := map[string]bool{}
	for _, table := range suite() {
		require.False(t, seen[table.Name], table.Name)
		seen[table.Name] = true
		labels := map[string]bool{}
		for _, row := range table.Rows {
			require.False(t, labels[row.Label], "%s: %s", table.Name, row.Label)
			labels[row.Label] = true
		}
	}
}
