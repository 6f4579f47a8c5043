package subject_test

import (
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/arpc-go/arpc/extension/pubsub/subject"
)

// population makes filters and topics as users, devices and markets have them: half of
// the filters are literal, and as many topics are for nobody as for somebody.
type population struct {
	size int
	rand *rand.Rand
}

func newPopulation(size int) *population {
	return &population{size, rand.New(rand.NewPCG(1, 2))}
}

// of returns a number below the part of the size, so that some part other filters share it.
func (p *population) of(part int) int { return p.rand.IntN(p.size/part + 1) }

func (p *population) filter() string {
	switch n := p.rand.IntN(100); {
	case n < 20:
		return fmt.Sprintf("user.%d.inbox", p.of(4))
	case n < 40:
		return fmt.Sprintf("order.%08x.status", p.of(4))
	case n < 50:
		return fmt.Sprintf("chat room/%d", p.of(500)) // some 50 members each
	case n < 70:
		return fmt.Sprintf("user.%d.*", p.of(4))
	case n < 80:
		return fmt.Sprintf("tenant.%d.device.%d.>", p.of(1000), p.of(10))
	case n < 90:
		return fmt.Sprintf("tenant.%d.device.%d.*.value", p.of(1000), p.of(10))
	case n < 98:
		return fmt.Sprintf("market.x%02d.s%d.*", p.rand.IntN(20), p.of(100))
	default:
		return fmt.Sprintf("tenant.%d.*.%d.alarm", p.of(1000), p.of(10))
	}
}

// overall are the filters of the few that want all of something.
var overall = []string{">", "tenant.*.device.*.*.alarm", "*.*.status", "market.>", "tenant.17.>"}

func (p *population) topic() string {
	switch n := p.rand.IntN(100); {
	case n < 20:
		return fmt.Sprintf("user.%d.inbox", p.of(2))
	case n < 35:
		return fmt.Sprintf("order.%08x.status", p.of(2))
	case n < 45:
		return fmt.Sprintf("chat room/%d", p.of(500))
	case n < 55:
		return fmt.Sprintf("user.%d.presence", p.of(2))
	case n < 75:
		return fmt.Sprintf("tenant.%d.device.%d.temperature.value", p.of(1000), p.of(10))
	case n < 80:
		return fmt.Sprintf("tenant.%d.device.%d.alarm", p.of(1000), p.of(10))
	default:
		return fmt.Sprintf("market.x%02d.s%d.trade", p.rand.IntN(20), p.of(50))
	}
}

func (p *population) topics(n int) []string { return times(n, p.topic) }

func (p *population) filters(n int) []string { return times(n, p.filter) }

func times(n int, f func() string) []string {
	all := make([]string, n)
	for i := range all {
		all[i] = f()
	}
	return all
}

// value is large enough to be a piece of memory of its own.
type value [4]int

// fill adds as many filters as the population's size says.
func (p *population) fill(t testing.TB, m *subject.Matcher[*value]) (entries []*subject.Entry[*value]) {
	for i := range p.size {
		filter := p.filter()
		if i < len(overall) {
			filter = overall[i]
		}
		e, err := m.Add(filter, theValue)
		require.NoError(t, err)
		entries = append(entries, e)
	}
	return entries
}

var theValue = new(value)
