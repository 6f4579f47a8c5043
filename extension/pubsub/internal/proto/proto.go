// Package proto is the bytes of pub/sub: pure parse and append, no I/O.
package proto

// Methods of the old form: the body of all but Authenticate is a topic (Topic).
const (
	Authenticate = "in_A"  // request: the password
	Subscribe    = "in_S"  // request
	Unsubscribe  = "in_U"  // request
	Publish      = "in_P"  // request; notification to a subscriber: a message
	PublishToOne = "in_P1" // request
)

// Methods between peers of version 2.
const (
	Open     = "ps.open"     // request: an Opening, answered with an Opened
	Close    = "ps.close"    // request: a subscription's number
	Send     = "ps.send"     // request or notification: a Publication, answered with a position
	Message  = "ps.msg"      // notification to a subscriber: a Delivered
	Credit   = "ps.credit"   // notification: a Consumed
	Settle   = "ps.settle"   // notification: a Settled, for queue groups with acknowledgement
	Note     = "ps.note"     // notification to a subscriber: a Noted
	Presence = "ps.presence" // request: a topic, answered with Members
	Will     = "ps.will"     // request: a Publication to be made when the connection is lost; empty: none
)
