// Command tls talks over mutual TLS: server and client each prove who they are
// with a certificate, and the server knows the caller by name.
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
	ln, err := listen(ca)
	if err != nil {
		return err
	}
	server := arpc.NewServer()
	server.Handler.Handle("/whoami", whoami)
	go serve(server, ln)
	defer server.Stop()

	alice, err := ca.issue("alice")
	if err != nil {
		return err
	}
	name, err := ask(ctx, ln.Addr().String(), &tls.Config{RootCAs: ca.pool, Certificates: []tls.Certificate{alice}})
	if err != nil {
		return fmt.Errorf("with a certificate: %w", err)
	}
	fmt.Fprintln(stdout, "with a certificate: hello,", name)

	_, err = ask(ctx, ln.Addr().String(), &tls.Config{RootCAs: ca.pool})
	if err == nil {
		return errors.New("a client without a certificate was served")
	}
	fmt.Fprintf(stdout, "without one: refused (%v)\n", arpc.CodeOf(err))
	return nil
}

// listen returns a TLS listener that only takes clients with a certificate of
// the authority.
func listen(ca *authority) (net.Listener, error) {
	cert, err := ca.issue("server")
	if err != nil {
		return nil, err
	}
	return tls.Listen("tcp", "127.0.0.1:0", &tls.Config{
		Certificates: []tls.Certificate{cert},
		ClientCAs:    ca.pool,
		ClientAuth:   tls.RequireAndVerifyClientCert,
		MinVersion:   tls.VersionTLS13,
	})
}

// serve serves until the server is stopped.
func serve(server *arpc.Server, ln net.Listener) {
	if err := server.Serve(ln); !errors.Is(err, arpc.ErrServerClosed) {
		log.Print(err)
	}
}

// whoami answers with the name in the caller's certificate. The handshake is
// over when a message arrives, and the certificate has been verified.
func whoami(ctx *arpc.Context) {
	conn, ok := ctx.Client.Conn().(*tls.Conn)
	if !ok {
		ctx.Error(arpc.NewError(arpc.CodeUnauthenticated, "not a TLS connection"))
		return
	}
	ctx.Write(conn.ConnectionState().PeerCertificates[0].Subject.CommonName)
}

// ask connects, calls /whoami once and disconnects.
func ask(ctx context.Context, addr string, config *tls.Config) (string, error) {
	dialer := tls.Dialer{NetDialer: &net.Dialer{Timeout: 3 * time.Second}, Config: config}
	client, err := arpc.NewClient(func() (net.Conn, error) {
		return dialer.Dial("tcp", addr)
	})
	if err != nil {
		return "", err
	}
	defer client.Stop()

	var name string
	err = client.CallWith(ctx, "/whoami", nil, &name)
	return name, err
}
