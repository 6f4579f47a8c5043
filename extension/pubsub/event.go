package pubsub

import "fmt"

// EventKind says what an Event is.
type EventKind int

// The kinds of events.
const (
	// EventStarted: messages come from here on. It is the first event, and comes again
	// after each loss of the connection. Recovered says that nothing was missed, at the
	// first time from where the subscription was to start; without it what was missed
	// is lost to this subscription, or it is not known whether something was.
	EventStarted EventKind = iota + 1
	// EventGap: here Missed messages were dropped, because the subscriber was slower
	// than the publishers; 0 if nobody knows how many.
	EventGap
	// EventInterrupted: nothing comes for a while because of Err, as the connection is
	// lost or the server cannot reach its Broker. EventStarted, EventResumed or
	// EventEnded follows.
	EventInterrupted
	// EventResumed: the server reaches its Broker again. Recovered says that nothing
	// was missed.
	EventResumed
	// EventJoined and EventLeft: a Subscriber came or went, see WithPresence.
	EventJoined
	EventLeft
	// EventEnded: the last event. The subscription is over because of Err, and the
	// program has not ended it.
	EventEnded
)

var eventNames = map[EventKind]string{
	EventStarted: "started", EventGap: "gap", EventInterrupted: "interrupted", EventResumed: "resumed",
	EventJoined: "joined", EventLeft: "left", EventEnded: "ended",
}

// String returns the kind's name, such as "started".
func (k EventKind) String() string {
	if name, ok := eventNames[k]; ok {
		return name
	}
	return fmt.Sprintf("EventKind(%d)", int(k))
}

// Event is something that happened to a subscription, in its place among the messages:
// those handed to the callback before it came before it. Fields that its kind does not
// speak of are zero.
type Event struct {
	Kind       EventKind
	Recovered  bool
	Missed     uint64
	Subscriber Subscriber
	Err        error
}

// Subscriber is who is present: a subscription that was made with WithMember.
type Subscriber struct {
	ID     string // as it was chosen by whoever subscribed
	Info   []byte // the same
	Client string // who the client is, as the server knows it
	Filter string // what it is subscribed to
}
