//go:build !race

package pubsub

import (
	"testing"

	"github.com/stretchr/testify/require"
)

func TestAllocInbox(t *testing.T) {
	s := &Subscription{client: new(Client)}
	q := &s.queue
	q.init(s, room{10, 1000}, true)
	topic := new(Topic)
	var done item
	require.Zero(t, testing.AllocsPerRun(1000, func() {
		for range 5 {
			q.push(item{topic: topic, bytes: 10, counted: true})
		}
		var last *item
		for {
			it, _, ok := q.take(last)
			if !ok {
				return
			}
			done, last = it, &done
		}
	}))
}
