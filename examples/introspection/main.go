// Command introspection asks a server over the wire what it can do, and what it
// has done so far.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"os"
	"text/tabwriter"
	"time"

	"github.com/arpc-go/arpc"
)

func main() {
	if err := run(context.Background(), os.Stdout); err != nil {
		log.Fatal(err)
	}
}

func run(ctx context.Context, stdout io.Writer) error {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()

	server := arpc.NewServer()
	register(server.Handler)
	// This adds two routes. Whoever may call the others may call them, unless
	// middleware that is in use by now is against it.
	server.Handler.EnableIntrospection()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	go serve(server, ln)
	defer server.Stop()

	dial := func() (net.Conn, error) {
		return net.DialTimeout("tcp", ln.Addr().String(), 3*time.Second)
	}
	worker, err := arpc.NewClient(dial, arpc.WithPeerName("worker"))
	if err != nil {
		return err
	}
	defer worker.Stop()
	calls := map[string]uint64{"/echo": 100, "/nap": 10, "/typo": 3}
	if err := work(ctx, worker, calls); err != nil {
		return err
	}

	// A tool knows nothing of the application.
	tool, err := arpc.NewClient(dial, arpc.WithPeerName("tool"))
	if err != nil {
		return err
	}
	defer tool.Stop()
	var routes []arpc.RouteInfo
	if err := tool.CallWith(ctx, arpc.RoutesMethod, nil, &routes); err != nil {
		return err
	}
	var stats arpc.Statistics
	for !covers(stats, calls) {
		if err := tool.CallWith(ctx, arpc.StatisticsMethod, nil, &stats); err != nil {
			return err
		}
	}
	return printTables(stdout, routes, stats)
}

func register(h *arpc.Handler) {
	h.Handle("/echo", func(ctx *arpc.Context) { ctx.WriteBytes(ctx.Body()) })
	h.Handle("/nap", func(ctx *arpc.Context) {
		time.Sleep(2 * time.Millisecond)
		ctx.Write(nil)
	}, false) // one at a time
	h.Handle("/typo", func(ctx *arpc.Context) {
		ctx.Error(arpc.NewError(arpc.CodeInvalidArgument, "this is always wrong"))
	})
	h.HandleStream("/chat", func(*arpc.Stream) {})
}

// serve serves until the server is stopped.
func serve(server *arpc.Server, ln net.Listener) {
	if err := server.Serve(ln); !errors.Is(err, arpc.ErrServerClosed) {
		log.Print(err)
	}
}

// work calls each method so many times.
func work(ctx context.Context, client *arpc.Client, calls map[string]uint64) error {
	for method, times := range calls {
		for range times {
			err := client.CallWith(ctx, method, "hello", nil)
			if err != nil && arpc.CodeOf(err) != arpc.CodeInvalidArgument {
				return fmt.Errorf("call %s: %w", method, err)
			}
		}
	}
	return nil
}

// covers reports whether all calls are in the statistics. A call is counted when
// its handler has returned, and its answer may be here a moment before.
func covers(stats arpc.Statistics, calls map[string]uint64) bool {
	covered := 0
	for _, route := range stats.Routes {
		if times, ok := calls[route.Method]; ok && route.Count == times {
			covered++
		}
	}
	return covered == len(calls)
}

func printTables(stdout io.Writer, routes []arpc.RouteInfo, stats arpc.Statistics) error {
	counted := make(map[string]arpc.RouteStatistics)
	for _, route := range stats.Routes {
		counted[route.Method] = route
	}
	t := tabwriter.NewWriter(stdout, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "method\tkind\thandled\tfailed\thalf of them within")
	for _, route := range routes {
		n := counted[route.Method]
		fmt.Fprintf(t, "%s\t%s\t%d\t%d\t%v\n", route.Method, kind(route), n.Count, n.Errors, median(n))
	}
	fmt.Fprintln(t, "\nclient\tversion\treceived\tsent")
	for _, c := range stats.Connections {
		fmt.Fprintf(t, "%s\t%d\t%d bytes\t%d bytes\n", c.Name, c.Version, c.Received, c.Sent)
	}
	return t.Flush()
}

func kind(route arpc.RouteInfo) string {
	switch {
	case route.Stream:
		return "stream"
	case route.Ordered:
		return "ordered"
	}
	return "concurrent"
}

// median returns a time that half of the handlers kept within: the elements of
// Latency count those below 1 µs, 2 µs, 4 µs and so on.
func median(route arpc.RouteStatistics) time.Duration {
	sum := uint64(0)
	for i, n := range route.Latency {
		if sum += n; 2*sum >= route.Count {
			return time.Microsecond << i
		}
	}
	return 0
}
