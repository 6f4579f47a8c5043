package wire

import (
	"errors"
	"fmt"
)

// Feature bits of a hello.
const (
	FeatureMetadata uint64 = 1 << iota // metadata sections
	FeatureCancel                      // Cancel
	FeatureWindows                     // Window, and stream frames that say they open
	FeatureGoAway                      // GoAway
)

const (
	// HelloMax is the largest hello record in bytes.
	HelloMax = 64 << 10
	// SessionMax is the longest session id in bytes.
	SessionMax = 64

	helloMark    = "ARPC"
	helloVersion = 2

	tagLineEnd = 15
	lastTag    = 16
	lineEnd    = "\r\n\r\n"
)

// ErrHello is what the errors of ParseHello wrap.
var ErrHello = errors.New("malformed hello")

var errSessionTooLong = fmt.Errorf("the session id is longer than %d bytes", SessionMax)

// Hello is what one end tells the other about itself, as the body of the first
// Ping and of the Pong that answers it. A field that is zero was not sent.
type Hello struct {
	Features    uint64 // Feature bits
	MaxBody     uint64 // largest body this end accepts, in bytes
	MaxInflight uint64 // requests in flight it accepts
	MaxStreams  uint64 // streams it accepts
	Window      uint64 // bytes of a stream that may be sent to it at first
	MaxMetadata uint64 // largest metadata section it accepts, in bytes
	Codec       string // name of its codec
	Compat      string // compared for equality by an end that has one
	Credentials []byte // from the end that dialled
	Session     []byte // at most SessionMax bytes
	Name        string // of this end, for people
	Software    string // name and version, for people
	Code        uint32 // why the hello is refused, in a Pong
	Message     string // text beside Code
	Coders      string // names of the coders it has that may be left out, separated by commas
}

// field returns where the value of a tag is kept, or nil for an unknown tag.
func (h *Hello) field(tag uint64) any {
	switch tag {
	case 1:
		return &h.Features
	case 2:
		return &h.MaxBody
	case 3:
		return &h.MaxInflight
	case 4:
		return &h.MaxStreams
	case 5:
		return &h.Window
	case 6:
		return &h.Codec
	case 7:
		return &h.Compat
	case 8:
		return &h.Credentials
	case 9:
		return &h.Session
	case 10:
		return &h.Name
	case 11:
		return &h.Software
	case 12:
		return &h.Code
	case 13:
		return &h.Message
	case 14:
		return &h.MaxMetadata
	case 16:
		return &h.Coders
	}
	return nil
}

// Append appends the record to dst, fields in the order of their tags. The end
// that dialled puts a line end last, so that a server of a line-based protocol
// answers at once.
func (h *Hello) Append(dst []byte, withLineEnd bool) []byte {
	dst = append(dst, helloMark...)
	dst = append(dst, helloVersion)
	for tag := uint64(1); tag <= lastTag; tag++ {
		dst = appendHelloField(dst, tag, h.field(tag))
	}
	if withLineEnd {
		dst = appendBytes(dst, tagLineEnd, lineEnd)
	}
	return dst
}

func appendHelloField(dst []byte, tag uint64, field any) []byte {
	switch v := field.(type) {
	case *uint64:
		if *v != 0 {
			return appendNumber(dst, tag, *v)
		}
	case *uint32:
		if *v != 0 {
			return appendNumber(dst, tag, uint64(*v))
		}
	case *string:
		if *v != "" {
			return appendBytes(dst, tag, *v)
		}
	case *[]byte:
		if len(*v) > 0 {
			return appendBytes(dst, tag, *v)
		}
	}
	return dst
}

// IsHello says whether the body of a Ping or Pong is a hello, of version 2 or
// higher.
func IsHello(body []byte) bool {
	return len(body) > len(helloMark) && string(body[:len(helloMark)]) == helloMark && body[len(helloMark)] >= helloVersion
}

// ParseHello reads a hello record. The result shares no bytes with body.
func ParseHello(body []byte) (Hello, error) {
	if !IsHello(body) {
		return Hello{}, fmt.Errorf("%w: it does not begin with %q and a version of %d or higher", ErrHello, helloMark, helloVersion)
	}
	if len(body) > HelloMax {
		return Hello{}, fmt.Errorf("%w: %d bytes, at most %d are allowed", ErrHello, len(body), HelloMax)
	}
	var h Hello
	for rest := body[len(helloMark)+1:]; len(rest) > 0; {
		tag, value, after, err := takeField(rest)
		if err == nil {
			err = setHelloField(h.field(tag), value)
		}
		if err != nil {
			return Hello{}, fmt.Errorf("%w: field %d: %w", ErrHello, tag, err)
		}
		rest = after
	}
	if len(h.Session) > SessionMax {
		return Hello{}, fmt.Errorf("%w: %w", ErrHello, errSessionTooLong)
	}
	return h, nil
}

func setHelloField(field any, value []byte) (err error) {
	switch v := field.(type) {
	case *uint64:
		*v, err = ParseUvarint(value)
	case *uint32:
		*v, err = parseUint32(value)
	case *string:
		*v = string(value)
	case *[]byte:
		*v = append([]byte(nil), value...)
	}
	return err
}
