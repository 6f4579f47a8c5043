package arpc

import (
	"bytes"
	"context"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// What version 2 of the wire costs: nothing but the hello while no deadline is
// set, and a field of a few bytes, two looks at the clock with one.
func BenchmarkVersions(b *testing.B) {
	for _, callers := range []int{1, 100, 1000} {
		for _, v := range []struct {
			name    string
			max     int
			timeout time.Duration
		}{
			{"version=1", 1, TimeForever},
			{"version=2", 2, TimeForever},
			{"version=1/deadline", 1, time.Minute},
			{"version=2/deadline", 2, time.Minute},
		} {
			b.Run(fmt.Sprintf("callers=%d/%s", callers, v.name), func(b *testing.B) {
				_, c := benchPair(b, WithVersions(1, v.max))
				require.Equal(b, v.max, c.Peer().Version)
				benchCallsWithin(b, c, callers, 128, v.timeout)
			})
		}
	}
}

func benchCallsWithin(b *testing.B, c *Client, callers, size int, timeout time.Duration) {
	b.Helper()
	b.ReportAllocs()
	var left atomic.Int64
	left.Store(int64(b.N))
	var all sync.WaitGroup
	b.ResetTimer()
	for range callers {
		all.Go(func() {
			req := bytes.Repeat([]byte("x"), size)
			var rsp []byte
			for left.Add(-1) >= 0 {
				if err := c.Call("/echo", &req, &rsp, timeout); err != nil || len(rsp) != size {
					b.Errorf("%d bytes, error %v", len(rsp), err)
					return
				}
			}
		})
	}
	all.Wait()
}

// 10,000 calls, by 16 callers, with and without a stream beside them whose reader
// never reads and whose sender never stops. The rounds alternate, so that the
// ratio of the two is of one machine at one time.
func BenchmarkStuckStream(b *testing.B) {
	s, c := benchPair(b)
	s.Handler.HandleStream("/stuck", func(s *Stream) { <-s.Context().Done() })
	var alone, beside []time.Duration
	for range b.N {
		alone = append(alone, latencies(b, c, 10_000)...)
		ctx, cancel := context.WithCancel(context.Background())
		stuck, err := c.OpenStream(ctx, "/stuck")
		require.NoError(b, err)
		sent := make(chan struct{})
		go func() {
			defer close(sent)
			for body := make([]byte, 4096); stuck.Send(&body) == nil; {
			}
		}()
		beside = append(beside, latencies(b, c, 10_000)...)
		cancel()
		<-sent
	}
	without, with := p99(alone), p99(beside)
	b.ReportMetric(float64(without.Microseconds()), "p99-us")
	b.ReportMetric(float64(with.Microseconds()), "p99-beside-us")
	b.ReportMetric(float64(with)/float64(without), "ratio")
	b.ReportMetric(0, "ns/op")
}

func latencies(b *testing.B, c *Client, calls int) []time.Duration {
	const callers = 16
	all := make([]time.Duration, calls)
	var group sync.WaitGroup
	for i := range callers {
		group.Go(func() {
			req := make([]byte, 128)
			var rsp []byte
			for j := i; j < calls; j += callers {
				start := time.Now()
				if err := c.Call("/echo", &req, &rsp, time.Minute); err != nil {
					b.Error(err)
					return
				}
				all[j] = time.Since(start)
			}
		})
	}
	group.Wait()
	return all
}

func p99(all []time.Duration) time.Duration {
	slices.Sort(all)
	return all[len(all)*99/100]
}

// What counting costs when introspection is on.
func BenchmarkIntrospection(b *testing.B) {
	for _, on := range []bool{false, true} {
		b.Run(fmt.Sprintf("on=%v", on), func(b *testing.B) {
			s, c := benchPair(b)
			if on {
				s.Handler.EnableIntrospection()
			}
			benchCallsWithin(b, c, 100, 128, time.Minute)
		})
	}
}
