// Command encryption encrypts messages between two ends that share a key, and shows
// what somebody on the wire can do: see who calls what, and nothing more.
package main

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/arpc-go/arpc"
	"github.com/arpc-go/arpc/middleware/coder/aead"
)

func main() {
	if err := run(context.Background(), os.Stdout); err != nil {
		log.Fatal(err)
	}
}

func run(ctx context.Context, stdout io.Writer) error {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()

	// The key is given to both ends beforehand, by a way that is safe. Each end has an
	// AEAD of its own.
	key := newKey(1)
	ends, err := seal(key)
	if err != nil {
		return err
	}
	bank, err := open(ends[0])
	if err != nil {
		return err
	}
	defer bank.server.Stop()
	var tap tap
	client, err := bank.dial(ends[1], &tap)
	if err != nil {
		return err
	}
	defer client.Stop()

	var balance int
	if err := client.CallWith(ctx, "/pay", "100 to Mallory", &balance); err != nil {
		return err
	}
	fmt.Fprintf(stdout, "paid, the balance is %d\n", balance)
	seen := tap.bytes()
	fmt.Fprintf(stdout, "on the wire: the method %v, what is paid %v\n", bytes.Contains(seen, []byte("/pay")), bytes.Contains(seen, []byte("Mallory")))
	if err := replay(ctx, bank.addr, seen); err != nil {
		return err
	}
	fmt.Fprintf(stdout, "after a replay: %d\n", bank.balance.Load())
	if err := rotate(ctx, stdout, client, ends, key); err != nil {
		return err
	}
	return bank.refuse(ctx, stdout)
}

func newKey(id uint32) aead.Key {
	secret := make([]byte, aead.SecretLen)
	rand.Read(secret)
	return aead.Key{ID: id, Secret: secret}
}

// seal returns what encrypts at the two ends.
func seal(key aead.Key) (ends [2]*aead.AEAD, err error) {
	for i := range ends {
		if ends[i], err = aead.New([]aead.Key{key}); err != nil {
			return ends, err
		}
	}
	return ends, nil
}

// rotate has a new key take over while the connection lives: first all can decrypt it,
// then all encrypt with it, then the old one goes.
func rotate(ctx context.Context, stdout io.Writer, client *arpc.Client, ends [2]*aead.AEAD, old aead.Key) error {
	next := newKey(old.ID + 1)
	for _, keys := range [][]aead.Key{{old, next}, {next, old}, {next}} {
		for _, end := range ends {
			if err := end.SetKeys(keys...); err != nil {
				return err
			}
		}
		var balance int
		if err := client.CallWith(ctx, "/pay", "1 to Bob", &balance); err != nil {
			return err
		}
		fmt.Fprintf(stdout, "encrypted with %v: %d\n", keys[0], balance)
	}
	return nil
}

// bank is a server whose handler must not run unasked.
type bank struct {
	server  *arpc.Server
	addr    string
	balance *atomic.Int64
}

func open(sealing *aead.AEAD) (bank, error) {
	b := bank{server: arpc.NewServer(arpc.WithHandler(arpc.NewHandler())), balance: new(atomic.Int64)}
	b.balance.Store(1000)
	b.server.Handler.UseCoder(sealing)
	b.server.Handler.Handle("/pay", func(ctx *arpc.Context) {
		var amount int64
		var to string
		if _, err := fmt.Sscanf(string(ctx.Body()), "%d to %s", &amount, &to); err != nil {
			ctx.Error(err)
			return
		}
		ctx.Write(b.balance.Add(-amount))
	})
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return b, err
	}
	b.addr = ln.Addr().String()
	go func() {
		if err := b.server.Serve(ln); !errors.Is(err, arpc.ErrServerClosed) {
			log.Print(err)
		}
	}()
	return b, nil
}

// dial connects a client, which encrypts unless sealing is nil, over a wire with or
// without a tap.
func (b bank) dial(sealing *aead.AEAD, tap *tap) (*arpc.Client, error) {
	h := arpc.NewHandler()
	if sealing != nil {
		h.UseCoder(sealing)
	}
	return arpc.NewClient(func() (net.Conn, error) {
		nc, err := net.Dial("tcp", b.addr)
		if err != nil || tap == nil {
			return nc, err
		}
		return tappedConn{nc, tap}, nil
	}, arpc.WithHandler(h))
}

// refuse shows that nothing goes without a key.
func (b bank) refuse(ctx context.Context, stdout io.Writer) error {
	stranger, err := b.dial(nil, nil)
	if err != nil {
		return err
	}
	defer stranger.Stop()
	err = stranger.CallWith(ctx, "/pay", "1000 to Eve", nil)
	fmt.Fprintf(stdout, "without a key: refused %v, the balance is %d\n", err != nil, b.balance.Load())
	return nil
}

// tap is somebody who listens to what the client sends.
type tap struct {
	mu   sync.Mutex
	seen []byte
}

func (t *tap) bytes() []byte {
	t.mu.Lock()
	defer t.mu.Unlock()
	return bytes.Clone(t.seen)
}

type tappedConn struct {
	net.Conn
	tap *tap
}

func (c tappedConn) Write(b []byte) (int, error) {
	c.tap.mu.Lock()
	c.tap.seen = append(c.tap.seen, b...)
	c.tap.mu.Unlock()
	return c.Conn.Write(b)
}

// replay sends what was seen once more, over a connection of its own, and waits until
// the server has refused it.
func replay(ctx context.Context, addr string, seen []byte) error {
	nc, err := new(net.Dialer).DialContext(ctx, "tcp", addr)
	if err != nil {
		return err
	}
	defer nc.Close()
	if deadline, ok := ctx.Deadline(); ok {
		nc.SetDeadline(deadline)
	}
	if _, err := nc.Write(seen); err != nil {
		return err
	}
	for { // the answer to the hello, then that to the request
		header := make([]byte, arpc.HeadLen)
		if _, err := io.ReadFull(nc, header); err != nil {
			return err
		}
		if _, err := io.CopyN(io.Discard, nc, int64(binary.LittleEndian.Uint32(header))); err != nil {
			return err
		}
		if header[5] == arpc.CmdResponse {
			return nil
		}
	}
}
