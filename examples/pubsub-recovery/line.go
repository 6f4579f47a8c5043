package main

import (
	"errors"
	"net"
	"sync"

	"github.com/arpc-go/arpc/extension/pubsub"
)

// line is a network that can be cut.
type line struct {
	address string

	mu   sync.Mutex
	dead bool
}

func newLine(address string) *line { return &line{address: address} }

func (l *line) dial() (net.Conn, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.dead {
		return nil, errors.New("the line is dead")
	}
	return net.Dial("tcp", l.address)
}

// cut ends the connection, and there is no other until mend.
func (l *line) cut(client *pubsub.Client) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.dead = true
	client.Conn().Close()
}

func (l *line) mend() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.dead = false
}
