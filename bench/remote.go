package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"sync"
)

// command is what the client's process asks of the server's, as JSON in a line.
type command struct {
	Do string `json:"do"`
	// For doBroadcast: messages up to this number may be sent, of this size.
	Until uint64 `json:"until,omitempty"`
	Size  int    `json:"size,omitempty"`
}

const (
	doState     = "state"     // answered by a state
	doSettle    = "settle"    // the same, when what nobody needs is given back
	doRelease   = "release"   // held echoes go on
	doBroadcast = "broadcast" // send what is not sent yet
)

// state is what the server's process tells of itself, as JSON in a line.
type state struct {
	Usage
	Waiting int64     `json:"waiting,omitempty"` // echoes that are held
	Senders []arrived `json:"senders,omitempty"` // by their number
	Counted uint64    `json:"counted,omitempty"` // published messages that the server took
	Fault   string    `json:"fault,omitempty"`   // what was wrong first
}

// notices is how many notifications came.
func (s state) notices() (n uint64) {
	for _, a := range s.Senders {
		n += a.Count
	}
	return n
}

func (s state) err() error {
	if s.Fault == "" {
		return nil
	}
	return fmt.Errorf("server: %s", s.Fault)
}

// remote is a server as the client's process sees it.
type remote struct {
	addr string

	// Guarded by mu.
	mu  sync.Mutex
	in  io.WriteCloser
	out *bufio.Reader
}

// ask does what is answered. A fault of the server is an error.
func (r *remote) ask(do string) (s state, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if err := r.write(command{Do: do}); err != nil {
		return s, err
	}
	line, err := r.out.ReadBytes('\n')
	if err != nil {
		return s, fmt.Errorf("read the server's state: %w", err)
	}
	return s, errors.Join(json.Unmarshal(line, &s), s.err())
}

// tell does what is not answered.
func (r *remote) tell(c command) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.write(c)
}

func (r *remote) write(c command) error {
	line, err := json.Marshal(c)
	if err != nil {
		return err
	}
	if _, err := r.in.Write(append(line, '\n')); err != nil {
		return fmt.Errorf("tell the server to %s: %w", c.Do, err)
	}
	return nil
}
