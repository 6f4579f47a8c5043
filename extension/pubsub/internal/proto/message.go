package proto

import "encoding/binary"

// Flags of a Delivered.
const (
	deliveredFilter  = 1
	deliveredNumber  = 2
	deliveredOffset  = 4
	deliveredKey     = 8
	deliveredTag     = 16
	deliveredAttempt = 32
	deliveredFlags   = 64 - 1
)

// Delivered is a message on its way to a subscriber: flags, then what of the
// optional parts is not zero, in the order of the struct, then topic, time and the
// data to the end. Without Number it is for the subscription to Filter that has no
// group; without either for the one to Topic. Its length as a whole is what counts
// for the window's bytes.
type Delivered[S Bytes] struct {
	Filter  S
	Number  uint64 // of the subscription it is for alone
	Offset  uint64 // 0: the topic has no history
	Key     S
	Tag     uint64 // to be settled by; 0: nothing to settle
	Attempt uint64 // the which time it is delivered to a group; 0: the first
	Topic   S
	Time    int64 // Unix time in nanoseconds
	Data    []byte
}

// Append appends the message to dst.
func (d *Delivered[S]) Append(dst []byte) []byte {
	at := len(dst)
	dst = append(dst, 0)
	var flags byte
	if len(d.Filter) > 0 {
		flags |= deliveredFilter
		dst = appendNamed(dst, d.Filter)
	}
	dst, flags = appendOptional(dst, flags, deliveredNumber, d.Number)
	dst, flags = appendOptional(dst, flags, deliveredOffset, d.Offset)
	if len(d.Key) > 0 {
		flags |= deliveredKey
		dst = appendNamed(dst, d.Key)
	}
	dst, flags = appendOptional(dst, flags, deliveredTag, d.Tag)
	dst, flags = appendOptional(dst, flags, deliveredAttempt, d.Attempt)
	dst[at] = flags
	dst = appendNamed(dst, d.Topic)
	dst = binary.AppendVarint(dst, d.Time)
	return append(dst, d.Data...)
}

func appendOptional(dst []byte, flags, flag byte, v uint64) ([]byte, byte) {
	if v == 0 {
		return dst, flags
	}
	return binary.AppendUvarint(dst, v), flags | flag
}

// ParseDelivered reads a message. The result is views of body.
func ParseDelivered(body []byte) (d Delivered[[]byte], err error) {
	c := cursor{rest: body}
	flags := c.octet("flags")
	if flags&^deliveredFlags != 0 {
		c.fail("flags", errFlags) // they would say what follows
	}
	if flags&deliveredFilter != 0 {
		d.Filter = c.bytes("filter", MaxTopicLen)
	}
	if flags&deliveredNumber != 0 {
		d.Number = c.uvarint("number")
	}
	if flags&deliveredOffset != 0 {
		d.Offset = c.uvarint("offset")
	}
	if flags&deliveredKey != 0 {
		d.Key = c.bytes("key", MaxKeyLen)
	}
	if flags&deliveredTag != 0 {
		d.Tag = c.uvarint("tag")
	}
	if flags&deliveredAttempt != 0 {
		d.Attempt = c.uvarint("attempt")
	}
	d.Topic = c.topic()
	d.Time = c.varint("time")
	d.Data = c.rest
	if err := c.malformed(Message); err != nil {
		return Delivered[[]byte]{}, err
	}
	return d, nil
}

func (c *cursor) topic() []byte {
	topic := c.bytes("topic", MaxTopicLen)
	if c.err == nil && len(topic) == 0 {
		c.fail("topic", errNoTopic)
	}
	return topic
}

// Flags of a Publication.
const (
	publishToOne = 1
	publishKey   = 2
	publishID    = 4
	publishFlags = 8 - 1
)

// Publication is a message on its way to the server: flags, topic, key and ID if
// they are not empty, time, and the data to the end.
type Publication[S Bytes] struct {
	ToOne bool
	Topic S
	Key   S
	ID    S     // against doubles
	Time  int64 // Unix time in nanoseconds
	Data  []byte
}

// Append appends the message to dst.
func (p *Publication[S]) Append(dst []byte) []byte {
	var flags byte
	if p.ToOne {
		flags |= publishToOne
	}
	if len(p.Key) > 0 {
		flags |= publishKey
	}
	if len(p.ID) > 0 {
		flags |= publishID
	}
	dst = appendNamed(append(dst, flags), p.Topic)
	if len(p.Key) > 0 {
		dst = appendNamed(dst, p.Key)
	}
	if len(p.ID) > 0 {
		dst = appendNamed(dst, p.ID)
	}
	dst = binary.AppendVarint(dst, p.Time)
	return append(dst, p.Data...)
}

