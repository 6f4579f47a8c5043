package main

import (
	"context"
	"net"
	"slices"
	"time"
)

// Participant is one RPC system under measurement: a server that does what Work
// says and a client that uses it. Each lives in a file of its own and is listed
// in participants or variants. A system with several modes is several
// participants.
type Participant interface {
	Name() string
	// Setup says in one line what was chosen where the system leaves a choice.
	Setup() string
	// Serve does its work until ctx ends. It answers each echo with its own body,
	// after Work.Pause.
	Serve(ctx context.Context, ln net.Listener, work *Work) error
	Dial(addr string) (Conn, error)
}

// Broadcaster is a participant whose server can send one message to all that
// subscribed: it tells Work.CanBroadcast how.
type Broadcaster interface {
	// Subscribe dials a connection that has receive called with each message, one
	// after the other, on any goroutine. The body is valid until receive returns.
	// What is broadcast after Subscribe has returned is received.
	Subscribe(addr string, receive func(body []byte)) (Conn, error)
}

// Conn is one connection to a server. What it can do it says by the interfaces
// below; a participant is left out of the workloads that need others.
type Conn interface {
	// Close ends the calls in flight too. It may be called more than once.
	Close() error
}

// CallConn can call and wait.
type CallConn interface {
	// Caller returns what one goroutine calls with. Any number of callers
	// share the connection.
	Caller() Caller
}

// Caller is for one goroutine.
type Caller interface {
	// Call sends req, which the caller may change when Call has returned. The
	// response is valid until the next Call and shares no memory with req.
	Call(req []byte) ([]byte, error)
}

// StartConn can call without waiting. It is used rather than Caller where both
// are there.
type StartConn interface {
	// Start sends req, which the caller may change when Start has returned, and
	// has done called once with the response, valid until done returns. done does
	// not wait, and may call Start.
	Start(req []byte, done func(rsp []byte, err error))
}

// NotifyConn can send without an answer. What arrives goes to Work.Notice.
type NotifyConn interface {
	// Sender returns what one goroutine notifies with.
	Sender() Sender
}

// Sender is for one goroutine. It may also be a Flusher.
type Sender interface {
	// Notify sends body, which the sender may change when Notify has returned. It
	// waits when too much is on its way: nothing is dropped, and memory is bounded.
	Notify(body []byte) error
}

// Flusher is a Sender that may hold messages back.
type Flusher interface {
	// Flush returns when what was notified is on its way.
	Flush() error
}

// JSONConn can call with structs, encoded as JSON by DocumentCodec where the
// system lets choose.
type JSONConn interface {
	// JSONCaller returns what one goroutine calls with.
	JSONCaller() JSONCaller
}

// JSONCaller is for one goroutine.
type JSONCaller interface {
	// CallJSON sends req, which the server decodes, hands to Work.Revise, and
	// encodes as its answer. rsp is the zero Document before.
	CallJSON(req, rsp *Document) error
}

// participants are measured by default, in this order.
var participants = slices.Concat([]Participant{
	ours{},
	lesismal{},
	lesismal{concurrent: true},
	grpcEcho{},
}, peers, []Participant{limit{}, limitRaw{}})

// variants are measured when -only names them: set-ups that were tried, so that
// anybody can check which is the fastest.
var variants = slices.Concat([]Participant{
	ours{async: true},
	ours{fresh: true},
	ours{ordered: true},
	ours{tls: true},
	ours{middlewares: 4},
	ours{oldClient: true},
	ours{oldServer: true},
	ours{busyPoll: true},
	oursCommands{},
	oursBuff{},
	oursPubSub{},
	oursPubSub{history: true},
	limitSpawn{},
	limitCast{},
	lesismal{variant: "as it comes", small: true},
	lesismal{concurrent: true, variant: "as it comes", small: true},
	lesismal{direct: true},
	lesismal{variant: "TCP_NODELAY", noDelay: true},
	lesismal{concurrent: true, variant: "TCP_NODELAY", noDelay: true},
	lesismal{concurrent: true, direct: true},
	grpcEcho{variant: "as it comes", plain: true},
	grpcEcho{variant: "default buffers", buffers: true},
	grpcEcho{variant: "stream workers", workers: true},
}, peerVariants)

// callTimeout is given to each call where the system wants one.
const callTimeout = time.Minute

func find(list []Participant, name string) Participant {
	for _, p := range list {
		if p.Name() == name {
			return p
		}
	}
	return nil
}
