// Command tls talks over TLS: the server proves who it is with a certificate in
// files, which it takes anew when they change.
package main

import (
	"context"
	"crypto/tls"
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
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()

	dir, err := os.MkdirTemp("", "arpc-tls")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	ca, err := newAuthority()
	if err != nil {
		return err
	}
	if err := ca.issueTo(dir, "the first certificate"); err != nil {
		return err
	}
	server, addr, err := serve(dir)
	if err != nil {
		return err
	}
	defer server.Stop()

	if err := greet(ctx, stdout, addr, &tls.Config{RootCAs: ca.pool}); err != nil {
		return err
	}
	if err := ca.issueTo(dir, "the second certificate"); err != nil {
		return err
	}
	time.Sleep(2 * time.Second) // the files are looked at every two seconds at most
	if err := greet(ctx, stdout, addr, &tls.Config{RootCAs: ca.pool}); err != nil {
		return err
	}
	if err = greet(ctx, stdout, addr, nil); err == nil {
		return errors.New("a server was trusted that the system does not know")
	}
	fmt.Fprintln(stdout, "without the authority: refused by the client")
	return nil
}

// serve serves on any free port. With a port of your own it is
// server.RunTLS(":8888", certFile, keyFile).
func serve(dir string) (*arpc.Server, string, error) {
	files, err := arpc.LoadCertificateFiles(certFile(dir), keyFile(dir), nil)
	if err != nil {
		return nil, "", err
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, "", err
	}
	server := arpc.NewServer()
	server.Handler.Handle("/greet", func(ctx *arpc.Context) { ctx.Write("hello") })
	go func() {
		err := server.ServeTLS(ln, &tls.Config{GetCertificate: files.GetCertificate})
		if !errors.Is(err, arpc.ErrServerClosed) {
			log.Print(err)
		}
	}()
	return server, ln.Addr().String(), nil
}

// greet connects, calls /greet once and disconnects.
func greet(ctx context.Context, stdout io.Writer, addr string, config *tls.Config) error {
	client, err := arpc.NewClient(arpc.DialTLS(addr, config))
	if err != nil {
		return err
	}
	defer client.Stop()

	var reply string
	if err := client.CallWith(ctx, "/greet", nil, &reply); err != nil {
		return err
	}
	server, _ := arpc.TLSIdentityOf(client.Conn())
	fmt.Fprintf(stdout, "%s, says the server with %s\n", reply, server)
	return nil
}
