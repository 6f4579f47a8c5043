// Command codec-cbor has both ends use CBOR instead of JSON, and compares the two:
// what a value weighs, and what comes back of it.
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
	"github.com/arpc-go/arpc/codec"
	"github.com/arpc-go/arpc/codec/cbor"
)

// Image has what JSON is not good at: bytes, and values of any type.
type Image struct {
	Name    string         `json:"name"`
	Taken   time.Time      `json:"taken"`
	Pixels  []byte         `json:"pixels"`
	Details map[string]any `json:"details"` // cbor reads the tags of JSON, too
}

var describe = arpc.NewMethod[Image, string]("/describe")

func main() {
	if err := run(context.Background(), os.Stdout); err != nil {
		log.Fatal(err)
	}
}

func run(ctx context.Context, stdout io.Writer) error {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()

	server := arpc.NewServer(arpc.WithCodec(cbor.Codec{}))
	describe.Handle(server.Handler, answer)
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	go serve(server, ln)
	defer server.Stop()
	dial := func() (net.Conn, error) { return net.DialTimeout("tcp", ln.Addr().String(), 3*time.Second) }

	image := &Image{
		Name:    "dune.png",
		Taken:   time.Date(2026, 11, 21, 12, 0, 0, 123456789, time.UTC),
		Pixels:  make([]byte, 300),
		Details: map[string]any{"id": int64(1)<<62 + 1, "key": []byte{0xca, 0xfe}},
	}
	if err := call(ctx, dial, image, stdout); err != nil {
		return err
	}
	for _, c := range []codec.Codec{codec.JSON{}, cbor.Codec{}} {
		if err := compare(stdout, c, image); err != nil {
			return err
		}
	}

	// A client with another codec learns so when it connects.
	_, err = arpc.NewClient(dial, arpc.WithCodec(codec.JSON{}))
	fmt.Fprintln(stdout, "a client with JSON:", err)
	return nil
}

// serve serves until the server is stopped.
func serve(server *arpc.Server, ln net.Listener) {
	if err := server.Serve(ln); !errors.Is(err, arpc.ErrServerClosed) {
		log.Print(err)
	}
}

func call(ctx context.Context, dial arpc.DialerFunc, image *Image, stdout io.Writer) error {
	client, err := arpc.NewClient(dial, arpc.WithCodec(cbor.Codec{}))
	if err != nil {
		return err
	}
	defer client.Stop()
	text, err := describe.Call(ctx, client, image)
	if err != nil {
		return err
	}
	fmt.Fprintln(stdout, "server:", *text)
	return nil
}

func answer(_ context.Context, image *Image) (*string, error) {
	text := fmt.Sprintf("%s has %d bytes, and was taken at %v", image.Name, len(image.Pixels), image.Taken)
	return &text, nil
}

func compare(stdout io.Writer, c codec.Codec, image *Image) error {
	data, err := c.Marshal(image)
	if err != nil {
		return err
	}
	var back Image
	if err := c.Unmarshal(data, &back); err != nil {
		return err
	}
	fmt.Fprintf(stdout, "%s: %d bytes, id is %T %v, key is %T %v\n", codec.Name(c), len(data),
		back.Details["id"], back.Details["id"], back.Details["key"], back.Details["key"])
	return nil
}
