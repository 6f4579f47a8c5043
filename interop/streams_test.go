package interop

import (
	"context"
	"fmt"
	"io"
	"sync"
	"testing"

	"github.com/arpc-go/arpc"
	old "github.com/lesismal/arpc"
	"github.com/stretchr/testify/require"
)

// echoStream answers each message until the opener sends no more.
func echoStream(st stream) {
	defer st.closeSend()
	for {
		var msg string
		if st.recv(&msg) != nil {
			return
		}
		st.send("re:" + msg)
	}
}

func open(t *testing.T, e end, method string) stream {
	t.Helper()
	st, err := e.open(method)
	require.NoError(t, err)
	return st
}

// requireRecv expects these messages next.
func requireRecv(t *testing.T, st stream, want ...string) {
	t.Helper()
	for _, w := range want {
		var msg string
		require.NoError(t, st.recv(&msg))
		require.Equal(t, w, msg)
	}
}

func requireEnd(t *testing.T, st stream) {
	t.Helper()
	require.Equal(t, io.EOF, st.recv(new(string)))
}

func TestStream(t *testing.T) {
	routes := func(r routes) { r.handleStream("/echo", echoStream) }
	each(t, setup{routes: routes}, func(t *testing.T, opener end) {
		st := open(t, opener, "/echo")
		for _, msg := range []string{"one", "two", "three"} {
			require.NoError(t, st.send(msg))
			requireRecv(t, st, "re:"+msg)
		}
		st.closeSend()
		requireEnd(t, st)
	})
}

// Many streams with many messages each, in both directions at the same time.
func TestStreamLoad(t *testing.T) {
	const streams, messages = 20, 200
	routes := func(r routes) { r.handleStream("/echo", echoStream) }
	eachPair(t, setup{routes: routes}, func(t *testing.T, p pair) {
		var all sync.WaitGroup
		for _, opener := range []end{p.client, p.server} {
			for i := range streams {
				st := open(t, opener, "/echo")
				all.Go(func() { sendMany(t, st, i, messages) })
				all.Go(func() { receiveMany(t, st, i, messages) })
			}
		}
		all.Wait()
	})
}

func sendMany(t *testing.T, st stream, id, n int) {
	defer st.closeSend()
	for i := range n {
		if err := st.send(fmt.Sprintf("%d of %d", i, id)); err != nil {
			t.Errorf("send: %v", err)
		}
	}
}

func receiveMany(t *testing.T, st stream, id, n int) {
	var msg string
	for i := range n {
		want := fmt.Sprintf("re:%d of %d", i, id)
		if err := st.recv(&msg); err != nil || msg != want {
			t.Errorf("wanted %q, got %q, %v", want, msg, err)
			return
		}
	}
	if err := st.recv(&msg); err != io.EOF {
		t.Errorf("wanted the end, got %q, %v", msg, err)
	}
}

// Values pass the codec as those of calls do.
func TestStreamOfStructs(t *testing.T) {
	routes := func(r routes) {
		r.handleStream("/sum", func(st stream) {
			defer st.closeSend()
			var sum, p point
			for st.recv(&p) == nil {
				sum.X, sum.Y = sum.X+p.X, sum.Y+p.Y
			}
			st.send(sum)
		})
	}
	each(t, setup{routes: routes}, func(t *testing.T, opener end) {
		st := open(t, opener, "/sum")
		for i := range 100 {
			require.NoError(t, st.send(&point{X: i, Y: 1}))
		}
		st.closeSend()
		var sum point
		require.NoError(t, st.recv(&sum))
		require.Equal(t, point{X: 4950, Y: 100}, sum)
		requireEnd(t, st)
	})
}

// The handler's half is closed first; the opener goes on sending.
func TestStreamHalfClosedByHandler(t *testing.T) {
	heard := make(chan string, 10)
	routes := func(r routes) {
		r.handleStream("/first", func(st stream) {
			st.send("that is all")
			st.closeSend()
			var msg string
			for st.recv(&msg) == nil {
				heard <- msg
			}
			heard <- "the end"
		})
	}
	each(t, setup{routes: routes}, func(t *testing.T, opener end) {
		st := open(t, opener, "/first")
		require.NoError(t, st.send("one"))
		requireRecv(t, st, "that is all")
		requireEnd(t, st)
		require.NoError(t, st.send("two"))
		require.NoError(t, st.send("three"))
		st.closeSend()
		for _, want := range []string{"one", "two", "three", "the end"} {
			require.Equal(t, want, receive(t, heard))
		}
	})
}

// countStream answers with the number of messages when the opener has ended.
func countStream(st stream) {
	defer st.closeSend()
	n := 0
	for st.recv(new(string)) == nil {
		n++
	}
	st.send(n)
}

// A stream may be opened by its end alone.
func TestStreamOpenedByItsEnd(t *testing.T) {
	routes := func(r routes) { r.handleStream("/count", countStream) }
	each(t, setup{routes: routes}, func(t *testing.T, opener end) {
		st := open(t, opener, "/count")
		st.closeSend()
		requireRecv(t, st, "0")
		requireEnd(t, st)
	})
}

