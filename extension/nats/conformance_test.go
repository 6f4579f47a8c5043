package nats_test

import (
	"fmt"
	"testing"

	"github.com/arpc-go/arpc/arpctest"
	"github.com/arpc-go/arpc/extension/nats"
	"github.com/arpc-go/arpc/extension/pubsub"
)

// open returns what opens a cluster of brokers for arpctest, one connected to each URL.
func open(urls ...string) func(testing.TB, ...pubsub.HistoryRule) []pubsub.Broker {
	return func(t testing.TB, rules ...pubsub.HistoryRule) (all []pubsub.Broker) {
		opts := []nats.Option{newPrefix()}
		for _, r := range rules {
			if r.Bytes > 0 {
				t.Skip("JetStream cannot bound the bytes of a topic: NewBroker refuses History.Bytes")
			}
			r.TotalBytes = 1 << 20
			opts = append(opts, nats.WithHistory(r.Filter, r.History))
		}
		for _, url := range urls {
			all = append(all, broker(t, url, opts...))
		}
		return all
	}
}

func TestBrokersOnOneServerConform(t *testing.T) {
	t.Parallel()
	url := server(t).URL()
	for _, urls := range [][]string{{url}, {url, url, url}} {
		t.Run(fmt.Sprint(len(urls), " brokers"), func(t *testing.T) {
			t.Parallel()
			arpctest.Broker(t, open(urls...))
		})
	}
}

func TestBrokersOnThreeServersConform(t *testing.T) {
	t.Parallel()
	c := cluster(t)
	arpctest.Broker(t, open(c[0].URL(), c[1].URL(), c[2].URL()))
}