// ParsePublication reads a message. The result is views of body.
func ParsePublication(body []byte) (p Publication[[]byte], err error) {
	c := cursor{rest: body}
	flags := c.octet("flags")
	if flags&^publishFlags != 0 {
		c.fail("flags", errFlags)
	}
	p.ToOne = flags&publishToOne != 0
	p.Topic = c.topic()
	if flags&publishKey != 0 {
		p.Key = c.bytes("key", MaxKeyLen)
	}
	if flags&publishID != 0 {
		p.ID = c.bytes("id", MaxIDLen)
	}
	p.Time = c.varint("time")
	p.Data = c.rest
	if err := c.malformed(Send); err != nil {
		return Publication[[]byte]{}, err
	}
	return p, nil
}

// AppendToBatch appends one more message to a batch.
func (p *Publication[S]) AppendToBatch(dst []byte) []byte {
	start := len(dst)
	dst = append(dst, make([]byte, batchLen)...)
	dst = p.Append(dst)
	binary.LittleEndian.PutUint32(dst[start:], uint32(len(dst)-start-batchLen))
	return dst
}

// batchLen is how many bytes the length of a message in a batch takes: those of a
// little-endian number.
const batchLen = 4

// LoneOfBatch returns the only message of a batch that AppendToBatch has made.
func LoneOfBatch(batch []byte) (body []byte) { return batch[batchLen:] }

// NextOfBatch takes the first message off a batch. The results are views of batch. It
// is an error if there is none. Behind a message that is malformed itself the rest is
// of use.
func NextOfBatch(batch []byte) (p Publication[[]byte], rest []byte, err error) {
	c := cursor{rest: batch}
	body := c.block("length of a message")
	if err := c.malformed(Batch); err != nil {
		return Publication[[]byte]{}, nil, err
	}
	p, err = ParsePublication(body)
	return p, c.rest, err
}

// Position is the answer to a Publication: the length of the epoch, the epoch, the
// offset. It is empty if the topic has no history.
type Position[S Bytes] struct {
	Epoch  S
	Offset uint64
}

// Append appends the position to dst.
func (p *Position[S]) Append(dst []byte) []byte {
	if len(p.Epoch) == 0 && p.Offset == 0 {
		return dst
	}
	return binary.AppendUvarint(appendNamed(dst, p.Epoch), p.Offset)
}

// ParsePosition reads a position. The result is a view of body.
func ParsePosition(body []byte) (p Position[[]byte], err error) {
	if len(body) == 0 {
		return p, nil
	}
	c := cursor{rest: body}
	p.Epoch = c.bytes("epoch", MaxEpochLen)
	p.Offset = c.uvarint("offset")
	c.end()
	if err := c.malformed(Send + " answer"); err != nil {
		return Position[[]byte]{}, err
	}
	return p, nil
}

// Consumed gives a subscription's sender room for more: number, messages, bytes.
type Consumed struct {
	Number   uint64
	Messages uint64
	Bytes    uint64
}

// Append appends the record to dst.
func (r Consumed) Append(dst []byte) []byte {
	dst = binary.AppendUvarint(dst, r.Number)
	dst = binary.AppendUvarint(dst, r.Messages)
	return binary.AppendUvarint(dst, r.Bytes)
}

// ParseConsumed reads what Append wrote.
func ParseConsumed(body []byte) (r Consumed, err error) {
	c := cursor{rest: body}
	r = Consumed{c.uvarint("number"), c.uvarint("messages"), c.uvarint("bytes")}
	c.end()
	if err := c.malformed(Credit); err != nil {
		return Consumed{}, err
	}
	return r, nil
}

// Settled ends the delivery of a group's message to a subscription: number, 1 if it
// is acknowledged and 0 if it is given back, tag.
type Settled struct {
	Number       uint64
	Acknowledged bool
	Tag          uint64
}

// Append appends the record to dst.
func (r Settled) Append(dst []byte) []byte {
	dst = binary.AppendUvarint(dst, r.Number)
	outcome := byte(0)
	if r.Acknowledged {
		outcome = 1
	}
	return binary.AppendUvarint(append(dst, outcome), r.Tag)
}

// ParseSettled reads what Append wrote.
func ParseSettled(body []byte) (r Settled, err error) {
	c := cursor{rest: body}
	r.Number = c.uvarint("number")
	outcome := c.octet("outcome")
	if outcome > 1 {
		c.fail("outcome", errTooLarge)
	}
	r.Acknowledged = outcome == 1
	r.Tag = c.uvarint("tag")
	c.end()
	if err := c.malformed(Settle); err != nil {
		return Settled{}, err
	}
	return r, nil
}

// AppendNumber appends the body of a Close.
func AppendNumber(dst []byte, number uint64) []byte { return binary.AppendUvarint(dst, number) }

// ParseNumber reads the body of a Close.
func ParseNumber(body []byte) (number uint64, err error) {
	c := cursor{rest: body}
	number = c.uvarint("number")
	c.end()
	if err := c.malformed(Close); err != nil {
		return 0, err
	}
	return number, nil
}
