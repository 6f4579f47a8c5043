package wire

import (
	"encoding/binary"
	"errors"
	"fmt"
	"iter"
)

// Limits of a metadata section.
const (
	DefaultMaxMeta = 16 << 10 // bytes of a section, unless the peer was told otherwise
	MaxPairs       = 128
	MaxKeyLen      = 256
)

// Tags of a metadata section.
const (
	tagTimeout     = 1
	tagCode        = 2
	tagDetail      = 3
	tagPair        = 4
	tagTraceParent = 5
	tagTraceState  = 6
	tagComeBack    = 7
)

// ErrMeta is what the errors of ParseMeta and SplitMeta wrap.
var ErrMeta = errors.New("malformed metadata section")

var (
	errTooManyPairs = fmt.Errorf("more than %d key-value pairs", MaxPairs)
	errKeyEmpty     = errors.New("the key is empty")
	errKeyTooLong   = fmt.Errorf("the key is longer than %d bytes", MaxKeyLen)
)

// Meta is a metadata section that was read. Its slices are views into the
// section; appending to one copies it.
type Meta struct {
	Timeout     uint64 // microseconds left, if HasTimeout
	ComeBack    uint64 // microseconds, if HasComeBack
	Code        uint32 // status code, if HasCode
	HasTimeout  bool
	HasComeBack bool
	HasCode     bool

	TraceParent []byte
	TraceState  []byte

	NPairs   int // key-value pairs, a repeated key counted each time
	NDetails int

	raw  []byte
	lone bool // it holds nothing but the timeout
}

// ParseMeta reads a section and checks all of it. Of a field that comes twice
// the last counts; unknown fields are skipped. How long the section may be is
// the caller's matter. With an error the Meta is not to be used.
func ParseMeta(section []byte) (m Meta, err error) {
	err = m.Parse(section)
	return m, err
}

// Parse is ParseMeta into a Meta that is used again.
func (m *Meta) Parse(section []byte) error {
	*m = Meta{raw: section}
	for rest := section; len(rest) > 0; {
		tag, value, after, err := takeField(rest)
		if err == nil {
			err = m.set(tag, value)
		}
		if err != nil {
			return fmt.Errorf("%w: field %d: %w", ErrMeta, tag, err)
		}
		rest = after
	}
	return nil
}

// ParseTimeout reads the section of a frame that holds nothing but the time left, as
// most do, and returns how long it is, its length included, 0 for any other.
func (m *Meta) ParseTimeout(frame []byte, h Header) (n int) {
	section := frame[HeaderLen+int(h.MethodLen):]
	if len(section) < 4 || section[1] != tagTimeout || section[2] > binary.MaxVarintLen64 || section[0] != section[2]+2 {
		return 0
	}
	n = int(section[0]) + 1
	if len(section) < n {
		return 0
	}
	us, read := binary.Uvarint(section[3:n])
	if read <= 0 || read != n-3 {
		return 0
	}
	if !m.lone {
		*m = Meta{HasTimeout: true, lone: true}
	}
	m.Timeout, m.raw = us, section[1:n]
	return n
}

func (m *Meta) set(tag uint64, value []byte) (err error) {
	switch tag {
	case tagTimeout:
		m.HasTimeout = true
		m.Timeout, err = ParseUvarint(value)
	case tagCode:
		m.HasCode = true
		m.Code, err = parseUint32(value)
	case tagDetail:
		m.NDetails++
		_, _, err = takeBytes(value)
	case tagPair:
		err = m.countPair(value)
	case tagTraceParent:
		m.TraceParent = value
	case tagTraceState:
		m.TraceState = value
	case tagComeBack:
		m.HasComeBack = true
		m.ComeBack, err = ParseUvarint(value)
	}
	return err
}

func (m *Meta) countPair(value []byte) error {
	m.NPairs++
	if m.NPairs > MaxPairs {
		return errTooManyPairs
	}
	key, _, err := takeBytes(value)
	if err != nil {
		return err
	}
	return checkKey(key)
}

// Pairs returns the keys and values in the order they were sent. The last value
// of a key is the one that counts.
func (m *Meta) Pairs() iter.Seq2[[]byte, []byte] {
	return func(yield func(key, value []byte) bool) { eachNamed(m.raw, tagPair, yield) }
}

// Details returns the names and data of the error details in the order they
// were sent.
func (m *Meta) Details() iter.Seq2[[]byte, []byte] {
	return func(yield func(name, data []byte) bool) { eachNamed(m.raw, tagDetail, yield) }
}

