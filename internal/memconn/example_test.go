package memconn_test

import (
	"errors"
	"fmt"
	"io"
	"syscall"

	"github.com/arpc-go/arpc/internal/memconn"
)

func ExamplePipe() {
	a, b := memconn.Pipe()
	fmt.Fprint(a, "hello")
	a.Close()
	got, err := io.ReadAll(b)
	fmt.Println(string(got), err)
	// Output: hello <nil>
}

func ExampleListen() {
	l := memconn.Listen()
	defer l.Close()
	client, _ := l.Dial()
	server, _ := l.Accept()
	fmt.Fprint(client, "hello")
	client.Close()
	got, err := io.ReadAll(server)
	fmt.Println(string(got), err)
	// Output: hello <nil>
}

func ExampleConn_CutAfter() {
	a, b := memconn.Pipe()
	a.CutAfter(3)
	n, err := fmt.Fprint(a, "hello")
	fmt.Println(n, errors.Is(err, syscall.ECONNRESET))
	got, err := io.ReadAll(b)
	fmt.Println(string(got), errors.Is(err, syscall.ECONNRESET))
	// Output:
	// 3 true
	// hel true
}
