// Command notify sends messages that are not answered, both ways: a client
// reports temperatures, the server warns when one is too high and sends a
// summary at the end of the day.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"os"
	"time"

	"github.com/arpc-go/arpc"
)

const tooHot = 30 // degrees Celsius

func main() {
	if err := run(context.Background(), os.Stdout); err != nil {
		log.Fatal(err)
	}
}

func run(ctx context.Context, stdout io.Writer) error {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()

	server := arpc.NewServer()
	addTemperatureRoutes(server.Handler)
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	go serve(server, ln)
	defer server.Stop()

	client, err := arpc.NewClient(func() (net.Conn, error) {
		return net.DialTimeout("tcp", ln.Addr().String(), 3*time.Second)
	})
	if err != nil {
		return err
	}
	defer client.Stop()

	// A client has routes like a server.
	warnings := make(chan string, 10)
	summary := make(chan string, 1)
	client.Handler.Handle("/warning", func(ctx *arpc.Context) { warnings <- string(ctx.Body()) })
	client.Handler.Handle("/summary", func(ctx *arpc.Context) { summary <- string(ctx.Body()) })

	for _, degrees := range []int{18, 24, 31, 33, 21} {
		if err := client.NotifyWith(ctx, "/temperature", degrees); err != nil {
			return fmt.Errorf("notify /temperature: %w", err)
		}
	}
	// Notify takes a timeout. Sending only waits when very much is queued.
	if err := client.Notify("/evening", nil, time.Second); err != nil {
		return fmt.Errorf("notify /evening: %w", err)
	}

	// No error from Notify means that the message is on its way. That the
	// server has handled all of them we know from its summary.
	select {
	case text := <-summary:
		close(warnings)
		for warning := range warnings {
			fmt.Fprintln(stdout, "warning:", warning)
		}
		fmt.Fprintln(stdout, "summary:", text)
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// serve serves until the server is stopped.
func serve(server *arpc.Server, ln net.Listener) {
	if err := server.Serve(ln); !errors.Is(err, arpc.ErrServerClosed) {
		log.Print(err)
	}
}

// addTemperatureRoutes keeps the temperatures of one client. Notifications of
// one connection are handled one at a time and in the order they were sent, so
// the handlers need no lock, and "/evening" comes last.
func addTemperatureRoutes(h *arpc.Handler) {
	var readings []int
	h.Handle("/temperature", func(ctx *arpc.Context) {
		var degrees int
		if err := ctx.Bind(&degrees); err != nil {
			log.Print(err) // a notification is not answered
			return
		}
		readings = append(readings, degrees)
		if degrees > tooHot {
			notify(ctx.Client, "/warning", fmt.Sprintf("reading %d is %d degrees", len(readings), degrees))
		}
	})
	h.Handle("/evening", func(ctx *arpc.Context) {
		notify(ctx.Client, "/summary", fmt.Sprintf("%d readings: %v", len(readings), readings))
	})
}

func notify(client *arpc.Client, method, text string) {
	if err := client.Notify(method, text, time.Second); err != nil {
		log.Printf("notify %s: %v", method, err)
	}
}