// eachNamed goes through the fields of a checked section that hold a name and
// data.
func eachNamed(section []byte, want uint64, yield func(name, data []byte) bool) {
	for len(section) > 0 {
		tag, value, rest, err := takeField(section)
		if err != nil {
			return
		}
		section = rest
		if tag != want {
			continue
		}
		name, data, err := takeBytes(value)
		if err != nil || !yield(name, data) {
			return
		}
	}
}

// CheckKey says whether key may be a metadata key: 1 to MaxKeyLen bytes of a-z,
// 0-9, '-', '_' and '.'.
func CheckKey(key string) error { return checkKey(key) }

func checkKey[K ~string | ~[]byte](key K) error {
	switch {
	case len(key) == 0:
		return errKeyEmpty
	case len(key) > MaxKeyLen:
		return errKeyTooLong
	}
	for i := range len(key) {
		if c := key[i]; !isKeyChar(c) {
			return fmt.Errorf("the key %q holds %q, only a-z, 0-9, '-', '_' and '.' are allowed", string(key), c)
		}
	}
	return nil
}

func isKeyChar(c byte) bool {
	return 'a' <= c && c <= 'z' || '0' <= c && c <= '9' || c == '-' || c == '_' || c == '.'
}

// AppendTimeoutSection appends a section, with its length, that holds nothing but the
// time left in microseconds.
func AppendTimeoutSection(dst []byte, us uint64) []byte {
	n := byte(uvarintLen(us))
	dst = append(dst, n+2, tagTimeout, n)
	return binary.AppendUvarint(dst, us)
}

// AppendTimeout appends the time left in microseconds, 0 when it has passed.
func AppendTimeout(dst []byte, us uint64) []byte { return appendNumber(dst, tagTimeout, us) }

// AppendCode appends a status code.
func AppendCode(dst []byte, code uint32) []byte { return appendNumber(dst, tagCode, uint64(code)) }

// AppendDetail appends an error detail.
func AppendDetail(dst []byte, name string, data []byte) []byte {
	return appendNamed(dst, tagDetail, name, data)
}

// AppendPair appends a key that passed CheckKey, and its value.
func AppendPair(dst []byte, key, value string) []byte { return appendNamed(dst, tagPair, key, value) }

// AppendTraceParent appends the traceparent of W3C Trace Context.
func AppendTraceParent(dst []byte, parent string) []byte {
	return appendBytes(dst, tagTraceParent, parent)
}

// AppendTraceState appends the tracestate of W3C Trace Context.
func AppendTraceState(dst []byte, state string) []byte {
	return appendBytes(dst, tagTraceState, state)
}

// AppendComeBack appends after how many microseconds to connect anew.
func AppendComeBack(dst []byte, us uint64) []byte { return appendNumber(dst, tagComeBack, us) }

// MetaLen returns how many bytes section takes in a frame, with its length.
func MetaLen(section []byte) int { return uvarintLen(uint64(len(section))) + len(section) }

// AppendFrameMeta is AppendFrame for a frame with a metadata section, which may
// be empty.
func AppendFrameMeta[P ~string | ~[]byte](dst []byte, h Header, method string, section []byte, payload P) []byte {
	h.Flag |= FlagMeta
	h.MethodLen = byte(len(method))
	h.BodyLen = uint32(len(method) + MetaLen(section) + len(payload))
	dst = AppendHeader(dst, h)
	dst = append(dst, method...)
	dst = binary.AppendUvarint(dst, uint64(len(section)))
	dst = append(dst, section...)
	return append(dst, payload...)
}

// Payload returns the payload of a whole frame that passed Header.Check, nil if the
// length of its metadata section does not fit.
func Payload(frame []byte) []byte {
	at := HeaderLen + int(frame[7])
	if frame[6]&FlagMeta == 0 {
		return frame[at:]
	}
	_, payload, err := takeBytes(frame[at:])
	if err != nil {
		return nil
	}
	return payload
}

// SplitMeta is Split for a frame that may hold a metadata section, nil if it
// does not. With an error, which says that the section's length does not fit,
// the method is still good.
func SplitMeta(frame []byte, h Header) (method, section, payload []byte, err error) {
	method, payload = Split(frame, h)
	if h.Flag&FlagMeta == 0 {
		return method, nil, payload, nil
	}
	section, payload, err = takeBytes(payload)
	if err != nil {
		return method, nil, nil, fmt.Errorf("%w: %w", ErrMeta, err)
	}
	return method, section, payload, nil
}
