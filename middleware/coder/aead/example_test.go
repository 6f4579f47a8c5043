package aead_test

import (
	"crypto/rand"
	"fmt"
	"net"
	"time"

	"github.com/arpc-go/arpc"
	"github.com/arpc-go/arpc/middleware/coder/aead"
)

// Both ends have the key and an AEAD of their own. Handlers and callers see nothing
// of it; who listens sees methods and lengths.
func Example() {
	secret := make([]byte, aead.SecretLen) // once, for all that are to have it
	rand.Read(secret)
	keys := []aead.Key{{ID: 1, Secret: secret}}

	sealing, err := aead.New(keys)
	if err != nil {
		panic(err)
	}
	server := arpc.NewServer()
	server.Handler.UseCoder(sealing)
	server.Handler.Handle("/greet", func(ctx *arpc.Context) { ctx.Write("hello " + string(ctx.Body())) })
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		panic(err)
	}
	go server.Serve(ln)
	defer server.Stop()

	call := func(keys []aead.Key) (reply string, err error) {
		sealing, err := aead.New(keys)
		if err != nil {
			return "", err
		}
		handler := arpc.NewHandler()
		handler.UseCoder(sealing)
		client, err := arpc.NewClient(func() (net.Conn, error) { return net.Dial("tcp", ln.Addr().String()) }, arpc.WithHandler(handler))
		if err != nil {
			return "", err
		}
		defer client.Stop()
		err = client.Call("/greet", "you", &reply, 5*time.Second)
		return reply, err
	}
	fmt.Println(call(keys))
	_, err = call([]aead.Key{{ID: 1, Secret: make([]byte, aead.SecretLen)}})
	fmt.Println("with another secret:", err != nil)
	// Output:
	// hello you <nil>
	// with another secret: true
}

// A new key takes over in three steps, each done everywhere before the next, and no
// message is lost.
func ExampleAEAD_SetKeys() {
	secret := func(b byte) []byte {
		secret := make([]byte, aead.SecretLen)
		secret[0] = b
		return secret
	}
	old := aead.Key{ID: 2030, Secret: secret(1)}
	next := aead.Key{ID: 2031, Secret: secret(2), Algorithm: aead.AESGCM}
	sealing, err := aead.New([]aead.Key{old})
	fmt.Println(err)
	fmt.Println(sealing.SetKeys(old, next)) // all can decrypt both
	fmt.Println(sealing.SetKeys(next, old)) // all encrypt with the new one
	fmt.Println(sealing.SetKeys(next))      // when nothing of the old one is under way
	fmt.Println(next, "is in use, and", old, "is not")
	// Output:
	// <nil>
	// <nil>
	// <nil>
	// <nil>
	// key 2031 (aes-256-gcm) is in use, and key 2030 (xchacha20-poly1305) is not
}
