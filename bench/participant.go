package main

import (
	"context"
	"net"
	"time"
)

// Participant is one RPC system under measurement: a server that echoes and a
// client that calls it. Each lives in a file of its own and is listed in
// participants or variants.
type Participant interface {
	Name() string
	// Setup says in one line what was chosen where the system leaves a choice.
	Setup() string
	// Serve answers every request with its own body until ctx ends.
	Serve(ctx context.Context, ln net.Listener) error
	Dial(addr string) (Conn, error)
}

// Conn is one connection to a server.
type Conn interface {
	// Caller returns what one goroutine calls with. Any number of callers
	// share the connection.
	Caller() Caller
	// Close ends the calls in flight too. It may be called more than once.
	Close() error
}

// Caller is for one goroutine.
type Caller interface {
	// Call sends req, which the caller may change when Call has returned. The
	// response is valid until the next Call and shares no memory with req.
	Call(req []byte) ([]byte, error)
}

// participants are measured by default; the others are compared with ours.
var participants = []Participant{
	ours{},
	lesismal{},
	lesismal{concurrent: true},
	lesismal{variant: "as it comes", small: true},
	lesismal{concurrent: true, variant: "as it comes", small: true},
	grpcEcho{},
	limit{},
}

// variants are measured when -only names them: set-ups that were tried, so that
// anybody can check which is the fastest.
var variants = []Participant{
	lesismal{direct: true},
	lesismal{variant: "TCP_NODELAY", noDelay: true},
	lesismal{variant: "pool", pool: true},
	lesismal{concurrent: true, variant: "TCP_NODELAY", noDelay: true},
	lesismal{concurrent: true, variant: "pool", pool: true},
	lesismal{concurrent: true, direct: true},
	grpcEcho{variant: "as it comes", plain: true},
	grpcEcho{variant: "default buffers", buffers: true},
	grpcEcho{variant: "stream workers", workers: true},
}

// callTimeout is given to each call where the system wants one.
const callTimeout = 10 * time.Second

func find(list []Participant, name string) Participant {
	for _, p := range list {
		if p.Name() == name {
			return p
		}
	}
	return nil
}
