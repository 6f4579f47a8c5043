package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"sync"
	"syscall"

	buff "github.com/StabbyCutyou/buffstreams"
)

// buffStreams is github.com/StabbyCutyou/buffstreams. It has messages of one
// direction only.
type buffStreams struct{}

// buffMaxMessage is the default.
const buffMaxMessage = 4096

func (buffStreams) Name() string {
	return "BuffStreams " + strings.TrimSuffix(moduleVersion("github.com/StabbyCutyou/buffstreams"), "+incompatible")
}

func (buffStreams) Setup() string {
	return fmt.Sprintf("TCPConn with a mutex of its user, as concurrent writers lose messages, messages of %d bytes at most, no logs", buffMaxMessage)
}

// Serve tells whoever connects to ln where its listener is, which cannot be had
// from outside. Nothing ends that listener: it stays until the process ends.
func (buffStreams) Serve(ctx context.Context, ln net.Listener, work *Work) error {
	addr, l, err := buffListen(func(body []byte) error {
		work.Notice(body)
		return nil
	})
	if err != nil {
		return err
	}
	defer l.Close() // ends the connections
	if err := l.StartListeningAsync(); err != nil {
		return err
	}
	defer context.AfterFunc(ctx, func() { ln.Close() })()
	for {
		nc, err := ln.Accept()
		if err != nil {
			return err
		}
		fmt.Fprintln(nc, addr)
		nc.Close()
	}
}

// buffListen looks for a free port, as the port of a listener cannot be asked for.
func buffListen(callback buff.ListenCallback) (addr string, l *buff.TCPListener, err error) {
	for range 10 {
		free, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return "", nil, err
		}
		addr = free.Addr().String()
		free.Close()
		l, err = buff.ListenTCP(buff.TCPListenerConfig{MaxMessageSize: buffMaxMessage, Address: addr, Callback: callback})
		if !errors.Is(err, syscall.EADDRINUSE) {
			return addr, l, err
		}
	}
	return "", nil, syscall.EADDRINUSE
}

func (buffStreams) Dial(addr string) (Conn, error) {
	nc, err := net.Dial("tcp", addr)
	if err != nil {
		return nil, err
	}
	defer nc.Close()
	line, err := bufio.NewReader(nc).ReadString('\n')
	if err != nil {
		return nil, err
	}
	c, err := buff.DialTCP(&buff.TCPConnConfig{MaxMessageSize: buffMaxMessage, Address: strings.TrimSpace(line)})
	if err != nil {
		return nil, err
	}
	return &buffConn{conn: c}, nil
}

type buffConn struct {
	conn *buff.TCPConn
	mu   sync.Mutex // held while writing
}

func (c *buffConn) Close() error { return c.conn.Close() }

func (c *buffConn) Sender() Sender { return buffSender{c} }

type buffSender struct{ conn *buffConn }

func (s buffSender) Notify(body []byte) error {
	s.conn.mu.Lock()
	defer s.conn.mu.Unlock()
	_, err := s.conn.conn.Write(body)
	return err
}
