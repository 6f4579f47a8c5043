package arpc_test

import (
	"crypto/tls"
	"fmt"
	"net"
	"os"
	"time"

	"github.com/arpc-go/arpc"
)

// With a certificate in files, which may be replaced while the server runs.
func ExampleServer_RunTLS() {
	dir, err := os.MkdirTemp("", "arpc")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer os.RemoveAll(dir)
	ca := newTLSAuthority() // of this example
	files := newTLSFiles(dir, ca.issue("server"))

	server := arpc.NewServer()
	server.Handler.Handle("/greet", func(ctx *arpc.Context) { ctx.Write("hello") })
	addr := exampleFreeAddr() // ":8888" as a rule
	served := make(chan error, 1)
	go func() { served <- server.RunTLS(addr, files.cert, files.key) }()

	client := exampleDialTLS(addr, &tls.Config{RootCAs: ca.pool})
	var reply string
	if err := client.Call("/greet", nil, &reply, time.Second); err != nil {
		fmt.Println(err)
	}
	fmt.Println(reply)
	client.Stop()
	server.Stop()
	fmt.Println(<-served)
	// Output:
	// hello
	// arpc: the server is closed
}

// Mutual TLS: both ends have certificates, and know each other by them.
func ExampleDialTLS() {
	ca := newTLSAuthority() // of this example
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		fmt.Println(err)
		return
	}
	server := arpc.NewServer()
	server.Handler.Handle("/whoami", func(ctx *arpc.Context) {
		if id, ok := ctx.Client.Identity().(arpc.TLSIdentity); ok { // of a verified certificate
			ctx.Write(id.CommonName)
		}
	})
	go server.ServeTLS(ln, &tls.Config{
		Certificates: []tls.Certificate{ca.issue("server")},
		ClientCAs:    ca.pool,
		ClientAuth:   tls.RequireAndVerifyClientCert,
	})
	defer server.Stop()

	client, err := arpc.NewClient(arpc.DialTLS(ln.Addr().String(), &tls.Config{
		RootCAs:      ca.pool,
		Certificates: []tls.Certificate{ca.issue("alice")},
	}))
	if err != nil {
		fmt.Println(err)
		return
	}
	defer client.Stop()
	var name string
	if err := client.Call("/whoami", nil, &name, time.Second); err != nil {
		fmt.Println(err)
	}
	fmt.Println(name, "talks to", client.Identity())
	// Output: alice talks to server
}

// A client whose certificate is in files. A server takes GetCertificate.
func ExampleCertificateFiles() {
	dir, err := os.MkdirTemp("", "arpc")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer os.RemoveAll(dir)
	ca := newTLSAuthority() // of this example
	paths := newTLSFiles(dir, ca.issue("alice"))

	files, err := arpc.LoadCertificateFiles(paths.cert, paths.key, nil)
	if err != nil {
		fmt.Println(err)
		return
	}
	config := &tls.Config{RootCAs: ca.pool, GetClientCertificate: files.GetClientCertificate}
	cert, err := config.GetClientCertificate(nil)
	fmt.Println(cert.Leaf.Subject.CommonName, err)
	// Output: alice <nil>
}

// exampleFreeAddr returns an address that nobody listens on.
func exampleFreeAddr() string {
	ln := tlsMust(net.Listen("tcp", "127.0.0.1:0"))
	defer ln.Close()
	return ln.Addr().String()
}

// exampleDialTLS dials a server that is about to listen.
func exampleDialTLS(addr string, config *tls.Config) *arpc.Client {
	for deadline := time.Now().Add(rowGuard); ; {
		c, err := arpc.NewClient(arpc.DialTLS(addr, config))
		switch {
		case err == nil:
			return c
		case time.Now().After(deadline):
			panic(err)
		}
	}
}
