package memconn_test

import (
	"bytes"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"slices"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/arpc-go/arpc/internal/memconn"
)

// worlds are the connections on which a program must not notice a difference.
var worlds = map[string][]memconn.Option{
	"plain":        nil,
	"buffer 1":     {memconn.WithBuffer(1)},
	"buffer 7":     {memconn.WithBuffer(7)},
	"large buffer": {memconn.WithBuffer(1 << 18)},
	"delay":        {memconn.WithDelay(time.Second)},
	"split":        {memconn.WithSplit(3)},
	"short writes": {memconn.WithShortWrites(5)},
	"all at once": {
		memconn.WithBuffer(11), memconn.WithDelay(time.Second),
		memconn.WithSplit(2), memconn.WithShortWrites(3),
	},
}

// each runs the test in every world, each time in a bubble with a fake clock.
func each(t *testing.T, test func(t *testing.T, a, b *memconn.Conn)) {
	for name, opts := range worlds {
		t.Run(name, func(t *testing.T) {
			inBubble(t, opts, test)
		})
	}
}

func inBubble(t *testing.T, opts []memconn.Option, test func(t *testing.T, a, b *memconn.Conn)) {
	synctest.Test(t, func(t *testing.T) {
		a, b := memconn.Pipe(opts...)
		test(t, a, b)
	})
}

type result struct {
	n   int
	err error
}

// pending starts a call and waits until it blocks; its result comes later.
func pending(call func() (int, error)) <-chan result {
	done := make(chan result, 1)
	go func() {
		n, err := call()
		done <- result{n, err}
	}()
	synctest.Wait()
	return done
}

func blocked(t *testing.T, done <-chan result) {
	t.Helper()
	synctest.Wait()
	require.Empty(t, done, "the call did not wait")
}

func write(c net.Conn, s string) func() (int, error) {
	return func() (int, error) { return c.Write([]byte(s)) }
}

func read(c net.Conn) func() (int, error) {
	return func() (int, error) { return c.Read(make([]byte, 100)) }
}

func mustWrite(t *testing.T, c net.Conn, s string) {
	t.Helper()
	n, err := c.Write([]byte(s))
	require.NoError(t, err)
	require.Equal(t, len(s), n)
}

// mustRead makes one read, which returns all of want.
func mustRead(t *testing.T, c net.Conn, want string) {
	t.Helper()
	p := make([]byte, 100)
	n, err := c.Read(p)
	require.NoError(t, err)
	require.Equal(t, want, string(p[:n]))
}

func noise(n int) []byte {
	rnd := rand.NewChaCha8([32]byte{1})
	p := make([]byte, n)
	rnd.Read(p)
	return p
}

func TestBothDirectionsAtOnce(t *testing.T) {
	each(t, func(t *testing.T, a, b *memconn.Conn) {
		data := noise(5000)
		var wg sync.WaitGroup
		for _, c := range []*memconn.Conn{a, b} {
			wg.Go(func() {
				for rest := data; len(rest) > 0; {
					n, err := c.Write(rest[:min(len(rest), 1+len(rest)/3)])
					if !assert.NoError(t, err) {
						break
					}
					rest = rest[n:]
				}
				assert.NoError(t, c.CloseWrite())
			})
			wg.Go(func() {
				got, err := io.ReadAll(c)
				assert.NoError(t, err)
				assert.True(t, bytes.Equal(data, got))
			})
		}
		wg.Wait()
		for _, c := range []*memconn.Conn{a, b} {
			require.EqualValues(t, len(data), c.BytesWritten())
			require.EqualValues(t, len(data), c.BytesRead())
			require.NoError(t, c.Close())
		}
	})
}

func TestConcurrentWritesDoNotMix(t *testing.T) {
	const writers, messages, size = 8, 20, 50
	each(t, func(t *testing.T, a, b *memconn.Conn) {
		var wg sync.WaitGroup
		for i := range writers {
			wg.Go(func() {
				for range messages {
					_, err := a.Write(bytes.Repeat([]byte{byte(i)}, size))
					assert.NoError(t, err)
				}
			})
		}
		go func() {
			wg.Wait()
			a.Close()
		}()
		got, err := io.ReadAll(b)
		require.NoError(t, err)
		require.Len(t, got, writers*messages*size)
		for message := range slices.Chunk(got, size) {
			require.Equal(t, size, bytes.Count(message, message[:1]))
		}
	})
}

