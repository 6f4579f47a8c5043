package pubsub

import (
	"testing"

	"github.com/stretchr/testify/require"
)

// TablesOf returns how many entries a client has in its tables.
func TablesOf(c *Client) (n int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.subs) + len(c.byFilter) + len(c.byNumber) + len(c.due) + c.workers
}

func TestInsideCallbackKnowsHowDeepSoEver(t *testing.T) {
	require.False(t, insideCallback())
	answers := make(chan bool, 2)
	s := &Subscription{client: new(Client)}
	s.client.stats.panics.Store(0)
	var deep func(n int)
	deep = func(n int) {
		if n > 0 {
			deep(n - 1)
			return
		}
		answers <- insideCallback()
	}
	for _, depth := range []int{0, 1000} {
		fn := func(*Topic) { deep(depth) }
		s.fn.Store(&fn)
		q := new(inbox)
		q.init(s, room{10, 1000}, false)
		q.push(item{topic: new(Topic)})
		require.True(t, <-answers)
	}
}
