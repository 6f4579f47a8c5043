package zstd_test

import (
	"fmt"
	"net"
	"strings"
	"time"

	"github.com/arpc-go/arpc"
	"github.com/arpc-go/arpc/middleware/coder/zstd"
)

// Client and server register the coder; handlers and callers see nothing of it. A
// peer without it gets messages as they are.
func Example() {
	server := arpc.NewServer()
	server.Handler.UseCoder(zstd.New())
	server.Handler.Handle("/count", func(ctx *arpc.Context) {
		ctx.Write(len(strings.Fields(string(ctx.Body()))))
	})
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		panic(err)
	}
	go server.Serve(ln)
	defer server.Stop()

	handler := arpc.NewHandler()
	handler.UseCoder(zstd.New(zstd.WithLevel(3), zstd.WithThreshold(512)))
	client, err := arpc.NewClient(func() (net.Conn, error) { return net.Dial("tcp", ln.Addr().String()) }, arpc.WithHandler(handler))
	if err != nil {
		panic(err)
	}
	defer client.Stop()

	fmt.Println("the server has", client.Peer().Coders)
	var words int
	err = client.Call("/count", strings.Repeat("so many words ", 10000), &words, 5*time.Second)
	fmt.Println(words, err)
	// Output:
	// the server has [zstd]
	// 30000 <nil>
}

func ExampleZstd_Encode() {
	coder := zstd.New()
	m := arpc.NewServer().NewMessage(arpc.CmdNotify, "/log", strings.Repeat("the same line\n", 1000))
	plain := m.Len()

	m = coder.Encode(nil, m)
	fmt.Println("compressed:", m.IsFlagBitSet(6), m.Method(), "a tenth or less:", m.Len() <= plain/10)

	m = coder.Decode(nil, m)
	fmt.Println("compressed:", m.IsFlagBitSet(6), m.Method(), "as before:", m.Len() == plain)
	// Output:
	// compressed: true /log a tenth or less: true
	// compressed: false /log as before: true
}

// A dictionary makes short messages shorter that look like it.
func ExampleWithDictionary() {
	typical := []byte(`{"customer":"somebody","state":"open","total":"0.00"}`)
	with := zstd.New(zstd.WithThreshold(0), zstd.WithDictionary(typical))
	without := zstd.New(zstd.WithThreshold(0))
	message := func() *arpc.Message {
		return arpc.NewServer().NewMessage(arpc.CmdNotify, "/order", []byte(`{"customer":"me","state":"open","total":"9.99"}`))
	}
	plain := message().Len()
	fmt.Println("without:", without.Encode(nil, message()).Len() < plain)
	fmt.Println("with:", with.Encode(nil, message()).Len() < plain)
	fmt.Println(without.CoderName(), with.CoderName())
	// Output:
	// without: false
	// with: true
	// zstd zstd-2383fd9f
}
