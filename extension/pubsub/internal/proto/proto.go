// Package proto is the bytes of pub/sub: pure parse and append, no I/O. What is
// parsed is checked: lengths are within the limits below, and an error wraps
// ErrMalformed and says which part of what is wrong.
package proto

import "errors"

// Methods of the old form: the body of all but Authenticate is a topic (Topic).
const (
	Authenticate = "in_A"  // request: the password
	Subscribe    = "in_S"  // request
	Unsubscribe  = "in_U"  // request
	Publish      = "in_P"  // request; notification to a subscriber: a message
	PublishToOne = "in_P1" // request
)

// Methods between peers of version 2. A connection's are handled in the order they
// were sent, but for Presence, Credit and Settle and what Open does behind its answer.
const (
	Open     = "ps.open"     // request: an Opening, answered with an Opened
	Close    = "ps.close"    // request or notification: a subscription's number
	Send     = "ps.send"     // request or notification: a Publication, answered with a Position
	Batch    = "ps.batch"    // notification: Publications, each behind its length in four bytes
	Message  = "ps.msg"      // notification to a subscriber: a Delivered
	Credit   = "ps.credit"   // notification: a Consumed
	Settle   = "ps.settle"   // notification: a Settled, for queue groups with acknowledgement
	Note     = "ps.note"     // notification to a subscriber: a Noted
	Presence = "ps.presence" // request: a topic as it is, answered with Members
	Will     = "ps.will"     // request: a Publication to be made when the connection is lost; empty: none
)

// Limits in bytes.
const (
	MaxTopicLen  = 1024 // of topics and filters
	MaxGroupLen  = 256
	MaxKeyLen    = 256
	MaxIDLen     = 256 // of messages, members and servers
	MaxClientLen = 256 // of what names a member's client
	MaxEpochLen  = 64
	MaxInfoLen   = 4096
)

// ErrMalformed is what the errors of parsing wrap, but for those of ParseTopic.
var ErrMalformed = errors.New("malformed pub/sub message")

// Reasons why bytes cannot be read.
var (
	errUvarint   = errors.New("a number is cut short or longer than 64 bits")
	errOverrun   = errors.New("a length runs beyond the end")
	errNotNumber = errors.New("the value is not one number")
	errTooLarge  = errors.New("the number is too large")
	errEmpty     = errors.New("nothing is there")
	errLongerNo  = errors.New("something follows where nothing should")
	errNoTopic   = errors.New("the topic is empty")
	errFlags     = errors.New("flags that mean nothing are set")
)
