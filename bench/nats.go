package main

import (
	"context"
	"errors"
	"net"

	natsserver "github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
)

// natsEcho is github.com/nats-io/nats.go with the NATS server in the process of
// the participant's server, which is one of its clients.
type natsEcho struct {
	concurrent bool // a goroutine for each request
	inProcess  bool // the participant's server is connected by a pipe, not by TCP
}

const (
	natsMaxBody = 4 << 20
)

func (n natsEcho) Name() string {
	name := "NATS " + moduleVersion("github.com/nats-io/nats.go")
	if n.concurrent {
		name += ", a goroutine for each request"
	} else {
		name += ", requests one after the other"
	}
	if n.inProcess {
		name += ", pipe"
	}
	return name
}

func (n natsEcho) Setup() string {
	setup := "server " + moduleVersion("github.com/nats-io/nats-server/v2") + " without logs and JetStream"
	if n.inProcess {
		setup += ", connected to the participant's server by a pipe"
	} else {
		setup += ", connected to the participant's server by loopback TCP"
	}
	return setup + ", no limit of what waits for the callback, requests without a timeout; a sender of notifications waits for an answer every 8,192, as nothing else holds it back"
}

// Blocks is true for the callback of a subscription, which is called with one
// message after the other.
func (n natsEcho) Blocks() bool { return !n.concurrent }

func (n natsEcho) Serve(ctx context.Context, ln net.Listener, work *Work) error {
	s, err := natsServer(ln)
	if err != nil {
		return err
	}
	defer s.WaitForShutdown()
	defer s.Shutdown()
	var opts []nats.Option
	if n.inProcess {
		opts = append(opts, nats.InProcessServer(s))
	}
	nc, err := natsConnect(s.Addr().String(), opts...)
	if err != nil {
		return err
	}
	defer nc.Close()
	work.CanBroadcast(func(body []byte) error { return nc.Publish("news", body) })
	work.CanCount(func() uint64 {
		v, err := s.Varz(nil)
		if err != nil {
			work.fail(err)
			return 0
		}
		return uint64(v.InMsgs)
	})
	if err := n.subscribe(nc, work); err != nil {
		return err
	}
	<-ctx.Done()
	return ctx.Err()
}

// natsServer listens where ln does: the NATS server takes no listener.
func natsServer(ln net.Listener) (*natsserver.Server, error) {
	addr := ln.Addr().(*net.TCPAddr)
	ln.Close()
	s, err := natsserver.NewServer(&natsserver.Options{
		Host:       addr.IP.String(),
		Port:       addr.Port,
		MaxPayload: natsMaxBody,
		NoLog:      true,
		NoSigs:     true,
	})
	if err != nil {
		return nil, err
	}
	s.Start()
	if !s.ReadyForConnections(callTimeout) {
		s.Shutdown()
		return nil, errors.New("the NATS server does not start")
	}
	return s, nil
}

func natsConnect(addr string, opts ...nats.Option) (*nats.Conn, error) {
	return nats.Connect("nats://"+addr, append(opts, nats.NoReconnect(), nats.Timeout(callTimeout))...)
}

func (n natsEcho) subscribe(nc *nats.Conn, work *Work) error {
	for subject, handle := range map[string]nats.MsgHandler{
		"echo":   n.handler(func(m *nats.Msg) { natsEchoed(m, work) }),
		"revise": n.handler(func(m *nats.Msg) { natsRevised(m, work) }),
		"notice": func(m *nats.Msg) { natsNotice(m, work) },
	} {
		sub, err := nc.Subscribe(subject, handle)
		if err != nil {
			return err
		}
		if err := sub.SetPendingLimits(-1, -1); err != nil {
			return err
		}
	}
	_, err := nc.Subscribe("alive", func(m *nats.Msg) { m.Respond(nil) }) // after the others
	return err
}

func (n natsEcho) handler(handle nats.MsgHandler) nats.MsgHandler {
	if !n.concurrent {
		return handle
	}
	return func(m *nats.Msg) { go handle(m) }
}

