package memconn_test

import (
	"io"
	"os"
	"strings"
	"syscall"
	"testing"
	"testing/iotest"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/arpc-go/arpc/internal/memconn"
)

func TestDelay(t *testing.T) {
	inBubble(t, nil, func(t *testing.T, a, b *memconn.Conn) {
		start := time.Now()
		a.Delay(time.Second)
		mustWrite(t, a, "one")
		require.Zero(t, time.Since(start), "the writer does not wait")
		time.Sleep(300 * time.Millisecond)
		mustWrite(t, a, "two")
		require.NoError(t, a.Close())

		mustRead(t, b, "one")
		require.Equal(t, time.Second, time.Since(start))
		mustRead(t, b, "two")
		require.Equal(t, 1300*time.Millisecond, time.Since(start))
		_, err := read(b)()
		require.Equal(t, io.EOF, err)
	})
}

func TestDelayOfTheEnd(t *testing.T) {
	inBubble(t, []memconn.Option{memconn.WithDelay(time.Second)}, func(t *testing.T, a, b *memconn.Conn) {
		start := time.Now()
		require.NoError(t, a.CloseWrite())
		_, err := read(b)()
		require.Equal(t, io.EOF, err)
		require.Equal(t, time.Second, time.Since(start))
	})
}

func TestDelayIsOfOneDirection(t *testing.T) {
	inBubble(t, nil, func(t *testing.T, a, b *memconn.Conn) {
		start := time.Now()
		a.Delay(time.Second)
		mustWrite(t, b, "fast")
		mustRead(t, a, "fast")
		require.Zero(t, time.Since(start))
	})
}

func TestDelayKeepsTheOrderWhenItShrinks(t *testing.T) {
	inBubble(t, nil, func(t *testing.T, a, b *memconn.Conn) {
		start := time.Now()
		a.Delay(3 * time.Second)
		mustWrite(t, a, "slow ")
		a.Delay(time.Second)
		mustWrite(t, a, "less ")
		a.Delay(-1)
		mustWrite(t, a, "none")
		mustRead(t, b, "slow less none")
		require.Equal(t, 3*time.Second, time.Since(start))

		mustWrite(t, a, "now")
		mustRead(t, b, "now")
		require.Equal(t, 3*time.Second, time.Since(start))
	})
}

func TestDelayFillsTheBuffer(t *testing.T) {
	opts := []memconn.Option{memconn.WithDelay(time.Second), memconn.WithBuffer(10)}
	inBubble(t, opts, func(t *testing.T, a, b *memconn.Conn) {
		start := time.Now()
		go func() {
			a.Write(make([]byte, 40))
			a.Close()
		}()
		got, err := io.ReadAll(b)
		require.NoError(t, err)
		require.Len(t, got, 40)
		require.Equal(t, 4*time.Second, time.Since(start), "a window per delay")
	})
}

func TestDelayBeyondTheDeadline(t *testing.T) {
	inBubble(t, []memconn.Option{memconn.WithDelay(2 * time.Second)}, func(t *testing.T, a, b *memconn.Conn) {
		mustWrite(t, a, "late")
		require.NoError(t, b.SetReadDeadline(time.Now().Add(time.Second)))
		_, err := read(b)()
		require.ErrorIs(t, err, os.ErrDeadlineExceeded)
		require.NoError(t, b.SetReadDeadline(time.Time{}))
		mustRead(t, b, "late")
	})
}

func TestSplit(t *testing.T) {
	a, b := memconn.Pipe()
	a.Split(4)
	mustWrite(t, a, "abcdefghij")
	mustRead(t, b, "abcd")
	a.Split(1)
	mustRead(t, b, "e")
	a.Split(0)
	mustRead(t, b, "fghij")

	mustWrite(t, b, "the other direction")
	mustRead(t, a, "the other direction")
}

func TestReaderContract(t *testing.T) {
	each(t, func(t *testing.T, a, b *memconn.Conn) {
		data := noise(400)
		go func() {
			a.Write(data)
			a.Close()
		}()
		require.NoError(t, iotest.TestReader(onlyReader{b}, data))
	})
}

