package main

import (
	"context"
	"errors"
	"net"
)

// corrupting is the limit with a client that changes one byte of a response.
type corrupting struct{ limit }

func (corrupting) Name() string { return "corrupting" }

func (c corrupting) Dial(addr string) (Conn, error) {
	conn, err := c.limit.Dial(addr)
	return corruptingConn{conn}, err
}

type corruptingConn struct{ Conn }

func (c corruptingConn) Caller() Caller { return corruptingCaller{c.Conn.Caller()} }

type corruptingCaller struct{ Caller }

func (c corruptingCaller) Call(req []byte) ([]byte, error) {
	rsp, err := c.Caller.Call(req)
	if err == nil {
		rsp[len(rsp)/2]++
	}
	return rsp, err
}

var errUnable = errors.New("this server cannot serve")

// unable has a server that ends by itself.
type unable struct{ limit }

func (unable) Name() string { return "unable" }

func (unable) Serve(context.Context, net.Listener) error { return errUnable }
