package memconn_test

import (
	"os"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/arpc-go/arpc/internal/memconn"
)

// sides are the two calls that a deadline ends, each on an end where it waits.
var sides = map[string]struct {
	call func(a *memconn.Conn) (int, error)
	set  func(a *memconn.Conn, t time.Time) error
	free func(t *testing.T, b *memconn.Conn) // lets the call through
}{
	"read": {
		call: func(a *memconn.Conn) (int, error) { return a.Read(make([]byte, 1)) },
		set:  (*memconn.Conn).SetReadDeadline,
		free: func(t *testing.T, b *memconn.Conn) { mustWrite(t, b, "x") },
	},
	"write": {
		call: func(a *memconn.Conn) (int, error) { return a.Write(make([]byte, 1)) },
		set:  (*memconn.Conn).SetWriteDeadline,
		free: func(t *testing.T, b *memconn.Conn) { b.Read(make([]byte, 1)) },
	},
	"both": {
		call: func(a *memconn.Conn) (int, error) { return a.Read(make([]byte, 1)) },
		set:  (*memconn.Conn).SetDeadline,
		free: func(t *testing.T, b *memconn.Conn) { mustWrite(t, b, "x") },
	},
}

func TestDeadlines(t *testing.T) {
	const never = -1
	cases := map[string]struct {
		// After 0, 1, 2... seconds; deadlines from the start, never to clear,
		// 0 to leave as it is.
		deadlines []time.Duration
		want      time.Duration // never for none
	}{
		"none":                 {deadlines: []time.Duration{never}, want: never},
		"future":               {deadlines: []time.Duration{3 * time.Second}, want: 3 * time.Second},
		"later":                {deadlines: []time.Duration{3 * time.Second, 5 * time.Second}, want: 5 * time.Second},
		"sooner":               {deadlines: []time.Duration{9 * time.Second, 2 * time.Second}, want: 2 * time.Second},
		"set while waiting":    {deadlines: []time.Duration{0, 0, 4 * time.Second}, want: 4 * time.Second},
		"past while waiting":   {deadlines: []time.Duration{0, 0, time.Second}, want: 2 * time.Second},
		"cleared":              {deadlines: []time.Duration{3 * time.Second, never}, want: never},
		"cleared and set":      {deadlines: []time.Duration{3 * time.Second, never, 6 * time.Second}, want: 6 * time.Second},
		"far away":             {deadlines: []time.Duration{1<<63 - 1}, want: never},
		"far away, then close": {deadlines: []time.Duration{1<<63 - 1, 2 * time.Second}, want: 2 * time.Second},
	}
	for name, tc := range cases {
		for side, s := range sides {
			t.Run(name+"/"+side, func(t *testing.T) {
				inBubble(t, []memconn.Option{memconn.WithBuffer(1)}, func(t *testing.T, a, b *memconn.Conn) {
					mustWrite(t, a, "x") // full
					start := time.Now()
					var ended time.Duration
					call := pending(func() (int, error) {
						n, err := s.call(a)
						ended = time.Since(start)
						return n, err
					})
					for i, d := range tc.deadlines {
						switch d {
						case 0:
						case never:
							require.NoError(t, s.set(a, time.Time{}))
						default:
							require.NoError(t, s.set(a, start.Add(d)))
						}
						if i < len(tc.deadlines)-1 {
							time.Sleep(time.Second)
						}
					}
					if tc.want == never {
						time.Sleep(time.Hour)
						blocked(t, call)
						s.free(t, b)
						require.NoError(t, (<-call).err)
						return
					}
					got := <-call
					require.ErrorIs(t, got.err, os.ErrDeadlineExceeded)
					require.Equal(t, tc.want, ended)
				})
			})
		}
	}
}

func TestPastDeadlineComesBeforeTheBytes(t *testing.T) {
	for name, at := range map[string]time.Time{
		"1970": time.Unix(0, 0), "year 1": time.Time{}.Add(1), "now": time.Now(),
	} {
		t.Run(name, func(t *testing.T) {
			a, b := memconn.Pipe()
			mustWrite(t, b, "here")
			require.NoError(t, a.SetDeadline(at))
			for range 2 {
				_, err := read(a)()
				require.ErrorIs(t, err, os.ErrDeadlineExceeded)
				_, err = write(a, "x")()
				require.ErrorIs(t, err, os.ErrDeadlineExceeded)
				checkError(t, a, err)
			}
			require.Zero(t, a.BytesWritten())

			require.NoError(t, a.SetDeadline(time.Now().Add(time.Hour)))
			mustRead(t, a, "here")
			mustWrite(t, a, "there")
			mustRead(t, b, "there")
		})
	}
}

func TestDeadlineWithoutMonotonicClock(t *testing.T) {
	inBubble(t, nil, func(t *testing.T, a, b *memconn.Conn) {
		start := time.Now()
		require.NoError(t, a.SetDeadline(start.Round(0).Add(time.Minute)))
		_, err := read(a)()
		require.ErrorIs(t, err, os.ErrDeadlineExceeded)
		require.Equal(t, time.Minute, time.Since(start))
	})
}

func TestDeadlineEndsWritesInTheMiddle(t *testing.T) {
	inBubble(t, []memconn.Option{memconn.WithBuffer(4)}, func(t *testing.T, a, b *memconn.Conn) {
		require.NoError(t, a.SetWriteDeadline(time.Now().Add(time.Second)))
		first := pending(write(a, "123456"))
		queued := pending(write(a, "789"))
		got := <-first
		require.Equal(t, 4, got.n)
		require.ErrorIs(t, got.err, os.ErrDeadlineExceeded)
		got = <-queued
		require.Zero(t, got.n)
		require.ErrorIs(t, got.err, os.ErrDeadlineExceeded)
		mustRead(t, b, "1234")

		require.NoError(t, a.SetWriteDeadline(time.Time{}))
		mustWrite(t, a, "56")
		mustRead(t, b, "56")
	})
}

func TestDeadlineLeavesTheOtherEndAndDirectionAlone(t *testing.T) {
	inBubble(t, nil, func(t *testing.T, a, b *memconn.Conn) {
		require.NoError(t, a.SetReadDeadline(past()))
		mustWrite(t, a, "x")
		mustRead(t, b, "x")
		require.NoError(t, a.SetWriteDeadline(past()))
		mustWrite(t, b, "y")
		require.NoError(t, a.SetReadDeadline(time.Time{}))
		mustRead(t, a, "y")
	})
}

func TestManyReadersOneDeadline(t *testing.T) {
	inBubble(t, nil, func(t *testing.T, a, b *memconn.Conn) {
		var calls []<-chan result
		for range 10 {
			calls = append(calls, pending(read(a)))
		}
		require.NoError(t, a.SetReadDeadline(time.Now().Add(time.Second)))
		time.Sleep(time.Second)
		synctest.Wait()
		for _, call := range calls {
			require.NotEmpty(t, call)
			require.ErrorIs(t, (<-call).err, os.ErrDeadlineExceeded)
		}
	})
}
