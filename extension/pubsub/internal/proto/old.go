package proto

import (
	"encoding/binary"
	"errors"
)

// Errors of old topics. Their texts are known to old peers.
var (
	ErrTopicEmpty = errors.New(`invalid topic, should not be ""`)
	ErrTopicShort = errors.New("invalid topic bytes, should be more than 10 bytes")
	ErrTopicName  = errors.New("invalid topic name length, should not be more than 1024")
)

// topicTail is the length of what ends a Topic: length of the name, time.
const topicTail = 2 + 8

// Topic is a message as old peers have it: data, name, length of the name in two
// bytes, time in eight, little-endian. It is read from its end.
type Topic[S Bytes] struct {
	Data []byte
	Name S
	Time int64 // Unix time in nanoseconds
}

// CheckTopicName says whether an old peer takes a name.
func CheckTopicName[S Bytes](name S) error {
	switch {
	case len(name) == 0:
		return ErrTopicEmpty
	case len(name) > MaxTopicLen:
		return ErrTopicName
	}
	return nil
}

// Append appends the message to dst. The name has passed CheckTopicName.
func (t *Topic[S]) Append(dst []byte) []byte {
	dst = append(dst, t.Data...)
	dst = append(dst, t.Name...)
	dst = binary.LittleEndian.AppendUint16(dst, uint16(len(t.Name)))
	return binary.LittleEndian.AppendUint64(dst, uint64(t.Time))
}

// ParseTopic reads a message. The result is views of body.
func ParseTopic(body []byte) (t Topic[[]byte], err error) {
	at := len(body) - topicTail
	if at < 0 {
		return t, ErrTopicShort
	}
	length := int(binary.LittleEndian.Uint16(body[at:]))
	switch {
	case length == 0 || length > MaxTopicLen:
		return t, ErrTopicName
	case length > at:
		return t, ErrTopicShort
	}
	t.Data = body[: at-length : at-length]
	t.Name = body[at-length : at : at]
	t.Time = int64(binary.LittleEndian.Uint64(body[at+2:]))
	return t, nil
}
