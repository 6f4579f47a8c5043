// Command typed shows methods, notices and streams whose types the compiler
// checks at both ends, without generated code. They are declared in api.go.
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

func main() {
	if err := run(context.Background(), os.Stdout); err != nil {
		log.Fatal(err)
	}
}

func run(ctx context.Context, stdout io.Writer) error {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()

	server := arpc.NewServer()
	Forecast.Handle(server.Handler, forecast)
	Readings.Handle(server.Handler, average)
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	go serve(server, ln)
	defer server.Stop()

	// The client handles, too: a question and a notice of the server.
	handler := arpc.NewHandler()
	Unit.Handle(handler, func(context.Context, *struct{}) (*string, error) { return new("celsius"), nil })
	alerts := make(chan string, 1)
	Alert.Handle(handler, func(_ context.Context, w *Warning) { alerts <- w.Text })
	client, err := arpc.NewClient(func() (net.Conn, error) {
		return net.DialTimeout("tcp", ln.Addr().String(), 3*time.Second)
	}, arpc.WithHandler(handler))
	if err != nil {
		return err
	}
	defer client.Stop()

	if err := ask(ctx, client, stdout); err != nil {
		return err
	}
	if err := Alert.Broadcast(server, &Warning{Text: "storm in the evening"}); err != nil {
		return err
	}
	select {
	case text := <-alerts:
		fmt.Fprintln(stdout, "alert:", text)
	case <-ctx.Done():
		return fmt.Errorf("wait for the alert: %w", ctx.Err())
	}
	return measure(ctx, client, stdout)
}

// serve serves until the server is stopped.
func serve(server *arpc.Server, ln net.Listener) {
	if err := server.Serve(ln); !errors.Is(err, arpc.ErrServerClosed) {
		log.Print(err)
	}
}

// ask makes two calls, one of which fails with a code.
func ask(ctx context.Context, client *arpc.Client, stdout io.Writer) error {
	weather, err := Forecast.Call(ctx, client, &City{Name: "Lisbon"})
	if err != nil {
		return fmt.Errorf("forecast for Lisbon: %w", err)
	}
	fmt.Fprintf(stdout, "Lisbon: %s, %s\n", weather.Sky, weather.Temperature)

	_, err = Forecast.Call(ctx, client, &City{Name: "Atlantis"})
	if arpc.CodeOf(err) != arpc.CodeNotFound {
		return fmt.Errorf("forecast for Atlantis: want an error with %v, got: %w", arpc.CodeNotFound, err)
	}
	fmt.Fprintf(stdout, "Atlantis: %v (code %v)\n", err, arpc.CodeOf(err))
	return nil
}

// forecast answers with what it returns. It asks its caller back, over the same
// connection.
func forecast(ctx context.Context, city *City) (*Weather, error) {
	if city.Name != "Lisbon" {
		return nil, arpc.Errorf(arpc.CodeNotFound, "there is no city called %s", city.Name)
	}
	c, _ := arpc.FromContext(ctx)
	unit, err := Unit.Call(ctx, c.Client, nil)
	if err != nil {
		return nil, err
	}
	if *unit == "celsius" {
		return &Weather{Sky: "sunny", Temperature: "25 °C"}, nil
	}
	return &Weather{Sky: "sunny", Temperature: "77 °F"}, nil
}

// measure sends readings until the server refuses one.
func measure(ctx context.Context, client *arpc.Client, stdout io.Writer) error {
	stream, err := Readings.Open(ctx, client)
	if err != nil {
		return err
	}
	defer stream.Close()

	for _, celsius := range []float64{20, 22, 27, -300} {
		if err := stream.Send(&Reading{Celsius: celsius}); err != nil {
			return err
		}
	}
	for avg, err := range stream.RecvSeq() {
		if err != nil {
			fmt.Fprintf(stdout, "the stream ended: %v (code %v)\n", err, arpc.CodeOf(err))
			break
		}
		fmt.Fprintf(stdout, "%d readings, average %.0f °C\n", avg.Readings, avg.Celsius)
	}
	return nil
}

// average answers each reading. The stream ends when it returns, and an error
// reaches the other end with its code.
func average(_ context.Context, s *arpc.TypedStream[Average, Reading]) error {
	var avg Average
	total := 0.0
	for r, err := range s.RecvSeq() {
		if err != nil {
			return err
		}
		if r.Celsius < -273.15 {
			return arpc.Errorf(arpc.CodeOutOfRange, "%v °C is too cold to be true", r.Celsius)
		}
		avg.Readings++
		total += r.Celsius
		avg.Celsius = total / float64(avg.Readings)
		if err := s.Send(&avg); err != nil {
			return err
		}
	}
	return nil
}