// The old library can put the end bit on its last message.
func TestStreamEndOnLastMessage(t *testing.T) {
	ends := map[string]func(t *testing.T, st *old.Stream){
		"with a payload":    func(t *testing.T, st *old.Stream) { require.NoError(t, st.SendAndClose("last")) },
		"without a payload": func(t *testing.T, st *old.Stream) { require.NoError(t, st.SendAndClose(nil)) },
	}
	want := map[string]string{"with a payload": "first,last,", "without a payload": "first,"}
	routes := func(r routes) {
		r.handleStream("/join", func(st stream) {
			defer st.closeSend()
			var all, msg string
			for st.recv(&msg) == nil {
				all += msg + ","
			}
			st.send(all)
		})
	}
	oldCalls(t, setup{routes: routes}, func(t *testing.T, opener oldEnd) {
		for name, finish := range ends {
			t.Run(name, func(t *testing.T) {
				st := open(t, opener, "/join")
				require.NoError(t, st.send("first"))
				finish(t, st.(oldStream).Stream)
				requireRecv(t, st, want[name])
				requireEnd(t, st)
			})
		}
	})
}

// An empty message is a message. On its way to the old library it vanishes.
func TestStreamEmptyMessages(t *testing.T) {
	routes := func(r routes) { r.handleStream("/count", countStream) }
	test := func(t *testing.T, opener end, arrived string) {
		st := open(t, opener, "/count")
		for _, msg := range []string{"", "full", "", ""} {
			require.NoError(t, st.send(msg))
		}
		st.closeSend()
		requireRecv(t, st, arrived)
		requireEnd(t, st)
	}
	oldCalls(t, setup{routes: routes}, func(t *testing.T, opener oldEnd) { test(t, opener, "4") })
	ourCalls(t, setup{routes: routes}, func(t *testing.T, opener ourEnd) { test(t, opener, "1") })
}

// A handler of ours that returns early ends the stream: the old opener reads an
// end, and what it still sends opens nothing.
func TestStreamHandlerReturnsEarly(t *testing.T) {
	opened := make(chan string, 10)
	routes := func(r routes) {
		r.handleStream("/early", func(st stream) {
			var msg string
			st.recv(&msg)
			opened <- msg
			st.send("enough")
		})
	}
	oldCalls(t, setup{routes: routes}, func(t *testing.T, opener oldEnd) {
		st := open(t, opener, "/early")
		require.NoError(t, st.send("one"))
		requireRecv(t, st, "enough")
		requireEnd(t, st)
		for range 10 {
			require.NoError(t, st.send("more"))
		}
		st.closeSend()
		require.Error(t, opener.call("/nope", nil, nil), "all of it has arrived")
		require.Equal(t, "one", receive(t, opened))
		require.Empty(t, opened)
	})
}

// An old opener reads an end when we have no handler for its stream.
func TestStreamWithoutHandlerOfOurs(t *testing.T) {
	oldCalls(t, setup{routes: echoRoutes}, func(t *testing.T, opener oldEnd) {
		st := open(t, opener, "/nope")
		require.NoError(t, st.send("is anybody there?"))
		requireEnd(t, st)
		requireReply(t, opener, "/string", "after", "after")
	})
}

// Our opener hears nothing when the old library has none, until its context
// ends the stream. The connection goes on.
func TestStreamWithoutOldHandler(t *testing.T) {
	ourCalls(t, setup{routes: echoRoutes}, func(t *testing.T, opener ourEnd) {
		ctx, cancel := context.WithCancel(t.Context())
		st, err := opener.OpenStream(ctx, "/nope")
		require.NoError(t, err)
		require.NoError(t, st.Send("is anybody there?"))
		requireReply(t, opener, "/string", "meanwhile", "meanwhile")
		cancel()
		require.ErrorIs(t, st.Recv(new(string)), context.Canceled)
		requireReply(t, opener, "/string", "after", "after")
	})
}

// A handler of ours that does not receive loses that stream and nothing else.
func TestStreamOverrun(t *testing.T) {
	const limit = 10
	received, resume := make(chan error, 10*limit), make(chan struct{}, 1)
	s := setup{
		ours: []arpc.Option{arpc.WithStreamQueue(limit, 1<<20)},
		routes: func(r routes) {
			r.handle("/string", echo[string])
			r.handleStream("/slow", func(st stream) {
				<-resume
				var err error
				for err == nil {
					err = st.recv(new(string))
					received <- err
				}
			})
		},
	}
	oldCalls(t, s, func(t *testing.T, opener oldEnd) {
		st := open(t, opener, "/slow")
		for range 3 * limit {
			require.NoError(t, st.send("message"))
		}
		requireEnd(t, st)
		requireReply(t, opener, "/string", "goes on", "goes on")
		resume <- struct{}{}
		for range limit {
			require.NoError(t, receive(t, received))
		}
		require.ErrorIs(t, receive(t, received), arpc.ErrStreamOverrun)
	})
}
