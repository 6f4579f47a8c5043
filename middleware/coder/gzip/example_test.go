package gzip_test

import (
	"fmt"
	"net"
	"strings"
	"time"

	"github.com/arpc-go/arpc"
	"github.com/arpc-go/arpc/middleware/coder/gzip"
)

// Client and server register the coder; handlers and callers see nothing of it.
func Example() {
	server := arpc.NewServer()
	server.Handler.UseCoder(gzip.New())
	server.Handler.Handle("/count", func(ctx *arpc.Context) {
		ctx.Write(len(strings.Fields(string(ctx.Body()))))
	})
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		panic(err)
	}
	go server.Serve(ln)
	defer server.Stop()

	client, err := arpc.NewClient(func() (net.Conn, error) { return net.Dial("tcp", ln.Addr().String()) })
	if err != nil {
		panic(err)
	}
	defer client.Stop()
	client.Handler.UseCoder(gzip.New(gzip.WithLevel(6), gzip.WithThreshold(512)))

	var words int
	err = client.Call("/count", strings.Repeat("so many words ", 10000), &words, 5*time.Second)
	fmt.Println(words, err)
	// Output:
	// 30000 <nil>
}

func ExampleGzip_Encode() {
	coder := gzip.New()
	m := arpc.NewServer().NewMessage(arpc.CmdNotify, "/log", strings.Repeat("the same line\n", 1000))
	plain := m.Len()

	m = coder.Encode(nil, m)
	fmt.Println("compressed:", m.IsFlagBitSet(7), "a tenth or less:", m.Len() <= plain/10)

	m = coder.Decode(nil, m)
	fmt.Println("compressed:", m.IsFlagBitSet(7), "as before:", m.Len() == plain)
	// Output:
	// compressed: true a tenth or less: true
	// compressed: false as before: true
}
