package nats

import "sync/atomic"

// Statistics says what a Broker has done since it was made.
type Statistics struct {
	Outages uint64 // how often the connection to NATS was lost
	Fetched uint64 // messages with history that did not arrive by themselves and were read from the stream
	Doubles uint64 // messages published here and not delivered, since their ID was known

	// Messages that queue groups without acknowledgement dropped here, since no member had
	// room and too many waited; and how often those with acknowledgement got a message
	// again here.
	GroupDropped, GroupRedelivered uint64
}

type counts struct{ outages, fetched, doubles, dropped, redelivered atomic.Uint64 }

// Statistics returns what there is now. It may be called at any time, also after Close.
func (b *Broker) Statistics() Statistics {
	return Statistics{
		Outages:          b.counts.outages.Load(),
		Fetched:          b.counts.fetched.Load(),
		Doubles:          b.counts.doubles.Load(),
		GroupDropped:     b.counts.dropped.Load(),
		GroupRedelivered: b.counts.redelivered.Load(),
	}
}
