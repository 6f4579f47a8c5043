package arpctest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	"github.com/arpc-go/arpc"
)

// patience is how long the kit waits for what is sure to come.
const patience = 2 * time.Minute

// setup registers routes at both ends, and the coder at both or at the server.
func (k *coderKit) setup(both bool) Option {
	return Setup(func(s *arpc.Server, client *arpc.Handler) {
		for _, h := range []*arpc.Handler{s.Handler, client} {
			if both || h == s.Handler {
				h.UseCoder(k.newCoder())
			}
			h.Handle("/echo", func(ctx *arpc.Context) { ctx.Write(ctx.Body()) })
			h.Handle("/fail", func(ctx *arpc.Context) { ctx.Error(errors.New(string(ctx.Body()))) })
			h.HandleStream("/stream", func(st *arpc.Stream) {
				for b, err := range st.RecvSeq() {
					if err != nil || st.Send(b) != nil {
						return
					}
				}
			})
		}
	})
}

// overTheWire sends messages of all kinds between the two ends.
func overTheWire(p *Pair) error {
	ends := map[string]*arpc.Client{"the client": p.Client, "the server": p.Peer()}
	for name, c := range ends {
		for _, payload := range coderPayloads(100 << 10) {
			if n := len(payload.bytes); n%2 != 0 || n > 10 && n < 1000 { // one of each two neighbours
				continue
			}
			if err := everyKind(c, payload.bytes); err != nil {
				return fmt.Errorf("%s sends %s: %w", name, payload.name, err)
			}
		}
		if err := manyCalls(c); err != nil {
			return fmt.Errorf("%s calls: %w", name, err)
		}
	}
	return manyPushes(p)
}

func everyKind(c *arpc.Client, payload []byte) error {
	var rsp []byte
	if err := c.Call("/echo", payload, &rsp, patience); err != nil || !bytes.Equal(payload, rsp) {
		return fmt.Errorf("call: got %s, %w", excerpt(rsp), err)
	}
	answered := make(chan error, 1)
	err := c.CallAsync("/echo", payload, func(ctx *arpc.Context) {
		var rsp []byte
		err := ctx.Bind(&rsp)
		if err == nil && !bytes.Equal(payload, rsp) {
			err = fmt.Errorf("got %s", excerpt(rsp))
		}
		answered <- err
	}, patience)
	if err == nil {
		err = <-answered
	}
	if err != nil {
		return fmt.Errorf("asynchronous call: %w", err)
	}
	text := fmt.Sprintf("%x", payload[:min(len(payload), 1000)])
	if err := c.Call("/fail", text, nil, patience); err == nil || !arpc.IsRemote(err) || text != "" && err.Error() != text {
		return fmt.Errorf("call that fails: want the error %.100q, got %.100q", text, err)
	}
	if err := c.Call("/nobody", payload, nil, patience); !errors.Is(err, arpc.ErrMethodNotFound) {
		return fmt.Errorf("call of no route: %w", err)
	}
	if len(payload) == 0 {
		return nil // an empty message ends a stream of version 1
	}
	return stream(c, payload)
}

func stream(c *arpc.Client, payload []byte) error {
	st, err := c.OpenStream(context.Background(), "/stream")
	if err != nil {
		return fmt.Errorf("stream: %w", err)
	}
	defer st.Close()
	for range 3 {
		var rsp []byte
		if err := errors.Join(st.Send(payload), st.Recv(&rsp)); err != nil || !bytes.Equal(payload, rsp) {
			return fmt.Errorf("stream: got %s, %w", excerpt(rsp), err)
		}
	}
	if err := st.CloseSend(); err != nil {
		return fmt.Errorf("stream: %w", err)
	}
	if err := st.Recv(nil); err != io.EOF {
		return fmt.Errorf("end of the stream: %w", err)
	}
	return nil
}

// manyCalls calls from several goroutines at the same time.
func manyCalls(c *arpc.Client) error {
	errs := make([]error, 8)
	var wg sync.WaitGroup
	for i := range errs {
		wg.Go(func() {
			for n := 0; n < 50 && errs[i] == nil; n++ {
				want, got := fmt.Sprintf("%d of %d", n, i), ""
				if errs[i] = c.Call("/echo", want, &got, patience); errs[i] == nil && got != want {
					errs[i] = fmt.Errorf("want %q, got %q", want, got)
				}
			}
		})
	}
	wg.Wait()
	return errors.Join(errs...)
}

// manyPushes has one message pushed to several clients, twice, both ways. The other
// clients share a handler, and so a coder.
func manyPushes(p *Pair) error {
	const clients, times = 3, 2
	got := make(chan []byte, 2*clients*times)
	keep := func(ctx *arpc.Context) { got <- bytes.Clone(ctx.Body()) }
	p.Server.Handler.Handle("/pushed", keep)
	p.Client.Handler.Handle("/pushed", keep)
	all := []*arpc.Client{p.Client}
	for len(all) < clients {
		all = append(all, p.Dial())
	}
	payload := bytes.Repeat([]byte("to all "), 1000)
	for _, c := range all[:clients:clients] {
		all = append(all, p.PeerOf(c))
	}
	msg := p.Server.NewMessage(arpc.CmdNotify, "/pushed", payload)
	before := bytes.Clone(msg.Buffer)
	for range times {
		for _, c := range all {
			if err := c.PushMsg(msg, patience); err != nil {
				return fmt.Errorf("push: %w", err)
			}
		}
	}
	if !bytes.Equal(msg.Buffer, before) {
		return errors.New("a message that was pushed has changed")
	}
	return arrived(got, len(all)*times, payload)
}

func arrived(got <-chan []byte, n int, want []byte) error {
	late := time.NewTimer(patience)
	defer late.Stop()
	for i := range n {
		select {
		case b := <-got:
			if !bytes.Equal(b, want) {
				return fmt.Errorf("pushed message %d: got %s", i, excerpt(b))
			}
		case <-late.C:
			return fmt.Errorf("of %d pushed messages %d have arrived", n, i)
		}
	}
	return nil
}