func TestConcurrentReadsShareTheBytes(t *testing.T) {
	each(t, func(t *testing.T, a, b *memconn.Conn) {
		var wg sync.WaitGroup
		var mu sync.Mutex
		var total int
		for range 8 {
			wg.Go(func() {
				n, err := io.Copy(io.Discard, onlyReader{b})
				assert.NoError(t, err)
				mu.Lock()
				defer mu.Unlock()
				total += int(n)
			})
		}
		_, err := a.Write(noise(3000))
		require.NoError(t, err)
		require.NoError(t, a.Close())
		wg.Wait()
		require.Equal(t, 3000, total)
		require.EqualValues(t, 3000, b.BytesRead())
	})
}

type onlyReader struct{ io.Reader }

func TestReadReturnsWhatIsThere(t *testing.T) {
	a, b := memconn.Pipe()
	mustWrite(t, a, "hello ")
	mustWrite(t, a, "world")
	mustRead(t, b, "hello world")

	mustWrite(t, a, "abc")
	n, err := b.Read(make([]byte, 2))
	require.NoError(t, err)
	require.Equal(t, 2, n)
	mustRead(t, b, "c")
}

func TestEmptyReadAndWriteDoNotWait(t *testing.T) {
	a, b := memconn.Pipe(memconn.WithBuffer(1))
	mustWrite(t, a, "x")
	mustWrite(t, a, "")
	n, err := a.Read(nil)
	require.NoError(t, err)
	require.Zero(t, n)

	require.NoError(t, b.Close())
	_, err = a.Write(nil)
	require.ErrorIs(t, err, syscall.EPIPE)
	require.NoError(t, a.Close())
	_, err = a.Write(nil)
	require.ErrorIs(t, err, net.ErrClosed)
	_, err = a.Read(nil)
	require.ErrorIs(t, err, net.ErrClosed)
}

func TestWriteWaitsForRoom(t *testing.T) {
	inBubble(t, []memconn.Option{memconn.WithBuffer(4)}, func(t *testing.T, a, b *memconn.Conn) {
		mustWrite(t, a, "1234")
		first := pending(write(a, "56"))
		second := pending(write(a, "78"))
		require.EqualValues(t, 4, a.BytesWritten())

		_, err := b.Read(make([]byte, 1))
		require.NoError(t, err)
		blocked(t, first)
		require.EqualValues(t, 5, a.BytesWritten())

		mustRead(t, b, "2345")
		require.Equal(t, result{2, nil}, <-first)
		require.Equal(t, result{2, nil}, <-second)
		mustRead(t, b, "678")
	})
}

// An ending is a way in which the calls of end a end.
type ending struct {
	act   func(a, b *memconn.Conn)
	read  error // nil: the call goes on
	write error
}

var endings = map[string]ending{
	"own close":          {func(a, b *memconn.Conn) { a.Close() }, net.ErrClosed, net.ErrClosed},
	"own close write":    {func(a, b *memconn.Conn) { a.CloseWrite() }, nil, syscall.EPIPE},
	"own deadline":       {func(a, b *memconn.Conn) { a.SetDeadline(past()) }, os.ErrDeadlineExceeded, os.ErrDeadlineExceeded},
	"own read deadline":  {func(a, b *memconn.Conn) { a.SetReadDeadline(past()) }, os.ErrDeadlineExceeded, nil},
	"own write deadline": {func(a, b *memconn.Conn) { a.SetWriteDeadline(past()) }, nil, os.ErrDeadlineExceeded},
	"own cut":            {func(a, b *memconn.Conn) { a.Cut() }, syscall.ECONNRESET, syscall.ECONNRESET},
	"own cut after 0":    {func(a, b *memconn.Conn) { a.CutAfter(0) }, syscall.ECONNRESET, syscall.ECONNRESET},
	"peer's close":       {func(a, b *memconn.Conn) { b.Close() }, io.EOF, syscall.EPIPE},
	"peer's close write": {func(a, b *memconn.Conn) { b.CloseWrite() }, io.EOF, nil},
	"peer's deadline":    {func(a, b *memconn.Conn) { b.SetDeadline(past()) }, nil, nil},
	"peer's cut":         {func(a, b *memconn.Conn) { b.Cut() }, syscall.ECONNRESET, syscall.ECONNRESET},
	"peer's cut after 0": {func(a, b *memconn.Conn) { b.CutAfter(0) }, syscall.ECONNRESET, syscall.ECONNRESET},
	"no cut after all":   {func(a, b *memconn.Conn) { b.CutAfter(1); b.CutAfter(-1) }, nil, nil},
}

