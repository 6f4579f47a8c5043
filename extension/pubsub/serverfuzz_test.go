package pubsub_test

import (
	"net"
	"testing"
	"time"

	"github.com/arpc-go/arpc"
	"github.com/arpc-go/arpc/arpctest"
	"github.com/arpc-go/arpc/extension/pubsub"
	"github.com/arpc-go/arpc/extension/pubsub/internal/proto"
	"github.com/stretchr/testify/require"
)

var fuzzMethods = []string{
	proto.Open, proto.Close, proto.Send, proto.Batch, proto.Credit, proto.Settle, proto.Presence, proto.Will,
	proto.Authenticate, proto.Subscribe, proto.Unsubscribe, proto.Publish, proto.PublishToOne,
}

// act is a request or a notification: a byte for the method, one for the length, and the
// body.
func act(method string, body []byte) []byte {
	for i, m := range fuzzMethods {
		if m == method {
			return append([]byte{byte(i), byte(len(body))}, body...)
		}
	}
	panic(method)
}

// FuzzServer has a client do what it wants. The server serves others afterwards, and
// nothing is left of it.
func FuzzServer(f *testing.F) {
	open := func(o proto.Opening) []byte {
		o.WindowMessages, o.WindowBytes = 2, 1000
		return act(proto.Open, o.Append(nil))
	}
	send := act(proto.Send, (&proto.Publication[string]{Topic: "kept.a", Time: 1, Data: []byte("x")}).Append(nil))
	join := func(all ...[]byte) (joined []byte) {
		for _, b := range all {
			joined = append(joined, b...)
		}
		return joined
	}
	f.Add(join(open(proto.Opening{Number: 1, Filter: "kept.a", Policy: proto.PolicyBlock, QueueMessages: 1}), send, send, send, send, act(proto.Close, []byte{1})))
	f.Add(join(send, send, open(proto.Opening{Number: 2, Filter: ">", Start: proto.StartAll, MemberID: "m", Events: true}), act(proto.Credit, proto.Consumed{Number: 2, Messages: 1 << 60, Bytes: 1 << 60}.Append(nil)), send))
	f.Add(join(open(proto.Opening{Number: 3, Filter: "kept.*", Group: "g", Ack: true, AckWait: 1, MaxPending: 1}), send, send, act(proto.Settle, proto.Settled{Number: 3, Tag: 1}.Append(nil))))
	f.Add(join(act(proto.Subscribe, oldTopic("kept.a", "")), act(proto.Publish, oldTopic("kept.a", "x")), act(proto.PublishToOne, oldTopic("kept.a", "x")), act(proto.Unsubscribe, oldTopic("kept.a", ""))))
	f.Add(join(act(proto.Will, send[2:]), act(proto.Presence, []byte("kept.a")), act(proto.Authenticate, []byte("x"))))
	f.Fuzz(func(t *testing.T, acts []byte) {
		ln := arpctest.ListenMemory()
		s := pubsub.NewServer(pubsub.WithBroker(remembering(10)), pubsub.WithBlockTimeout(time.Millisecond), pubsub.WithLogger(slogErrors(t)))
		go s.Serve(ln)
		defer s.Stop()
		c := fuzzClient(t, ln.Dial)
		for n := 0; len(acts) >= 2 && n < 30; n++ {
			method, length := fuzzMethods[int(acts[0])%len(fuzzMethods)], min(int(acts[1]), len(acts)-2)
			body := acts[2 : 2+length]
			if acts[0]&0x80 != 0 {
				c.Notify(method, body, time.Second)
			} else {
				c.Call(method, body, nil, 10*time.Second)
			}
			acts = acts[2+length:]
		}
		c.Stop()
		other := fuzzClient(t, ln.Dial)
		defer other.Stop()
		o := proto.Opening{Number: 1, Filter: "kept.a", WindowMessages: 10, WindowBytes: 1000}
		require.NoError(t, other.Call(proto.Open, o.Append(nil), nil, 10*time.Second))
		onlyOne := func() bool {
			stats := s.Statistics()
			return stats.Subscriptions == 1 && stats.Filters == 1 && stats.Present == 0
		}
		require.Eventually(t, onlyOne, 10*time.Second, 100*time.Microsecond)
		require.NoError(t, s.Publish("kept.a", "still here"))
	})
}

func fuzzClient(t *testing.T, dial func() (net.Conn, error)) *arpc.Client {
	t.Helper()
	h := arpc.NewHandler()
	for _, method := range []string{proto.Message, proto.Note, proto.Publish} {
		h.Handle(method, func(*arpc.Context) {})
	}
	c, err := arpc.NewClient(dial, arpc.WithHandler(h), arpc.WithReconnect(0, 0, 0))
	require.NoError(t, err)
	return c
}