func TestShortWrites(t *testing.T) {
	inBubble(t, nil, func(t *testing.T, a, b *memconn.Conn) {
		a.ShortWrites(3)
		mustWrite(t, a, "abcdefghij")
		mustRead(t, b, "abcdefghij")

		// A write of which one piece remains does not let another in between.
		var long, short strings.Builder
		long.WriteString(strings.Repeat("l", 1000))
		short.WriteString(strings.Repeat("s", 1000))
		first, second := pending(write(a, long.String())), pending(write(a, short.String()))
		require.NoError(t, (<-first).err)
		require.NoError(t, (<-second).err)
		got := make([]byte, 2000)
		_, err := io.ReadFull(b, got)
		require.NoError(t, err)
		require.Equal(t, long.String()+short.String(), string(got))
	})
}

func TestStall(t *testing.T) {
	inBubble(t, []memconn.Option{memconn.WithBuffer(10)}, func(t *testing.T, a, b *memconn.Conn) {
		mustWrite(t, a, "seen")
		a.Stall()
		mustWrite(t, a, "hidden")
		mustRead(t, b, "seen")
		reading := pending(read(b))
		mustWrite(t, a, "more")
		writing := pending(write(a, "!"))
		time.Sleep(time.Hour)
		blocked(t, reading)
		blocked(t, writing)
		require.EqualValues(t, 14, a.BytesWritten())
		require.EqualValues(t, 4, b.BytesRead())

		mustWrite(t, b, "flowing")
		mustRead(t, a, "flowing")
		a.Resume()
		require.Equal(t, result{10, nil}, <-reading)
		require.Equal(t, result{1, nil}, <-writing)
		mustRead(t, b, "!")
	})
}

func TestStallHoldsTheEndBack(t *testing.T) {
	inBubble(t, []memconn.Option{memconn.WithStall()}, func(t *testing.T, a, b *memconn.Conn) {
		mustWrite(t, a, "last")
		require.NoError(t, a.Close())
		reading := pending(read(b))
		blocked(t, reading)
		a.Resume() // a closed end still has a network behind it
		require.Equal(t, result{4, nil}, <-reading)
		_, err := read(b)()
		require.Equal(t, io.EOF, err)
	})
}

func TestStallAndDelay(t *testing.T) {
	for name, tc := range map[string]struct{ resume, want time.Duration }{
		"resumed before it is due": {time.Second, 3 * time.Second},
		"resumed when it was due":  {4 * time.Second, 4 * time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, []memconn.Option{memconn.WithDelay(3 * time.Second)}, func(t *testing.T, a, b *memconn.Conn) {
				start := time.Now()
				mustWrite(t, a, "x")
				a.Stall() // what is on its way stops too
				time.AfterFunc(tc.resume, a.Resume)
				mustRead(t, b, "x")
				require.Equal(t, tc.want, time.Since(start))
			})
		})
	}
}

func TestDeadlineOfAStalledRead(t *testing.T) {
	inBubble(t, []memconn.Option{memconn.WithStall()}, func(t *testing.T, a, b *memconn.Conn) {
		mustWrite(t, a, "x")
		require.NoError(t, b.SetReadDeadline(time.Now().Add(time.Second)))
		_, err := read(b)()
		require.ErrorIs(t, err, os.ErrDeadlineExceeded)
	})
}

func TestCutAfter(t *testing.T) {
	cases := map[string]struct {
		after  int64
		writes []string
		want   []int // bytes taken; a short one comes with the error
		got    string
	}{
		"inside a write":     {after: 5, writes: []string{"abc", "defg", "h"}, want: []int{3, 2, 0}, got: "abcde"},
		"between two writes": {after: 3, writes: []string{"abc", "def"}, want: []int{3, 0}, got: "abc"},
		"in the first byte":  {after: 1, writes: []string{"abc"}, want: []int{1}, got: "a"},
		"at once":            {after: 0, writes: []string{"abc"}, want: []int{0}, got: ""},
		"beyond the buffer":  {after: 20, writes: []string{"0123456789abcdef", "0123456789"}, want: []int{16, 4}, got: "0123456789abcdef0123"},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			each(t, func(t *testing.T, a, b *memconn.Conn) {
				a.CutAfter(tc.after)
				go func() {
					for i, p := range tc.writes {
						n, err := a.Write([]byte(p))
						assert.Equal(t, tc.want[i], n)
						if n < len(p) {
							assert.ErrorIs(t, err, syscall.ECONNRESET)
						} else {
							assert.NoError(t, err)
						}
					}
				}()
				got, err := io.ReadAll(b)
				require.ErrorIs(t, err, syscall.ECONNRESET)
				require.Equal(t, tc.got, string(got))

				_, err = write(b, "x")()
				require.ErrorIs(t, err, syscall.ECONNRESET)
				_, err = read(a)()
				require.ErrorIs(t, err, syscall.ECONNRESET)
			})
		})
	}
}

