package subject_test

import (
	"fmt"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/arpc-go/arpc/extension/pubsub/subject"
)

const million = 1_000_000

// latencies are what single operations took. Each has some 50 ns in it for looking at
// the clock.
type latencies []time.Duration

func (l *latencies) measure(f func()) {
	start := time.Now()
	f()
	*l = append(*l, time.Since(start))
}

func (l latencies) report(b *testing.B) {
	slices.Sort(l)
	b.ReportMetric(float64(l[len(l)/2]), "median-ns")
	b.ReportMetric(float64(l[len(l)*99/100]), "p99-ns")
	b.ReportMetric(float64(l[len(l)-1]), "max-ns")
}

// BenchmarkMatcher matches topics in a Matcher that holds a million filters, and adds
// and removes further ones.
func BenchmarkMatcher(b *testing.B) {
	p := newPopulation(million)
	var m subject.Matcher[*value]
	p.fill(b, &m)
	topics := p.topics(1 << 18)
	b.Run("match", func(b *testing.B) { benchmarkMatch(b, &m, topics) })
	b.Run("match-in-parallel", func(b *testing.B) {
		b.RunParallel(func(pb *testing.PB) {
			dst, n := make([]*value, 0, 1024), 0
			for ; pb.Next(); n++ {
				dst = m.Match(topics[n%len(topics)], dst[:0])
			}
		})
	})
	b.Run("add-and-remove", func(b *testing.B) {
		filters := p.filters(1 << 16)
		b.ReportAllocs()
		l := make(latencies, 0, b.N)
		for n := range b.N {
			var e *subject.Entry[*value]
			l.measure(func() { e, _ = m.Add(filters[n%len(filters)], theValue) })
			m.Remove(e)
		}
		l.report(b)
	})
}

// BenchmarkMatcherFanOut finds the many values of one filter.
func BenchmarkMatcherFanOut(b *testing.B) {
	for _, values := range []int{1, 100, 10_000} {
		b.Run(fmt.Sprintf("values=%d", values), func(b *testing.B) {
			var m subject.Matcher[*value]
			for range values {
				add(b, &m, "news.sport", theValue)
			}
			found := 0
			b.ResetTimer()
			for range b.N {
				m.Each("news.sport", func(*value) { found++ })
			}
			b.ReportMetric(float64(b.Elapsed())/float64(found), "ns/value")
		})
	}
}

type matcher interface {
	Add(filter string, v *value) (*subject.Entry[*value], error)
	Remove(*subject.Entry[*value]) bool
	Match(topic string, dst []*value) []*value
}

func benchmarkMatch(b *testing.B, m matcher, topics []string) {
	dst, found := make([]*value, 0, 1024), 0
	l := make(latencies, 0, b.N)
	b.ReportAllocs()
	b.ResetTimer()
	for n := range b.N {
		topic := topics[n%len(topics)]
		l.measure(func() { dst = m.Match(topic, dst[:0]) })
		found += len(dst)
	}
	l.report(b)
	b.ReportMetric(float64(found)/float64(b.N), "found/op")
}

// locked is the road not taken: a Matcher behind a lock, as if it needed one.
type locked struct {
	mu sync.RWMutex
	subject.Matcher[*value]
}

func (l *locked) Add(filter string, v *value) (*subject.Entry[*value], error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.Matcher.Add(filter, v)
}

func (l *locked) Remove(e *subject.Entry[*value]) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.Matcher.Remove(e)
}

func (l *locked) Match(topic string, dst []*value) []*value {
	l.mu.RLock()
	defer l.mu.RUnlock()
	return l.Matcher.Match(topic, dst)
}

// BenchmarkMatchWhileAdding matches while another goroutine adds and removes filters
// without a pause: without a lock, and with one.
func BenchmarkMatchWhileAdding(b *testing.B) {
	p := newPopulation(million)
	var m locked
	p.fill(b, &m.Matcher)
	topics, filters := p.topics(1<<16), p.filters(1<<16)
	for name, m := range map[string]matcher{"lock-free": &m.Matcher, "rwmutex": &m} {
		b.Run(name, func(b *testing.B) {
			stop := addAndRemoveUntil(m, filters)
			benchmarkMatch(b, m, topics)
			b.ReportMetric(float64(stop())/b.Elapsed().Seconds(), "adds/s")
		})
	}
}

func addAndRemoveUntil(m matcher, filters []string) (stop func() (adds int)) {
	stopping, adds := make(chan struct{}), make(chan int)
	go func() {
		for n := 0; ; n++ {
			select {
			case <-stopping:
				adds <- n
				return
			default:
				e, _ := m.Add(filters[n%len(filters)], theValue)
				m.Remove(e)
			}
		}
	}()
	return func() int { close(stopping); return <-adds }
}

// BenchmarkMatcherMemory reports what a subscription costs, and what is left of that
// when all are removed. Filters are not counted in, the values neither.
func BenchmarkMatcherMemory(b *testing.B) {
	for name, filter := range map[string]func(p *population, n int) string{
		"mixed":    func(p *population, _ int) string { return p.filter() },
		"literal":  func(_ *population, n int) string { return fmt.Sprintf("user.%d.inbox", n) },
		"star":     func(_ *population, n int) string { return fmt.Sprintf("user.%d.*", n) },
		"open":     func(_ *population, n int) string { return fmt.Sprintf("user.%d.>", n) },
		"deep":     func(_ *population, n int) string { return fmt.Sprintf("user.%d.device.*.alarm", n) },
		"one-name": func(*population, int) string { return "Broadcast" },
	} {
		b.Run(name, func(b *testing.B) {
			for range b.N {
				benchmarkMemory(b, filter)
			}
		})
	}
}

func benchmarkMemory(b *testing.B, filter func(p *population, n int) string) {
	p, m := newPopulation(million), new(subject.Matcher[*value])
	entries := make([]*subject.Entry[*value], million)
	before := heap()
	for n := range entries {
		entries[n], _ = m.Add(filter(p, n), theValue)
	}
	b.ReportMetric((heap()-before)/million, "B/sub")
	for _, e := range entries {
		m.Remove(e)
	}
	clear(entries)
	b.ReportMetric((heap()-before)/million, "B/sub-afterwards")
	runtime.KeepAlive(entries)
	runtime.KeepAlive(m)
}

func heap() float64 {
	runtime.GC()
	runtime.GC()
	var s runtime.MemStats
	runtime.ReadMemStats(&s)
	return float64(s.HeapAlloc)
}

// BenchmarkMatcherAtItsWorst matches a topic that all filters are made for: every one
// of the last level of the tree is visited, and none matches.
func BenchmarkMatcherAtItsWorst(b *testing.B) {
	for _, levels := range []int{8, 12, 16} {
		b.Run(fmt.Sprintf("filters=%d", 1<<levels), func(b *testing.B) {
			var m subject.Matcher[*value]
			for n := range 1 << levels {
				add(b, &m, worstFilter(n, levels), theValue)
			}
			topic := strings.Repeat("a.", levels) + "b"
			var found []*value
			b.ResetTimer()
			for range b.N {
				found = m.Match(topic, found)
			}
			b.ReportMetric(float64(b.Elapsed())/float64(b.N)/float64(m.Len()), "ns/filter")
			if len(found) > 0 {
				b.Fatal(len(found))
			}
		})
	}
}

// worstFilter returns a filter with a wildcard for each bit of n that is set.
func worstFilter(n, levels int) string {
	var s strings.Builder
	for bit := range levels {
		if n&(1<<bit) != 0 {
			s.WriteString("*.")
		} else {
			s.WriteString("a.")
		}
	}
	return s.String() + "never"
}
