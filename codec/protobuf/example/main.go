// Command example calls with Protocol Buffers messages, whose Go code is generated
// from weatherpb/weather.proto.
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
	"github.com/arpc-go/arpc/codec/protobuf"
	"github.com/arpc-go/arpc/codec/protobuf/example/weatherpb"
)

// What both ends share: messages are types like any others.
var (
	forecast = arpc.NewMethod[weatherpb.City, weatherpb.Weather]("/forecast")
	alert    = arpc.NewNotice[weatherpb.Storm]("/alert")
)

func main() {
	if err := run(context.Background(), os.Stdout); err != nil {
		log.Fatal(err)
	}
}

func run(ctx context.Context, stdout io.Writer) error {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()

	server := arpc.NewServer(arpc.WithCodec(protobuf.Codec{}))
	forecast.Handle(server.Handler, answer)
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	go serve(server, ln)
	defer server.Stop()
	dial := func() (net.Conn, error) { return net.DialTimeout("tcp", ln.Addr().String(), 3*time.Second) }

	if err := talk(ctx, server, dial, stdout); err != nil {
		return err
	}
	// A client with another codec learns so when it connects.
	_, err = arpc.NewClient(dial)
	fmt.Fprintln(stdout, "JSON:", err)
	return nil
}

// talk has a client call, and be told something.
func talk(ctx context.Context, server *arpc.Server, dial arpc.DialerFunc, stdout io.Writer) error {
	storms := make(chan *weatherpb.Storm, 1)
	handler := arpc.NewHandler(arpc.WithCodec(protobuf.Codec{}))
	alert.Handle(handler, func(_ context.Context, s *weatherpb.Storm) { storms <- s })
	client, err := arpc.NewClient(dial, arpc.WithHandler(handler))
	if err != nil {
		return err
	}
	defer client.Stop()

	weather, err := forecast.Call(ctx, client, &weatherpb.City{Name: "Lisbon"})
	if err != nil {
		return err
	}
	fmt.Fprintf(stdout, "Lisbon: %s, %.1f °C\n", weather.GetSky(), weather.GetCelsius())

	if err := alert.Broadcast(server, &weatherpb.Storm{City: "Porto", KilometresPerHour: 120}); err != nil {
		return err
	}
	select {
	case s := <-storms:
		fmt.Fprintf(stdout, "storm in %s: %d km/h\n", s.GetCity(), s.GetKilometresPerHour())
	case <-ctx.Done():
		return fmt.Errorf("wait for the storm: %w", ctx.Err())
	}

	// A value that is no message is refused before anything is sent.
	err = client.CallWith(ctx, "/forecast", map[string]string{"name": "Lisbon"}, nil)
	fmt.Fprintln(stdout, "a map:", err)
	return nil
}

// serve serves until the server is stopped.
func serve(server *arpc.Server, ln net.Listener) {
	if err := server.Serve(ln); !errors.Is(err, arpc.ErrServerClosed) {
		log.Print(err)
	}
}

func answer(_ context.Context, city *weatherpb.City) (*weatherpb.Weather, error) {
	if city.GetName() == "" {
		return nil, arpc.NewError(arpc.CodeInvalidArgument, "which city?")
	}
	return &weatherpb.Weather{Sky: "sunny", Celsius: 25.5}, nil
}