func TestCutAfterCountsFromTheCall(t *testing.T) {
	a, b := memconn.Pipe()
	mustWrite(t, a, "0123456789")
	a.CutAfter(100)
	mustWrite(t, a, "abc")
	a.CutAfter(2)
	n, err := a.Write([]byte("defg"))
	require.Equal(t, 2, n)
	require.ErrorIs(t, err, syscall.ECONNRESET)
	mustRead(t, b, "0123456789abcde")
	require.EqualValues(t, 15, a.BytesWritten())
	require.EqualValues(t, 15, b.BytesRead())
}

func TestCutAfterEndsWaitingCallsOfBothEnds(t *testing.T) {
	inBubble(t, []memconn.Option{memconn.WithBuffer(4)}, func(t *testing.T, a, b *memconn.Conn) {
		mustWrite(t, b, "lost")
		writing := pending(write(b, "x"))
		a.CutAfter(2)
		n, err := a.Write([]byte("abc"))
		require.Equal(t, 2, n)
		require.ErrorIs(t, err, syscall.ECONNRESET)
		require.ErrorIs(t, (<-writing).err, syscall.ECONNRESET)
		_, err = read(a)()
		require.ErrorIs(t, err, syscall.ECONNRESET)
		mustRead(t, b, "ab")
		_, err = read(b)()
		require.ErrorIs(t, err, syscall.ECONNRESET)
	})
}

func TestCutAfterBehindAStall(t *testing.T) {
	inBubble(t, []memconn.Option{memconn.WithStall(), memconn.WithCutAfter(3)}, func(t *testing.T, a, b *memconn.Conn) {
		_, err := write(a, "abcd")()
		require.ErrorIs(t, err, syscall.ECONNRESET)
		reading := pending(read(b))
		blocked(t, reading)
		a.Resume()
		require.Equal(t, result{3, nil}, <-reading)
		_, err = read(b)()
		require.ErrorIs(t, err, syscall.ECONNRESET)
	})
}

func TestCutLosesWhatIsOnItsWay(t *testing.T) {
	each(t, func(t *testing.T, a, b *memconn.Conn) {
		writing := pending(write(a, "x"))
		require.NoError(t, (<-writing).err)
		b.Cut()
		b.Cut()
		for _, c := range []*memconn.Conn{a, b} {
			_, err := read(c)()
			require.ErrorIs(t, err, syscall.ECONNRESET)
			_, err = write(c, "x")()
			require.ErrorIs(t, err, syscall.ECONNRESET)
			checkError(t, c, err)
			c.Resume()
			require.NoError(t, c.CloseWrite())
			require.NoError(t, c.Close())
		}
		time.Sleep(time.Hour) // no timer is left that does harm
		synctest.Wait()
	})
}

func TestCorrupt(t *testing.T) {
	each(t, func(t *testing.T, a, b *memconn.Conn) {
		for _, off := range []int64{-1, 0, 9, 10, 25, 1 << 40} {
			a.Corrupt(off)
		}
		want := []byte(strings.Repeat("0123456789", 3))
		p := []byte(string(want))
		for _, off := range []int{0, 9, 10, 25} {
			want[off] ^= 1
		}
		go func() {
			a.Write(p[:12])
			a.Corrupt(3) // too late
			a.Write(p[12:])
			a.Close()
		}()
		got, err := io.ReadAll(b)
		require.NoError(t, err)
		require.Equal(t, string(want), string(got))
		require.Equal(t, strings.Repeat("0123456789", 3), string(p), "the caller's bytes are left alone")
	})
}

func TestOptionsHoldForBothEnds(t *testing.T) {
	opts := []memconn.Option{
		memconn.WithCorrupt(1), memconn.WithCutAfter(3), memconn.WithSplit(2), memconn.WithShortWrites(1),
		memconn.WithBuffer(0), memconn.WithDelay(time.Second), memconn.WithStall(),
	}
	for name, swap := range map[string]bool{"a writes": false, "b writes": true} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, opts, func(t *testing.T, a, b *memconn.Conn) {
				if swap {
					a, b = b, a
				}
				n, err := a.Write([]byte("0000"))
				require.Equal(t, 3, n)
				require.ErrorIs(t, err, syscall.ECONNRESET)
				time.AfterFunc(time.Minute, a.Resume)
				start := time.Now()
				mustRead(t, b, "01")
				require.Equal(t, time.Minute, time.Since(start))
				mustRead(t, b, "0")
			})
		})
	}
}
