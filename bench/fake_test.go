package main

import (
	"context"
	"errors"
	"net"
)

// corrupting is ours with a client that changes what it gets and sends.
type corrupting struct{ ours }

func (corrupting) Name() string { return "corrupting" }

func (c corrupting) Dial(addr string) (Conn, error) {
	conn, err := c.ours.Dial(addr)
	if err != nil {
		return nil, err
	}
	return corruptingConn{conn.(oursConn)}, nil
}

// Subscribe leaves out the third message.
func (c corrupting) Subscribe(addr string, receive func(body []byte)) (Conn, error) {
	var n int
	return c.ours.Subscribe(addr, func(body []byte) {
		if n++; n != 3 {
			receive(body)
		}
	})
}

type corruptingConn struct{ oursConn }

func (c corruptingConn) Caller() Caller { return corruptingCaller{c.oursConn.Caller()} }

func (c corruptingConn) JSONCaller() JSONCaller { return corruptingJSON{c.oursConn.JSONCaller()} }

func (c corruptingConn) Sender() Sender { return &corruptingSender{Sender: c.oursConn.Sender()} }

type corruptingCaller struct{ Caller }

func (c corruptingCaller) Call(req []byte) ([]byte, error) {
	rsp, err := c.Caller.Call(req)
	if err == nil {
		rsp[len(rsp)/2]++
	}
	return rsp, err
}

type corruptingJSON struct{ JSONCaller }

func (c corruptingJSON) CallJSON(req, rsp *Document) error {
	err := c.JSONCaller.CallJSON(req, rsp)
	rsp.Tags[0] += "?"
	return err
}

// corruptingSender leaves out the third message.
type corruptingSender struct {
	Sender
	n int
}

func (s *corruptingSender) Notify(body []byte) error {
	if s.n++; s.n == 3 {
		return nil
	}
	return s.Sender.Notify(body)
}

var errUnable = errors.New("this server cannot serve")

// unable has a server that ends by itself.
type unable struct{ limit }

func (unable) Name() string { return "unable" }

func (unable) Serve(context.Context, net.Listener, *Work) error { return errUnable }

// mute can do nothing but dial.
type mute struct{ limit }

func (mute) Dial(addr string) (Conn, error) { return net.Dial("tcp", addr) }
