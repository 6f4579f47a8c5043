package proto

import (
	"fmt"
	"time"
)

// Policies, of what happens when a subscription's queue on the server is full.
const (
	PolicyDefault    = 0 // the server's, which is PolicyDropOldest
	PolicyBlock      = 1
	PolicyDropOldest = 2
	PolicyDropNewest = 3
	PolicyKeepLatest = 4
	PolicyDisconnect = 5
)

// Kinds of starts.
const (
	StartNew   = 0
	StartAfter = 1 // Epoch and Offset
	StartSince = 2 // Time
	StartLast  = 3
	StartAll   = 4
)

// Opening asks for a subscription.
type Opening struct {
	// Number is chosen by the client, from 1, and used once in its life.
	Number uint64
	Filter string

	Group      string // empty: none
	Ack        bool   // the group's messages are settled
	AckWait    time.Duration
	MaxPending int

	// The window is what the server may have sent without it having been consumed.
	// It may be 0 when what came over a connection before has not been.
	WindowMessages int
	WindowBytes    int
	Policy         int
	QueueMessages  int // 0: the server's
	QueueBytes     int // 0: the server's

	Start  int
	Epoch  string
	Offset uint64
	Time   int64 // Unix time in nanoseconds

	Events     bool   // joined and left are wanted
	MemberID   string // empty: not shown among those who are present
	MemberInfo []byte
}

// Append appends the record to dst.
func (o *Opening) Append(dst []byte) []byte {
	dst = fieldNumber(dst, 1, o.Number)
	dst = fieldBytes(dst, 2, o.Filter)
	dst = fieldBytes(dst, 3, o.Group)
	dst = fieldBool(dst, 4, o.Ack)
	dst = fieldNumber(dst, 5, uint64(o.AckWait.Microseconds()))
	dst = fieldNumber(dst, 6, uint64(o.MaxPending))
	dst = fieldNumberAlways(dst, 7, uint64(o.WindowMessages))
	dst = fieldNumberAlways(dst, 8, uint64(o.WindowBytes))
	dst = fieldNumber(dst, 9, uint64(o.Policy))
	dst = fieldNumber(dst, 10, uint64(o.QueueMessages))
	dst = fieldNumber(dst, 11, uint64(o.QueueBytes))
	dst = fieldNumber(dst, 12, uint64(o.Start))
	dst = fieldBytes(dst, 13, o.Epoch)
	dst = fieldNumber(dst, 14, o.Offset)
	dst = fieldTime(dst, 15, o.Time)
	dst = fieldBool(dst, 16, o.Events)
	dst = fieldBytes(dst, 17, o.MemberID)
	return fieldBytes(dst, 18, o.MemberInfo)
}

// ParseOpening reads a record. The result shares no bytes with body.
func ParseOpening(body []byte) (Opening, error) {
	var o Opening
	err := parseFields(Open, body, o.set)
	if err == nil && o.Number == 0 {
		err = fmt.Errorf("%w: %s: the number is missing", ErrMalformed, Open)
	}
	if err == nil && o.Filter == "" {
		err = fmt.Errorf("%w: %s: the filter is missing", ErrMalformed, Open)
	}
	if err != nil {
		return Opening{}, err
	}
	return o, nil
}

func (o *Opening) set(tag uint64, value []byte) error {
	switch tag {
	case 1:
		return setNumber(&o.Number, value)
	case 2:
		return setString(&o.Filter, value, MaxTopicLen)
	case 3:
		return setString(&o.Group, value, MaxGroupLen)
	case 4:
		return setBool(&o.Ack, value)
	case 5:
		return setDuration(&o.AckWait, value)
	case 6:
		return setInt(&o.MaxPending, value)
	case 7:
		return setInt(&o.WindowMessages, value)
	case 8:
		return setInt(&o.WindowBytes, value)
	case 9:
		return setInt(&o.Policy, value)
	case 10:
		return setInt(&o.QueueMessages, value)
	case 11:
		return setInt(&o.QueueBytes, value)
	}
	return o.setRest(tag, value)
}

func (o *Opening) setRest(tag uint64, value []byte) error {
	switch tag {
	case 12:
		return setInt(&o.Start, value)
	case 13:
		return setString(&o.Epoch, value, MaxEpochLen)
	case 14:
		return setNumber(&o.Offset, value)
	case 15:
		return setTime(&o.Time, value)
	case 16:
		return setBool(&o.Events, value)
	case 17:
		return setString(&o.MemberID, value, MaxIDLen)
	case 18:
		return setInfo(&o.MemberInfo, value)
	}
	return nil
}

func setInfo(v *[]byte, value []byte) error {
	if len(value) > MaxInfoLen {
		return tooLong(uint64(len(value)), MaxInfoLen)
	}
	*v = append([]byte(nil), value...)
	return nil
}

// maxDuration in microseconds is what a time.Duration holds.
const maxDuration = uint64(1<<63-1) / uint64(time.Microsecond)

// setDuration reads microseconds.
func setDuration(v *time.Duration, value []byte) error {
	var us uint64
	if err := setNumber(&us, value); err != nil {
		return err
	}
	if us > maxDuration {
		return errTooLarge
	}
	*v = time.Duration(us) * time.Microsecond
	return nil
}

// Opened is the answer to an Opening. It leaves before anything that the
// subscription sends, of which NoteStarted is the first.
type Opened struct {
	// Recovered is as in NoteStarted, if it is known by then.
	Recovered bool
	// Epoch and Offset are the head of the history when the subscription began:
	// what is published behind it is sent. No Epoch: there is no history.
	Epoch  string
	Offset uint64
	// What the server has made of the window that was asked for, if that was over
	// its limit; 0: as asked.
	WindowMessages int
	WindowBytes    int
}

// Append appends the record to dst.
func (o *Opened) Append(dst []byte) []byte {
	dst = fieldBool(dst, 1, o.Recovered)
	dst = fieldBytes(dst, 2, o.Epoch)
	dst = fieldNumber(dst, 3, o.Offset)
	dst = fieldNumber(dst, 4, uint64(o.WindowMessages))
	return fieldNumber(dst, 5, uint64(o.WindowBytes))
}

// ParseOpened reads a record. The result shares no bytes with body.
func ParseOpened(body []byte) (Opened, error) {
	var o Opened
	if err := parseFields(Open+" answer", body, o.set); err != nil {
		return Opened{}, err
	}
	return o, nil
}

func (o *Opened) set(tag uint64, value []byte) error {
	switch tag {
	case 1:
		return setBool(&o.Recovered, value)
	case 2:
		return setString(&o.Epoch, value, MaxEpochLen)
	case 3:
		return setNumber(&o.Offset, value)
	case 4:
		return setInt(&o.WindowMessages, value)
	case 5:
		return setInt(&o.WindowBytes, value)
	}
	return nil
}
