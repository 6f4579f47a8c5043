// Package frame has what the coders share that know the form of a message.
package frame

import (
	"math"

	"github.com/arpc-go/arpc"
)

// The bits of the reserved byte that say which coder has rewritten a message.
const (
	Tracing = 0
	AEAD    = 4
	S2      = 5
	Zstd    = 6
	Gzip    = 7
)

const (
	// maxMethod is the length in bytes of the longest method.
	maxMethod = 127
	// flagMetadata says in byte 6 that metadata follows the method.
	flagMetadata = 0x04
	// metadataRoom is what a message with metadata may be longer than its body,
	// in bytes: metadata has limits of its own.
	metadataRoom = 64 << 10
	// maxLen is the length of the longest message that is looked at.
	maxLen = math.MaxUint32
)

// Head returns the length in bytes of header and method. It reports false if the
// message is shorter. Where a coder has hidden the header, so that it cannot be
// that of a method, it is the header alone.
func Head(m *arpc.Message) (n int, ok bool) {
	if m.Len() < arpc.HeadLen {
		return 0, false
	}
	n = arpc.HeadLen
	if m.MethodLen() <= maxMethod {
		n += m.MethodLen()
	}
	return n, n <= m.Len()
}

// Payload returns where the payload begins, behind metadata if there is any. In a
// message that another coder has marked, metadata may be hidden, and counts as
// payload. It reports false if the message is shorter.
func Payload(m *arpc.Message) (start int, ok bool) {
	head, ok := Head(m)
	if !ok || m.MethodLen() > maxMethod || m.Buffer[4] != 0 || m.Buffer[6]&flagMetadata == 0 {
		return head, ok
	}
	data := m.Data()
	return m.Len() - len(data), data != nil
}

// SetBuffer gives m a new buffer, whose first bytes are a header.
func SetBuffer(m *arpc.Message, b []byte) {
	m.Buffer = b
	m.SetBodyLen(len(b) - arpc.HeadLen)
}

// Limit is the length in bytes of the longest message, header included, that may
// come out of decoding, and the setting it is from.
type Limit struct {
	Bytes   int64
	Setting string
}

// LimitOf returns the limit of a client, the default for nil, or own if that is
// lower and not 0.
func LimitOf(c *arpc.Client, own int, setting string) Limit {
	most := int64(arpc.DefaultMaxBodyLen)
	if c != nil {
		most = int64(c.Handler.MaxBodyLen())
	}
	most = min(most+arpc.HeadLen, maxLen)
	if own > 0 && int64(own) < most {
		return Limit{int64(own), setting}
	}
	return Limit{most, "arpc.WithMaxBodyLen"}
}

// For returns the limit for m, which is higher for one with metadata.
func (l Limit) For(m *arpc.Message) Limit {
	if m.Buffer[6]&flagMetadata != 0 {
		l.Bytes += metadataRoom
	}
	return l
}

// Exceeded is the error of a message of n bytes after decoding.
func (l Limit) Exceeded(coder string, n int64) error {
	return arpc.Errorf(arpc.CodeResourceExhausted, "%s: a frame of %d bytes after decoding is over the limit of %d (%s)", coder, n, l.Bytes, l.Setting)
}
