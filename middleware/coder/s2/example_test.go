package s2_test

import (
	"fmt"
	"net"
	"strings"
	"time"

	"github.com/arpc-go/arpc"
	"github.com/arpc-go/arpc/middleware/coder/s2"
)

// Client and server register the coder; handlers and callers see nothing of it. A
// peer without it gets messages as they are.
func Example() {
	server := arpc.NewServer()
	server.Handler.UseCoder(s2.New())
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
	handler.UseCoder(s2.New(s2.WithLevel(2), s2.WithThreshold(512)))
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
	// the server has [s2]
	// 30000 <nil>
}

func ExampleS2_Encode() {
	coder := s2.New()
	m := arpc.NewServer().NewMessage(arpc.CmdNotify, "/log", strings.Repeat("the same line\n", 1000))
	plain := m.Len()

	m = coder.Encode(nil, m)
	fmt.Println("compressed:", m.IsFlagBitSet(5), m.Method(), "a tenth or less:", m.Len() <= plain/10)

	m = coder.Decode(nil, m)
	fmt.Println("compressed:", m.IsFlagBitSet(5), m.Method(), "as before:", m.Len() == plain)
	// Output:
	// compressed: true /log a tenth or less: true
	// compressed: false /log as before: true
}
