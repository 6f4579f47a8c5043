package proto

// Kinds of notes. Receivers skip kinds that they do not know.
const (
	// NoteStarted is the first thing that a subscription sends, before any message.
	// Recovered says that nothing published behind the start that was asked for is
	// missing from what follows; of StartNew it is true. Epoch and Offset are the
	// start itself: everything behind them follows, replayed or live. So they are not
	// the head if something is replayed, but lie before the first message of that. No
	// Epoch: there is no history.
	NoteStarted = 1
	// NoteGap is in the place of Count messages that were dropped; 0: nobody knows
	// how many.
	NoteGap = 2
	// NoteInterrupted says that nothing comes for a while: Code and Text.
	NoteInterrupted = 3
	// NoteResumed ends that: Recovered says that nothing was lost meanwhile. An Epoch
	// that is another one takes the place of the one before.
	NoteResumed = 4
	NoteJoined  = 5 // Member
	NoteLeft    = 6 // Member
	// NoteEnded is the last thing: the server has ended the subscription because of
	// Code and Text. A server that goes away sends it with Unavailable before its
	// GoAway, so that nothing comes over two connections at the same time.
	NoteEnded = 7
	// NoteLive says that everything up to Epoch and Offset has been sent: behind the
	// replay, and at any time when a subscription has been quiet for long.
	NoteLive = 8
)

// Noted is something that a subscription is to know, in its place among the
// messages. With Number it is for one subscription, otherwise, as a Delivered, for
// the one to Filter that has no group; that is for NoteJoined and NoteLeft, which go
// to many.
type Noted struct {
	Number    uint64
	Filter    string
	Kind      int
	Recovered bool
	Epoch     string
	Offset    uint64
	Count     uint64
	Code      uint32
	Text      string
	Member    Member
}

// MaxTextLen is the longest text of a note in bytes.
const MaxTextLen = 1024

// Append appends the record to dst. A text that is too long is cut.
func (n *Noted) Append(dst []byte) []byte {
	dst = fieldNumber(dst, 1, n.Number)
	dst = fieldBytes(dst, 2, n.Filter)
	dst = fieldNumber(dst, 3, uint64(n.Kind))
	dst = fieldBool(dst, 4, n.Recovered)
	dst = fieldBytes(dst, 5, n.Epoch)
	dst = fieldNumber(dst, 6, n.Offset)
	dst = fieldNumber(dst, 7, n.Count)
	dst = fieldNumber(dst, 8, uint64(n.Code))
	dst = fieldBytes(dst, 9, n.Text[:min(len(n.Text), MaxTextLen)])
	if !n.Member.isZero() {
		dst = fieldBytes(dst, 10, n.Member.append(nil))
	}
	return dst
}

// ParseNoted reads a record. The result shares no bytes with body.
func ParseNoted(body []byte) (Noted, error) {
	var n Noted
	if err := parseFields(Note, body, n.set); err != nil {
		return Noted{}, err
	}
	return n, nil
}

func (n *Noted) set(tag uint64, value []byte) (err error) {
	switch tag {
	case 1:
		err = setNumber(&n.Number, value)
	case 2:
		err = setString(&n.Filter, value, MaxTopicLen)
	case 3:
		err = setInt(&n.Kind, value)
	case 4:
		err = setBool(&n.Recovered, value)
	case 5:
		err = setString(&n.Epoch, value, MaxEpochLen)
	case 6:
		err = setNumber(&n.Offset, value)
	case 7:
		err = setNumber(&n.Count, value)
	case 8:
		err = setCode(&n.Code, value)
	case 9:
		err = setString(&n.Text, value, MaxTextLen)
	case 10:
		n.Member, err = parseMember(value)
	}
	return err
}

func setCode(v *uint32, value []byte) error {
	var n int
	err := setInt(&n, value)
	*v = uint32(n)
	return err
}
