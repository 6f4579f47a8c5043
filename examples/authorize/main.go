// Command authorize has a server let its clients use the routes that are theirs.
package main

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"os"
	"slices"
	"time"

	"github.com/arpc-go/arpc"
	"github.com/arpc-go/arpc/middleware/router"
)

func main() {
	if err := run(context.Background(), os.Stdout); err != nil {
		log.Fatal(err)
	}
}

func run(ctx context.Context, stdout io.Writer) error {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()

	// Who a client is comes with the hello, before anything else. What it may is
	// asked for each message; the rule that says most of the method counts. What no
	// rule is about is closed.
	auth := router.NewAuth(
		router.Allow(router.Anyone(), "/status"),
		router.Allow(router.Known(), "/notes/*"),
		router.Allow(router.Role("admin"), "/admin/*"),
		router.Allow(router.Role("admin", "auditor"), "/admin/log"),
	)
	server := arpc.NewServer()
	server.Handler.HandleAuth(authenticate)
	server.Handler.Use(auth.Handler())
	server.Handler.UseStream(auth.Stream) // streams do not pass what Use adds
	for _, method := range []string{"/status", "/notes/read", "/admin/stop"} {
		server.Handler.Handle(method, func(ctx *arpc.Context) { ctx.Write("done") })
	}
	server.Handler.HandleStream("/admin/log", func(s *arpc.Stream) { s.Send("done") })
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	go serve(server, ln)
	defer server.Stop()

	for _, token := range []string{"", "token of ann", "token of bob", "token of cid"} {
		client, err := arpc.NewClient(func() (net.Conn, error) {
			return net.DialTimeout("tcp", ln.Addr().String(), 3*time.Second)
		}, arpc.WithCredentials(func(context.Context) ([]byte, error) { return []byte(token), nil }))
		if err != nil {
			return err
		}
		try(ctx, client, token, stdout)
		client.Stop()
	}
	fmt.Fprintf(stdout, "%d refused\n", auth.Refused())
	return nil
}

// try tells what a client may.
func try(ctx context.Context, client *arpc.Client, token string, stdout io.Writer) {
	fmt.Fprintf(stdout, "%q\n", token)
	for _, method := range []string{"/status", "/notes/read", "/admin/stop"} {
		err := client.CallWith(ctx, method, nil, nil)
		fmt.Fprintf(stdout, "  %-12s %v\n", method, arpc.CodeOf(err))
	}
	s, err := client.OpenStream(ctx, "/admin/log")
	if err == nil {
		err = s.Recv(new(string))
		s.Close()
	}
	fmt.Fprintf(stdout, "  %-12s %v\n", "/admin/log", arpc.CodeOf(err))
}

// user is the identity of a client. That it is a router.HasRole is what
// router.Role asks for.
type user struct {
	name  string
	roles []string
}

func (u *user) HasRole(role string) bool { return slices.Contains(u.roles, role) }

// users are those that are known, with the hashes of their tokens.
var users = []struct {
	token [sha256.Size]byte
	user  *user
}{
	{sha256.Sum256([]byte("token of ann")), &user{"ann", []string{"admin"}}},
	{sha256.Sum256([]byte("token of bob")), &user{"bob", []string{"auditor"}}},
	{sha256.Sum256([]byte("token of cid")), &user{"cid", nil}},
}

// authenticate finds out who a client is. A client without a token is let in and
// stays nobody. How long it takes to compare tells nothing about the tokens.
func authenticate(_ context.Context, c *arpc.Client, credentials []byte) error {
	if len(credentials) == 0 {
		return nil
	}
	hash := sha256.Sum256(credentials)
	for _, known := range users {
		if subtle.ConstantTimeCompare(hash[:], known.token[:]) == 1 {
			c.SetIdentity(known.user)
		}
	}
	if c.Identity() == nil {
		return arpc.NewError(arpc.CodeUnauthenticated, "the token is not known")
	}
	return nil
}

// serve serves until the server is stopped.
func serve(server *arpc.Server, ln net.Listener) {
	if err := server.Serve(ln); !errors.Is(err, arpc.ErrServerClosed) {
		log.Print(err)
	}
}
