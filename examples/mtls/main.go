// Command mtls talks over mutual TLS: server and client each prove who they are
// with a certificate, and know each other by it.
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
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()

	ca, err := newAuthority()
	if err != nil {
		return err
	}
	server, addr, err := serve(ca)
	if err != nil {
		return err
	}
	defer server.Stop()

	for _, name := range []string{"alice", "mallory"} {
		cert, err := ca.issue(name)
		if err != nil {
			return err
		}
		err = meet(ctx, stdout, addr, &tls.Config{RootCAs: ca.pool, Certificates: []tls.Certificate{cert}})
		if err != nil {
			fmt.Fprintf(stdout, "%s: %v\n", name, arpc.CodeOf(err))
		}
	}
	if err = meet(ctx, stdout, addr, &tls.Config{RootCAs: ca.pool}); err == nil {
		return errors.New("a client without a certificate was served")
	}
	fmt.Fprintf(stdout, "without a certificate: %v\n", arpc.CodeOf(err))
	return nil
}

// serve starts a server that only takes clients with a certificate of the
// authority, and of these only some.
func serve(ca *authority) (*arpc.Server, string, error) {
	cert, err := ca.issue("server")
	if err != nil {
		return nil, "", err
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, "", err
	}
	server := arpc.NewServer()
	server.Handler.HandleAuth(welcome)
	server.Handler.Handle("/whoami", whoami)
	go func() {
		err := server.ServeTLS(ln, &tls.Config{
			Certificates: []tls.Certificate{cert},
			ClientCAs:    ca.pool,
			ClientAuth:   tls.RequireAndVerifyClientCert,
		})
		if !errors.Is(err, arpc.ErrServerClosed) {
			log.Print(err)
		}
	}()
	return server, ln.Addr().String(), nil
}

func whoami(ctx *arpc.Context) {
	id, _ := ctx.Client.Identity().(arpc.TLSIdentity)
	ctx.Write(id.CommonName)
}

// welcome knows clients by their certificates, before anything of theirs is
// handled.
func welcome(_ context.Context, c *arpc.Client, _ []byte) error {
	id, verified := c.Identity().(arpc.TLSIdentity)
	if !verified || id.CommonName == "mallory" {
		return arpc.NewError(arpc.CodePermissionDenied, "not you")
	}
	return nil
}

// meet connects, tells who both ends are, and disconnects.
func meet(ctx context.Context, stdout io.Writer, addr string, config *tls.Config) error {
	client, err := arpc.NewClient(arpc.DialTLS(addr, config))
	if err != nil {
		return err
	}
	defer client.Stop()

	var name string
	if err := client.CallWith(ctx, "/whoami", nil, &name); err != nil {
		return err
	}
	fmt.Fprintf(stdout, "%s talks to %s\n", name, client.Identity())
	return nil
}
