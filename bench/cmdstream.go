package main

import (
	"context"
	"fmt"
	"net"
	"sync"
	"time"

	cmdstream "github.com/cmd-stream/cmd-stream-go"
	cmdclient "github.com/cmd-stream/cmd-stream-go/client"
	"github.com/cmd-stream/cmd-stream-go/core"
	corecln "github.com/cmd-stream/cmd-stream-go/core/cln"
	coresrv "github.com/cmd-stream/cmd-stream-go/core/srv"
	delegatesrv "github.com/cmd-stream/cmd-stream-go/delegate/srv"
	"github.com/cmd-stream/cmd-stream-go/handler"
	cmdserver "github.com/cmd-stream/cmd-stream-go/server"
	"github.com/cmd-stream/cmd-stream-go/transport"
	"github.com/mus-format/mus-stream-go/ord"
	"github.com/ymz-ncnk/jointwork-go"
)

// cmdStream is github.com/cmd-stream/cmd-stream-go.
type cmdStream struct {
	plain bool // default buffers
}

const cmdBuffer = 64 << 10

func (c cmdStream) Name() string {
	name := "cmd-stream-go " + moduleVersion("github.com/cmd-stream/cmd-stream-go")
	if c.plain {
		name += ", default buffers"
	}
	return name
}

func (c cmdStream) Setup() string {
	setup := "buffers of 64 KiB"
	if c.plain {
		setup = "default buffers"
	}
	return setup + ", a client without group and sender, MUS byte slices, a worker for each connection, no keepalive, no deadlines; notifications are commands without results that the client forgets"
}

func (c cmdStream) transport() []transport.SetOption {
	if c.plain {
		return nil
	}
	return []transport.SetOption{transport.WithReaderBufSize(cmdBuffer), transport.WithWriterBufSize(cmdBuffer)}
}

// Serve puts together what cmdstream.NewServer does, for workers of its own.
func (c cmdStream) Serve(ctx context.Context, ln net.Listener, work *Work) error {
	desk := &cmdDesk{work: work}
	work.CanBroadcast(desk.news.broadcast)
	opts := cmdserver.DefaultOptions()
	codec := cmdserver.AdaptCodec[*cmdDesk](cmdServerCodec{}, opts)
	d, err := delegatesrv.New(opts.Info, cmdserver.NewTransportFactory(codec, c.transport()...), handler.New(cmdserver.NewInvoker(desk)))
	if err != nil {
		return err
	}
	s, err := coresrv.NewWithWorkers(d, cmdWorkers{})
	if err != nil {
		return err
	}
	defer context.AfterFunc(ctx, func() {
		if s.Close() != nil { // does not serve yet
			ln.Close()
		}
	})()
	return s.Serve(ln.(*net.TCPListener))
}

// cmdWorkers makes workers for as many connections as there are. Those that come
// with it serve one connection each, and their number is fixed.
type cmdWorkers struct{}

func (cmdWorkers) New(_ int, conns <-chan net.Conn, d core.ServerDelegate, _ coresrv.LostConnCallback) []jointwork.Task {
	ctx, cancel := context.WithCancel(context.Background())
	return []jointwork.Task{cmdWorker{ctx, cancel, conns, d}}
}

type cmdWorker struct {
	ctx      context.Context
	cancel   context.CancelFunc
	conns    <-chan net.Conn
	delegate core.ServerDelegate
}

func (w cmdWorker) Run() error {
	var serving sync.WaitGroup
	defer serving.Wait()
	for nc := range w.conns {
		serving.Go(func() { w.delegate.Handle(w.ctx, nc) })
	}
	return coresrv.ErrClosed
}

func (w cmdWorker) Stop() error {
	w.cancel()
	return nil
}

// cmdDesk is the receiver of commands.
type cmdDesk struct {
	work *Work
	news newsroom
}

func (c cmdStream) Dial(addr string) (Conn, error) {
	client, err := c.dial(addr)
	if err != nil {
		return nil, err
	}
	return cmdConn{client}, nil
}

func (c cmdStream) dial(addr string) (*corecln.Client[*cmdDesk], error) {
	nc, err := net.Dial("tcp", addr)
	if err != nil {
		return nil, err
	}
	client, err := cmdstream.NewClient[*cmdDesk](cmdClientCodec{}, nc, cmdclient.WithTransport(c.transport()...))
	if err != nil {
		nc.Close()
	}
	return client, err
}

// Subscribe sends a command with many results, the first of which is empty.
func (c cmdStream) Subscribe(addr string, receive func(body []byte)) (Conn, error) {
	client, err := c.dial(addr)
	if err != nil {
		return nil, err
	}
	results := make(chan core.AsyncResult, maxAhead)
	_, err = cmdSend(client, &cmdNews{}, results)
	if err != nil {
		client.Close()
		return nil, err
	}
	go func() {
		for {
			select {
			case r := <-results:
				if r.Error != nil {
					return
				}
				receive(r.Result.(*cmdBytes).body)
			case <-client.Done():
				return
			}
		}
	}()
	return cmdConn{client}, nil
}

// cmdSend returns the first result.
func cmdSend(client *corecln.Client[*cmdDesk], cmd core.Cmd[*cmdDesk], results chan core.AsyncResult) (core.Result, error) {
	if _, _, err := client.Send(cmd, results); err != nil {
		return nil, err
	}
	select {
	case r := <-results:
		return r.Result, r.Error
	case <-client.Done(): // commands sent meanwhile are not told
		return nil, client.Error()
	}
}

type cmdConn struct{ client *corecln.Client[*cmdDesk] }

