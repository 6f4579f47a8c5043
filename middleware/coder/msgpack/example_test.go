package msgpack_test

import (
	"context"
	"fmt"
	"net"

	"github.com/arpc-go/arpc"
	"github.com/arpc-go/arpc/middleware/coder/msgpack"
)

// Both ends register the coder. The caller gives values along with the context of the
// call; the handler finds them, and those that it sets go back with its response.
func Example() {
	server := arpc.NewServer()
	server.Handler.UseCoder(msgpack.New())
	server.Handler.Handle("/greet", func(ctx *arpc.Context) {
		language, _ := ctx.Get("language")
		ctx.Message.Set("greeted in", language)
		ctx.Write(map[any]string{"en": "hello", "sv": "hej"}[language])
	})
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		panic(err)
	}
	go server.Serve(ln)
	defer server.Stop()

	handler := arpc.NewHandler()
	handler.UseCoder(msgpack.New())
	client, err := arpc.NewClient(func() (net.Conn, error) { return net.Dial("tcp", ln.Addr().String()) }, arpc.WithHandler(handler))
	if err != nil {
		panic(err)
	}
	defer client.Stop()

	ctx := arpc.ContextWithValues(context.Background(), map[any]any{"language": "sv"})
	var reply string
	err = client.CallWith(ctx, "/greet", nil, &reply)
	fmt.Println(reply, err)

	msg := client.NewMessage(arpc.CmdNotify, "/log", "hello")
	msg.Set("level", 3)
	coder := msgpack.New()
	arrived := coder.Decode(nil, coder.Encode(nil, msg))
	level, _ := arrived.Get("level")
	fmt.Printf("%s %v %T\n", arrived.Data(), level, level)
	// Output:
	// hej <nil>
	// hello 3 int64
}