// endingsInARow tell which of two causes a later call sees.
var endingsInARow = map[string]ending{
	"cut, then own close": {func(a, b *memconn.Conn) { b.Cut(); a.Close() }, net.ErrClosed, net.ErrClosed},
	"cut, then deadline":  {func(a, b *memconn.Conn) { b.Cut(); a.SetDeadline(past()) }, os.ErrDeadlineExceeded, os.ErrDeadlineExceeded},
	"cut of a closed one": {func(a, b *memconn.Conn) { b.Close(); b.Cut() }, syscall.ECONNRESET, syscall.ECONNRESET},
}

func past() time.Time { return time.Now().Add(-time.Hour) }

func TestEndingOfLaterCalls(t *testing.T) {
	for _, endings := range []map[string]ending{endings, endingsInARow} {
		for name, end := range endings {
			t.Run(name, func(t *testing.T) {
				inBubble(t, []memconn.Option{memconn.WithBuffer(4)}, func(t *testing.T, a, b *memconn.Conn) {
					end.act(a, b)
					finishes(t, a, pending(read(a)), end.read, 0)
					finishes(t, a, pending(write(a, "12345678")), end.write, 0)
					a.Cut()
				})
			})
		}
	}
}

func TestEndingOfWaitingCalls(t *testing.T) {
	for name, end := range endings {
		t.Run(name, func(t *testing.T) {
			inBubble(t, []memconn.Option{memconn.WithBuffer(4)}, func(t *testing.T, a, b *memconn.Conn) {
				reading := pending(read(a))
				writing := pending(write(a, "12345678"))
				queued := pending(write(a, "x")) // waits for its turn
				end.act(a, b)
				finishes(t, a, reading, end.read, 0)
				finishes(t, a, writing, end.write, 4)
				finishes(t, a, queued, end.write, 0)
				a.Cut()
			})
		})
	}
}

// finishes checks that a call of a has ended with that error and count or, if no
// error is wanted, that it goes on.
func finishes(t *testing.T, a *memconn.Conn, call <-chan result, want error, n int) {
	t.Helper()
	if want == nil {
		blocked(t, call)
		return
	}
	synctest.Wait()
	require.NotEmpty(t, call, "the call goes on")
	got := <-call
	require.ErrorIs(t, got.err, want)
	require.Equal(t, n, got.n)
	checkError(t, a, got.err)
}

// checkError checks what net promises of an error.
func checkError(t *testing.T, c *memconn.Conn, err error) {
	t.Helper()
	if err == io.EOF {
		return
	}
	var netErr net.Error
	require.ErrorAs(t, err, &netErr)
	require.Equal(t, errors.Is(err, os.ErrDeadlineExceeded), netErr.Timeout())
	var opErr *net.OpError
	require.ErrorAs(t, err, &opErr)
	require.Equal(t, "mem", opErr.Net)
	require.Equal(t, c.LocalAddr(), opErr.Source)
	require.Equal(t, c.RemoteAddr(), opErr.Addr)
}

func TestReadDrainsWhatThePeerWroteBeforeItClosed(t *testing.T) {
	for name, closing := range map[string]func(*memconn.Conn) error{
		"close": (*memconn.Conn).Close, "close write": (*memconn.Conn).CloseWrite,
	} {
		t.Run(name, func(t *testing.T) {
			each(t, func(t *testing.T, a, b *memconn.Conn) {
				go func() {
					a.Write([]byte("last words"))
					closing(a)
				}()
				got, err := io.ReadAll(b)
				require.NoError(t, err)
				require.Equal(t, "last words", string(got))
				for range 2 {
					n, err := b.Read(make([]byte, 1))
					require.Zero(t, n)
					require.Equal(t, io.EOF, err)
				}
			})
		})
	}
}