func (c cmdConn) Close() error { return c.client.Close() }

func (c cmdConn) Caller() Caller { return c.caller() }

func (c cmdConn) JSONCaller() JSONCaller { return c.caller() }

func (c cmdConn) Sender() Sender { return c.caller() }

func (c cmdConn) caller() *cmdCaller {
	return &cmdCaller{client: c.client, results: make(chan core.AsyncResult, 1)}
}

type cmdCaller struct {
	client  *corecln.Client[*cmdDesk]
	results chan core.AsyncResult
	echo    cmdEcho
	notice  cmdNotice
	revise  cmdRevise
}

func (c *cmdCaller) Call(req []byte) ([]byte, error) {
	c.echo.body = req
	r, err := cmdSend(c.client, &c.echo, c.results)
	if err != nil {
		return nil, err
	}
	return r.(*cmdBytes).body, nil
}

func (c *cmdCaller) Notify(body []byte) error {
	c.notice.body = body
	seq, _, err := c.client.Send(&c.notice, nil)
	c.client.Forget(seq)
	return err
}

func (c *cmdCaller) CallJSON(req, rsp *Document) error {
	c.revise.doc = req
	r, err := cmdSend(c.client, &c.revise, c.results)
	if err != nil {
		return err
	}
	return DocumentCodec.Unmarshal(r.(*cmdBytes).body, rsp)
}

// The commands, and the first bytes that tell them on the wire.
const (
	cmdEchoKind = iota
	cmdNoticeKind
	cmdReviseKind
	cmdNewsKind
)

type cmdEcho struct{ body []byte }

func (c *cmdEcho) Exec(_ context.Context, seq core.Seq, _ time.Time, desk *cmdDesk, proxy core.Proxy) error {
	desk.work.Pause()
	_, err := proxy.Send(seq, &cmdBytes{body: c.body})
	return err
}

type cmdNotice struct{ body []byte }

func (c *cmdNotice) Exec(_ context.Context, _ core.Seq, _ time.Time, desk *cmdDesk, _ core.Proxy) error {
	desk.work.NoticeUnordered(c.body)
	return nil
}

type cmdRevise struct{ doc *Document }

func (c *cmdRevise) Exec(_ context.Context, seq core.Seq, _ time.Time, desk *cmdDesk, proxy core.Proxy) error {
	desk.work.Revise(c.doc)
	body, err := DocumentCodec.Marshal(c.doc)
	if err != nil {
		return err
	}
	_, err = proxy.Send(seq, &cmdBytes{body: body})
	return err
}

// cmdNews is answered with an empty result and then with what is broadcast.
type cmdNews struct{}

func (c *cmdNews) Exec(ctx context.Context, seq core.Seq, _ time.Time, desk *cmdDesk, proxy core.Proxy) error {
	send := func(body []byte) error {
		_, err := proxy.Send(seq, &cmdBytes{body: body, more: true})
		return err
	}
	return desk.news.deliver(ctx, func() error { return send(nil) }, send)
}

// cmdBytes is the result of all commands.
type cmdBytes struct {
	body []byte
	more bool // it is not the last
}

func (r *cmdBytes) LastOne() bool { return !r.more }

type cmdClientCodec struct{}

func (cmdClientCodec) Encode(cmd core.Cmd[*cmdDesk], w transport.Writer) (n int, err error) {
	var kind byte
	var body []byte
	switch c := cmd.(type) {
	case *cmdEcho:
		kind, body = cmdEchoKind, c.body
	case *cmdNotice:
		kind, body = cmdNoticeKind, c.body
	case *cmdRevise:
		kind = cmdReviseKind
		body, err = DocumentCodec.Marshal(c.doc)
	case *cmdNews:
		kind = cmdNewsKind
	}
	if err != nil {
		return 0, err
	}
	return cmdEncode(kind, body, w)
}

func (cmdClientCodec) Decode(r transport.Reader) (core.Result, int, error) {
	more, body, n, err := cmdDecode(r)
	return &cmdBytes{body: body, more: more == 1}, n, err
}

type cmdServerCodec struct{}

func (cmdServerCodec) Encode(result core.Result, w transport.Writer) (int, error) {
	r := result.(*cmdBytes)
	var more byte
	if r.more {
		more = 1
	}
	return cmdEncode(more, r.body, w)
}

func (cmdServerCodec) Decode(r transport.Reader) (core.Cmd[*cmdDesk], int, error) {
	kind, body, n, err := cmdDecode(r)
	if err != nil {
		return nil, n, err
	}
	switch kind {
	case cmdEchoKind:
		return &cmdEcho{body}, n, nil
	case cmdNoticeKind:
		return &cmdNotice{body}, n, nil
	case cmdNewsKind:
		return &cmdNews{}, n, nil
	case cmdReviseKind:
		var d Document
		err := DocumentCodec.Unmarshal(body, &d)
		return &cmdRevise{&d}, n, err
	}
	return nil, n, fmt.Errorf("unknown command %d", kind)
}

func cmdEncode(kind byte, body []byte, w transport.Writer) (int, error) {
	if err := w.WriteByte(kind); err != nil {
		return 0, err
	}
	n, err := ord.ByteSlice.Marshal(body, w)
	return n + 1, err
}

func cmdDecode(r transport.Reader) (kind byte, body []byte, n int, err error) {
	if kind, err = r.ReadByte(); err != nil {
		return 0, nil, 0, err
	}
	body, n, err = ord.ByteSlice.Unmarshal(r)
	return kind, body, n + 1, err
}
