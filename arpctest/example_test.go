package arpctest_test

import (
	"errors"
	"fmt"
	"io"
	"syscall"
	"time"

	"github.com/arpc-go/arpc"
	"github.com/arpc-go/arpc/arpctest"
)

// A server and a client without a network, outside of a test. In a test New does
// all of it.
func ExampleListenMemory() {
	server := arpc.NewServer()
	server.Handler.Handle("/greet", func(ctx *arpc.Context) {
		ctx.Write("hello " + string(ctx.Body()))
	})
	ln := arpctest.ListenMemory()
	go server.Serve(ln)
	defer server.Stop()

	client, err := arpc.NewClient(ln.Dial)
	if err != nil {
		fmt.Println(err)
		return
	}
	defer client.Stop()
	var reply string
	err = client.Call("/greet", "you", &reply, time.Second)
	fmt.Println(reply, err)
	// Output: hello you <nil>
}

// A connection that breaks within a request.
func ExampleFaultsOf() {
	server := arpc.NewServer()
	ln := arpctest.ListenMemory()
	go server.Serve(ln)
	defer server.Stop()
	client, err := arpc.NewClient(ln.Dial)
	if err != nil {
		fmt.Println(err)
		return
	}
	defer client.Stop()

	arpctest.FaultsOf(client.Conn()).CutAfter(10)
	err = client.Call("/greet", "you", nil, time.Second)
	fmt.Println(arpc.CodeOf(err), arpc.SafeToRetry(err))
	// Output: Unavailable false
}

func ExamplePipe() {
	a, b := arpctest.Pipe(func(f arpctest.Faults) { f.CutAfter(3) })
	fmt.Fprint(a, "hello")
	got, err := io.ReadAll(b)
	fmt.Println(string(got), errors.Is(err, syscall.ECONNRESET))
	// Output: hel true
}