func TestHalfClose(t *testing.T) {
	each(t, func(t *testing.T, a, b *memconn.Conn) {
		go func() {
			a.Write([]byte("question"))
			a.CloseWrite()
		}()
		question, err := io.ReadAll(b)
		require.NoError(t, err)
		require.Equal(t, "question", string(question))

		go func() {
			b.Write([]byte("answer"))
			b.Close()
		}()
		answer, err := io.ReadAll(a)
		require.NoError(t, err)
		require.Equal(t, "answer", string(answer))
		require.NoError(t, a.Close())
	})
}

func TestCloseTwice(t *testing.T) {
	a, b := memconn.Pipe()
	require.NoError(t, a.CloseWrite())
	require.NoError(t, a.CloseWrite())
	require.NoError(t, a.Close())
	for what, err := range map[string]error{
		"close":          a.Close(),
		"close write":    a.CloseWrite(),
		"deadline":       a.SetDeadline(time.Time{}),
		"read deadline":  a.SetReadDeadline(time.Time{}),
		"write deadline": a.SetWriteDeadline(time.Time{}),
	} {
		require.ErrorIs(t, err, net.ErrClosed, what)
		checkError(t, a, err)
	}
	require.NoError(t, b.Close(), "the other end has its own Close")
	require.ErrorIs(t, b.Close(), net.ErrClosed)
}

func TestOneOfManyClosesIsTheFirst(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, _ := memconn.Pipe()
		errs := make(chan error, 10)
		for range cap(errs) {
			go func() { errs <- a.Close() }()
		}
		var first int
		for range cap(errs) {
			if err := <-errs; err == nil {
				first++
			} else {
				require.ErrorIs(t, err, net.ErrClosed)
			}
		}
		require.Equal(t, 1, first)
	})
}

// TestRaces lets everything happen at once: the race detector watches, and the
// bubble fails if any call does not end.
func TestRaces(t *testing.T) {
	ends := map[string]func(a, b *memconn.Conn){
		"close":     func(a, b *memconn.Conn) { a.Close() },
		"both":      func(a, b *memconn.Conn) { go a.Close(); b.Close() },
		"cut":       func(a, b *memconn.Conn) { a.Cut() },
		"cut after": func(a, b *memconn.Conn) { a.CutAfter(10) },
		"deadline":  func(a, b *memconn.Conn) { a.SetDeadline(past()); b.SetDeadline(past()) },
	}
	for name, end := range ends {
		t.Run(name, func(t *testing.T) {
			each(t, func(t *testing.T, a, b *memconn.Conn) {
				for _, c := range []*memconn.Conn{a, b} {
					for range 2 {
						go io.Copy(io.Discard, onlyReader{c})
						go func() {
							for err := error(nil); err == nil; {
								_, err = c.Write(make([]byte, 200))
							}
						}()
					}
					go shake(c)
				}
				time.Sleep(3 * time.Millisecond)
				end(a, b)
				time.Sleep(3 * time.Millisecond)
				a.Close() // what the deadline alone does not end
				b.Close()
			})
		})
	}
}

// shake calls whatever a test may call at any time.
func shake(c *memconn.Conn) {
	for i := range 6 {
		c.SetDeadline(time.Now().Add(time.Hour))
		c.Split(100 * i)
		c.ShortWrites(60 * i)
		c.Stall()
		c.Corrupt(int64(10 * i))
		c.Delay(time.Duration(i%2) * time.Millisecond)
		time.Sleep(time.Millisecond) // fake, and passes because the stall stops the rest
		c.BytesRead()
		c.BytesWritten()
		c.Resume()
		c.SetDeadline(time.Time{})
	}
}

func TestAddr(t *testing.T) {
	a, b := memconn.Pipe()
	c, d := memconn.Pipe()
	seen := map[string]bool{}
	for _, end := range []net.Conn{a, b, c, d} {
		require.Equal(t, "mem", end.LocalAddr().Network())
		seen[end.LocalAddr().String()] = true
	}
	require.Len(t, seen, 4)
	require.Equal(t, a.LocalAddr(), b.RemoteAddr())
	require.Equal(t, b.LocalAddr(), a.RemoteAddr())
}

func TestSteadyTrafficDoesNotAllocate(t *testing.T) {
	a, b := memconn.Pipe()
	require.NoError(t, a.SetDeadline(time.Now().Add(time.Hour)))
	p := make([]byte, 1000)
	allocs := testing.AllocsPerRun(100, func() {
		a.SetWriteDeadline(time.Now().Add(time.Hour))
		a.Write(p)
		b.Read(p)
	})
	require.Zero(t, allocs)
}
