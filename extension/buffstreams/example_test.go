package buffstreams_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"time"

	"github.com/arpc-go/arpc/arpctest"
	"github.com/arpc-go/arpc/extension/buffstreams"
)

// Messages one way. When Shutdown has returned the callback has seen them all.
func Example() {
	l, err := buffstreams.Listen(buffstreams.ListenerConfig{
		Address: "127.0.0.1:0",
		Callback: func(message []byte) error {
			fmt.Println(string(message))
			return nil
		},
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	go l.Serve(ctx)
	defer l.Close()

	c, err := buffstreams.Dial(ctx, buffstreams.ConnConfig{Address: l.Addr().String()})
	if err != nil {
		fmt.Println(err)
		return
	}
	for _, message := range []string{"one", "two", "three"} {
		if err := c.Send(ctx, []byte(message)); err != nil {
			fmt.Println(err)
		}
	}
	fmt.Println(c.Shutdown(ctx))
	// Output:
	// one
	// two
	// three
	// <nil>
}

// A program for BuffStreams, with the import path changed.
func ExampleDialTCP() {
	received := make(chan string)
	btl, err := buffstreams.ListenTCP(buffstreams.TCPListenerConfig{
		MaxMessageSize: 2048,
		EnableLogging:  false,
		Address:        buffstreams.FormatAddress("127.0.0.1", "0"),
		Callback: func(message []byte) error {
			received <- string(message)
			return nil
		},
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer btl.Close()
	if err := btl.StartListeningAsync(); err != nil {
		fmt.Println(err)
		return
	}
	btc, err := buffstreams.DialTCP(&buffstreams.TCPConnConfig{
		MaxMessageSize: 2048,
		Address:        btl.Addr().String(),
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer btc.Close()
	n, err := btc.Write([]byte("hello"))
	fmt.Println(n, err, <-received)
	// Output: 5 <nil> hello
}

// A callback that answers.
func ExampleHandler() {
	ln := arpctest.ListenMemory()
	l, err := buffstreams.NewListener(ln, buffstreams.ListenerConfig{
		Handler: func(ctx context.Context, c *buffstreams.Conn, message []byte) error {
			return c.Send(ctx, append([]byte("hello, "), message...))
		},
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	ctx := context.Background()
	go l.Serve(ctx)
	defer l.Close()

	c, err := buffstreams.Dial(ctx, buffstreams.ConnConfig{Dial: dialer(ln)})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer c.Close()
	fmt.Println(c.Send(ctx, []byte("gopher")))
	answer, err := c.Receive(ctx)
	fmt.Println(string(answer), err)
	// Output:
	// <nil>
	// hello, gopher <nil>
}

// dialer dials a listener without a network.
func dialer(ln *arpctest.MemoryListener) func(context.Context) (net.Conn, error) {
	return func(ctx context.Context) (net.Conn, error) { return ln.DialContext(ctx) }
}

// A loop in place of a callback: the messages of all connections, one at a time.
func ExampleListener_Messages() {
	ln := arpctest.ListenMemory()
	l, err := buffstreams.NewListener(ln, buffstreams.ListenerConfig{})
	if err != nil {
		fmt.Println(err)
		return
	}
	ctx := context.Background()
	c, err := buffstreams.Dial(ctx, buffstreams.ConnConfig{Dial: dialer(ln)})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer c.Close()
	for _, message := range []string{"one", "two", "stop", "three"} {
		c.Send(ctx, []byte(message))
	}
	for m, err := range l.Messages(ctx) {
		if err != nil || string(m.Data) == "stop" {
			break // closes the listener
		}
		fmt.Println(string(m.Data))
	}
	// Output:
	// one
	// two
}

// A loop over what the peer sends.
func ExampleConn_Messages() {
	near, far := arpctest.Pipe()
	c, err := buffstreams.NewConn(near, buffstreams.ConnConfig{})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer c.Close()
	fmt.Fprint(far, "\x06\x00\x00one\x06\x00\x00two") // a peer that writes frames itself
	far.Close()
	for message, err := range c.Messages(context.Background()) {
		fmt.Println(string(message), err)
	}
	// Output:
	// one <nil>
	// two <nil>
}

// A server that is away for a while. What is sent meanwhile waits for it.
func ExampleRetry() {
	outage := true
	received := make(chan string)
	ln := arpctest.ListenMemory()
	l, err := buffstreams.NewListener(ln, buffstreams.ListenerConfig{Callback: func(message []byte) error {
		received <- string(message)
		return nil
	}})
	if err != nil {
		fmt.Println(err)
		return
	}
	ctx := context.Background()
	go l.Serve(ctx)
	defer l.Close()

	broken, _ := arpctest.Pipe(func(f arpctest.Faults) { f.CutAfter(0) })
	c, err := buffstreams.NewConn(broken, buffstreams.ConnConfig{
		Retry: buffstreams.Retry{Attempts: 10, Base: time.Millisecond},
		Dial: func(ctx context.Context) (net.Conn, error) {
			if outage {
				outage = false
				return nil, errors.New("nobody there")
			}
			return ln.DialContext(ctx)
		},
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer c.Close()
	fmt.Println(c.Send(ctx, []byte("sent during an outage")))
	fmt.Println(<-received)
	// Output:
	// <nil>
	// sent during an outage
}

// What cannot be sent is handed over, to be kept elsewhere. Without Undelivered an
// error counts it.
func ExampleConnConfig() {
	broken, _ := arpctest.Pipe(func(f arpctest.Faults) { f.CutAfter(6) })
	kept := make(chan string, 3)
	c, err := buffstreams.NewConn(broken, buffstreams.ConnConfig{
		Undelivered: func(message []byte, cause error) { kept <- string(message) },
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	ctx := context.Background()
	for _, message := range []string{"one", "two", "three"} {
		if err := c.Send(ctx, []byte(message)); err != nil {
			kept <- message // it is the caller's
		}
	}
	c.Close()
	<-c.Done()
	fmt.Println(<-kept)
	fmt.Println(<-kept)
	// Unordered output:
	// two
	// three
}

// Two kinds of messages on one connection.
func ExampleKinds() {
	const (
		greeting = iota
		farewell
	)
	var kinds buffstreams.Kinds
	said := make(chan string)
	kinds.Handle(greeting, func(_ context.Context, _ *buffstreams.Conn, name []byte) error {
		said <- "hello, " + string(name)
		return nil
	})
	kinds.Handle(farewell, func(_ context.Context, _ *buffstreams.Conn, name []byte) error {
		said <- "goodbye, " + string(name)
		return nil
	})
	ln := arpctest.ListenMemory()
	l, err := buffstreams.NewListener(ln, buffstreams.ListenerConfig{Handler: kinds.Dispatch})
	if err != nil {
		fmt.Println(err)
		return
	}
	ctx := context.Background()
	go l.Serve(ctx)
	defer l.Close()

	c, err := buffstreams.Dial(ctx, buffstreams.ConnConfig{Dial: dialer(ln)})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer c.Close()
	c.SendKind(ctx, farewell, []byte("gopher"))
	fmt.Println(<-said)
	c.SendKind(ctx, greeting, []byte("gopher"))
	fmt.Println(<-said)
	// Output:
	// goodbye, gopher
	// hello, gopher
}

// Connections and listeners by address.
func ExampleManager() {
	received := make(chan string)
	address := "127.0.0.1:0" // a fixed port in a program
	bm := buffstreams.NewManager()
	defer bm.Close()
	err := bm.StartListening(buffstreams.TCPListenerConfig{
		Address: address,
		Callback: func(message []byte) error {
			received <- string(message)
			return nil
		},
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	l, err := bm.Listener(address)
	if err != nil {
		fmt.Println(err)
		return
	}
	server := l.Addr().String()
	if err := bm.Dial(&buffstreams.TCPConnConfig{Address: server}); err != nil {
		fmt.Println(err)
		return
	}
	n, err := bm.Write(server, []byte("hello"))
	fmt.Println(n, err, <-received)
	_, err = bm.Write("127.0.0.1:1", []byte("hello"))
	fmt.Println(err)
	// Output:
	// 5 <nil> hello
	// buffstreams: the address is not opened
}