func natsEchoed(m *nats.Msg, work *Work) {
	work.Pause()
	m.Respond(m.Data)
}

func natsRevised(m *nats.Msg, work *Work) {
	var d Document
	if err := DocumentCodec.Unmarshal(m.Data, &d); err != nil {
		work.fail(err)
		return
	}
	work.Revise(&d)
	body, err := DocumentCodec.Marshal(&d)
	if err != nil {
		work.fail(err)
		return
	}
	m.Respond(body)
}

func natsNotice(m *nats.Msg, work *Work) {
	work.Notice(m.Data)
	if m.Reply != "" {
		m.Respond(nil)
	}
}

func (n natsEcho) Dial(addr string) (Conn, error) {
	nc, err := n.dial(addr)
	if err != nil {
		return nil, err
	}
	return natsConn{nc}, nil
}

// dial waits until the NATS server listens and has the subscriptions of the
// participant's server.
func (n natsEcho) dial(addr string) (nc *nats.Conn, err error) {
	ctx, cancel := context.WithTimeout(context.Background(), callTimeout)
	defer cancel()
	for {
		if nc, err = natsConnect(addr); err == nil {
			if _, err = nc.RequestWithContext(ctx, "alive", nil); err == nil {
				return nc, nil
			}
			nc.Close()
		}
		if wait(ctx, look) != nil {
			return nil, err
		}
	}
}

// Subscribe has the callback of a subscription called with each message.
func (n natsEcho) Subscribe(addr string, receive func(body []byte)) (Conn, error) {
	nc, err := n.dial(addr)
	if err != nil {
		return nil, err
	}
	_, err = nc.Subscribe("news", func(m *nats.Msg) { receive(m.Data) })
	if err == nil {
		err = nc.Flush()
	}
	if err != nil {
		nc.Close()
		return nil, err
	}
	return natsConn{nc}, nil
}

type natsConn struct{ nc *nats.Conn }

func (c natsConn) Close() error {
	c.nc.Close()
	return nil
}

func (c natsConn) Caller() Caller { return c }

func (c natsConn) JSONCaller() JSONCaller { return c }

func (c natsConn) Sender() Sender { return &natsSender{nc: c.nc} }

func (c natsConn) Publisher() Sender { return natsPublisher(c) }

func (c natsConn) Call(req []byte) ([]byte, error) {
	m, err := c.nc.RequestWithContext(context.Background(), "echo", req)
	if err != nil {
		return nil, err
	}
	return m.Data, nil
}

func (c natsConn) CallJSON(req, rsp *Document) error {
	body, err := DocumentCodec.Marshal(req)
	if err != nil {
		return err
	}
	m, err := c.nc.RequestWithContext(context.Background(), "revise", body)
	if err != nil {
		return err
	}
	return DocumentCodec.Unmarshal(m.Data, rsp)
}

// natsWindow is how many notifications lie between two that ask for an answer.
// The second is sent when the first is answered.
const natsWindow = 8192

type natsSender struct {
	nc      *nats.Conn
	sent    int
	answers *nats.Subscription // nil before the first notification
}

func (s *natsSender) Notify(body []byte) error {
	s.sent++
	if s.sent%natsWindow != 0 {
		return s.nc.Publish("notice", body)
	}
	if err := s.await(); err != nil {
		return err
	}
	return s.nc.PublishRequest("notice", s.answers.Subject, body)
}

// await waits for the answer before.
func (s *natsSender) await() (err error) {
	if s.answers == nil {
		s.answers, err = s.nc.SubscribeSync(s.nc.NewInbox())
		return err
	}
	_, err = s.answers.NextMsg(callTimeout)
	return err
}

func (s *natsSender) Flush() error { return s.nc.Flush() }

// natsPublisher is for a subject that nobody answers on: what holds it back is the
// socket.
type natsPublisher struct{ nc *nats.Conn }

func (p natsPublisher) Notify(body []byte) error { return p.nc.Publish(unread, body) }

func (p natsPublisher) Flush() error { return p.nc.Flush() }
