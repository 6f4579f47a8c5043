// Command auth has a server let in only clients with a good token, and know them
// by name.
package main

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"os"
	"sync"
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

	// Tokens travel as they are: the example tls keeps others from reading them.
	known := &tokens{owners: make(map[string]string)}
	server := arpc.NewServer(arpc.WithCompat("shop, version 2"))
	server.Handler.HandleAuth(known.authenticate)
	server.Handler.Handle("/whoami", func(ctx *arpc.Context) {
		ctx.Write(ctx.Client.Identity())
	})
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	go serve(server, ln)
	defer server.Stop()
	dial := func() (net.Conn, error) {
		return net.DialTimeout("tcp", ln.Addr().String(), 3*time.Second)
	}

	stranger, err := dial() // connects, and does not say who it is
	if err != nil {
		return err
	}
	defer stranger.Close()

	// WithCredentials is asked for each connection: a client that comes back has
	// a new token.
	news := make(chan string, 1)
	handler := arpc.NewHandler(arpc.WithCompat("shop, version 2"), arpc.WithCredentials(func(context.Context) ([]byte, error) {
		return known.issue("ann"), nil
	}))
	handler.Handle("/news", func(ctx *arpc.Context) { news <- string(ctx.Body()) })
	ann, err := arpc.NewClient(dial, arpc.WithHandler(handler))
	if err != nil {
		return err
	}
	defer ann.Stop()

	if err := whoami(ctx, ann, stdout); err != nil {
		return err
	}
	if err := ann.Restart(); err != nil {
		return err
	}
	if err := whoami(arpc.ContextWithWaitForReady(ctx, true), ann, stdout); err != nil {
		return err
	}

	// Broadcast reaches those who have authenticated.
	if err := server.Broadcast("/news", "the shop is open"); err != nil {
		return err
	}
	select {
	case text := <-news:
		fmt.Fprintln(stdout, "ann hears that", text)
	case <-ctx.Done():
		return ctx.Err()
	}

	if err := refused(dial, stdout); err != nil {
		return err
	}
	server.Stop()
	heard, err := io.ReadAll(stranger)
	if err != nil {
		return err
	}
	fmt.Fprintf(stdout, "who did not say a word heard %d bytes\n", len(heard))
	return nil
}

// serve serves until the server is stopped.
func serve(server *arpc.Server, ln net.Listener) {
	if err := server.Serve(ln); !errors.Is(err, arpc.ErrServerClosed) {
		log.Print(err)
	}
}

func whoami(ctx context.Context, client *arpc.Client, stdout io.Writer) error {
	var name string
	if err := client.CallWith(ctx, "/whoami", nil, &name); err != nil {
		return err
	}
	fmt.Fprintln(stdout, "the server knows its client as", name)
	return nil
}

// refused shows two clients that are not let in. They do not try again: that
// would not help.
func refused(dial arpc.DialerFunc, stdout io.Writer) error {
	guess := func(context.Context) ([]byte, error) { return []byte("open sesame"), nil }
	for _, compat := range []string{"shop, version 2", "shop, version 1"} {
		client, err := arpc.NewClient(dial, arpc.WithCompat(compat), arpc.WithCredentials(guess))
		if err == nil {
			client.Stop()
			return errors.New("let in without a good token")
		}
		fmt.Fprintf(stdout, "%v: %v\n", arpc.CodeOf(err), err)
	}
	return nil
}

// tokens are good for one connection each.
type tokens struct {
	mu     sync.Mutex
	count  int               // of those issued; guarded by mu
	owners map[string]string // of those not used yet; guarded by mu
}

func (t *tokens) issue(owner string) []byte {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.count++
	token := rand.Text()
	t.owners[token] = fmt.Sprintf("%s with token %d", owner, t.count)
	return []byte(token)
}

// authenticate is called before anything else of a connection is handled.
func (t *tokens) authenticate(_ context.Context, c *arpc.Client, credentials []byte) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	owner, ok := t.owners[string(credentials)]
	if !ok {
		return arpc.NewError(arpc.CodeUnauthenticated, "the token is not known, or was used before")
	}
	delete(t.owners, string(credentials))
	c.SetIdentity(owner)
	return nil
}
