// Command buffstreams sends messages in the framing of BuffStreams: one way,
// with answers, through a manager, and to a server that is replaced meanwhile.
package main

import (
	"context"
	"fmt"
	"io"
	"log"
	"os"
	"sync/atomic"
	"time"

	"github.com/arpc-go/arpc/extension/buffstreams"
)

func main() {
	if err := run(context.Background(), os.Stdout); err != nil {
		log.Fatal(err)
	}
}

func run(ctx context.Context, stdout io.Writer) error {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()

	for _, part := range []func(context.Context, io.Writer) error{oneWay, answers, manager, replaced} {
		if err := part(ctx, stdout); err != nil {
			return err
		}
	}
	return nil
}

// counter counts messages.
type counter struct {
	messages, bytes atomic.Int64
}

func (c *counter) count(message []byte) error {
	c.messages.Add(1)
	c.bytes.Add(int64(len(message)))
	return nil
}

// serve starts a server.
func serve(cfg buffstreams.ListenerConfig) (*buffstreams.Listener, error) {
	server, err := buffstreams.Listen(cfg)
	if err != nil {
		return nil, err
	}
	return server, server.StartListeningAsync() // StartListening and Serve(ctx) block
}

// oneWay is what BuffStreams is for: many small messages, and nobody waits.
func oneWay(ctx context.Context, stdout io.Writer) error {
	var arrived counter
	server, err := serve(buffstreams.ListenerConfig{Address: "127.0.0.1:0", Callback: arrived.count})
	if err != nil {
		return err
	}
	defer server.Close()

	client, err := buffstreams.Dial(ctx, buffstreams.ConnConfig{Address: server.Addr().String()})
	if err != nil {
		return err
	}
	defer client.Close()
	message := make([]byte, 110)
	const messages = 100_000
	for range messages {
		if err := client.Send(ctx, message); err != nil { // queues: a write takes many along
			return err
		}
	}
	if err := client.Shutdown(ctx); err != nil { // the server has handled all
		return err
	}
	fmt.Fprintf(stdout, "one way: %d messages sent, %d arrived, %d bytes\n", messages, arrived.messages.Load(), arrived.bytes.Load())
	return nil
}

// What messages are about, when those of several kinds share a connection.
const (
	kindGreeting = iota
	kindSum
)

// answers has callbacks that answer, one for each kind of message.
func answers(ctx context.Context, stdout io.Writer) error {
	var kinds buffstreams.Kinds
	kinds.Handle(kindGreeting, func(ctx context.Context, c *buffstreams.Conn, name []byte) error {
		return c.Send(ctx, fmt.Appendf(nil, "hello, %s", name))
	})
	kinds.Handle(kindSum, func(ctx context.Context, c *buffstreams.Conn, message []byte) error {
		sum := 0
		for _, b := range message {
			sum += int(b)
		}
		return c.Send(ctx, fmt.Append(nil, sum))
	})
	server, err := serve(buffstreams.ListenerConfig{Address: "127.0.0.1:0", Handler: kinds.Dispatch})
	if err != nil {
		return err
	}
	defer server.Close()

	client, err := buffstreams.Dial(ctx, buffstreams.ConnConfig{Address: server.Addr().String()})
	if err != nil {
		return err
	}
	defer client.Close()
	if err := client.SendKind(ctx, kindGreeting, []byte("gopher")); err != nil {
		return err
	}
	if err := client.SendKind(ctx, kindSum, []byte{1, 2, 3}); err != nil {
		return err
	}
	for range 2 {
		answer, err := client.Receive(ctx)
		if err != nil {
			return err
		}
		fmt.Fprintf(stdout, "answer: %s\n", answer)
	}
	return nil
}

// manager keeps connections by address.
func manager(ctx context.Context, stdout io.Writer) error {
	m := buffstreams.NewManager()
	defer m.Close()
	var arrived [2]counter
	var addresses []string
	for i := range arrived {
		server, err := serve(buffstreams.ListenerConfig{Address: "127.0.0.1:0", Callback: arrived[i].count})
		if err != nil {
			return err
		}
		defer server.Close()
		addresses = append(addresses, server.Addr().String())
	}
	// With a fixed port m.StartListening would keep the servers too.
	for _, address := range addresses {
		if err := m.DialContext(ctx, buffstreams.ConnConfig{Address: address}); err != nil {
			return err
		}
	}
	for i := range 30 {
		if err := m.Send(ctx, addresses[i%3%2], []byte("message")); err != nil {
			return err
		}
	}
	if err := m.Shutdown(ctx); err != nil {
		return err
	}
	fmt.Fprintf(stdout, "manager: %d messages to the first server, %d to the second\n", arrived[0].messages.Load(), arrived[1].messages.Load())
	return nil
}

// replaced has a server that is shut down while a client sends, and one that
// takes its place. With Retry what is sent meanwhile waits.
func replaced(ctx context.Context, stdout io.Writer) error {
	var arrived counter
	server, err := serve(buffstreams.ListenerConfig{Address: "127.0.0.1:0", Callback: arrived.count})
	if err != nil {
		return err
	}
	defer func() { server.Close() }()
	address := server.Addr().String()
	client, err := buffstreams.Dial(ctx, buffstreams.ConnConfig{
		Address: address,
		Retry:   buffstreams.Retry{Attempts: buffstreams.Forever, Base: 10 * time.Millisecond, Max: time.Second},
	})
	if err != nil {
		return err
	}
	defer client.Close()
	for i := range 3000 {
		if i == 1000 { // the port is free when Shutdown returns
			if err := server.Shutdown(ctx); err != nil {
				return err
			}
		}
		if i == 2000 {
			if server, err = serve(buffstreams.ListenerConfig{Address: address, Callback: arrived.count}); err != nil {
				return err
			}
		}
		if err := client.Send(ctx, []byte("message")); err != nil {
			return err
		}
	}
	if err := client.Shutdown(ctx); err != nil {
		return err
	}
	fmt.Fprintf(stdout, "replaced: 3000 messages sent, 1000 of them to no server, %d arrived\n", arrived.messages.Load())
	return nil
}
