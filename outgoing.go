package arpc

import (
	"slices"
	"time"

	"github.com/arpc-go/arpc/internal/wire"
)

// outgoing is one frame on its way into the output.
type outgoing struct {
	header  wire.Header
	method  string
	section []byte // metadata, for a peer that understands it
	payload payload
	whole   []byte      // the whole frame instead of the four above
	values  map[any]any // for coders
	coded   bool        // coders made it

	call    *call         // registered when the frame is appended; nil for none
	timeout time.Duration // for room and for the call; 0: none
	left    time.Duration // until the deadline that travels along; 0: none
	begins  bool          // something new, not for a peer that goes away
	old     bool          // only for a peer that is of version 1 still
	meets   *wire.Hello   // what the peer is known as behind this frame
	noWait  bool          // fail with ErrOverstock rather than wait for room
	shared  bool          // one of many: a flusher writes it
	lent    bool          // whole is never changed
	reply   bool          // made by the engine on the reader: never waits
	urgent  bool          // overtakes what waits, once the transport has
	behind  uint64        // so many bytes
	mark    uint64        // under which the handler that sends runs, 0: none
}

// exemptText is the length in bytes up to which the text of an error response
// passes whatever WithMaxBodyLen says, so that the caller hears of it.
const exemptText = 1 << 10

func (o *outgoing) exempt() bool {
	return o.reply || o.header.Flag&wire.FlagError != 0 && o.payload.len() <= exemptText
}

func (o *outgoing) size() int {
	if o.whole != nil {
		return len(o.whole)
	}
	n := wire.HeaderLen + len(o.method) + o.payload.len()
	if o.left > 0 || len(o.section) > 0 {
		n += maxTimeoutField + maxSectionLen + len(o.section)
	}
	return n
}

// metadata returns the length of the section at most.
func (o *outgoing) metadata() int {
	if o.left > 0 {
		return len(o.section) + maxTimeoutField
	}
	return len(o.section)
}

// body returns what the limits on bodies count: metadata has limits of its own.
func (o *outgoing) body() int {
	switch {
	case o.coded:
		return 0 // it was looked at before
	case o.whole != nil:
		return len(o.whole) - wire.HeaderLen
	}
	return len(o.method) + o.payload.len()
}

// isPing reports whether the frame is a ping or a pong, which are never coded.
func (o *outgoing) isPing() bool { return o.header.Cmd == wire.CmdPing || o.header.Cmd == wire.CmdPong }

const (
	maxTimeoutField = 12 // bytes of the field with the time left
	maxSectionLen   = 5  // bytes of a section's length
)

// appendTo appends the frame. The peer has the given features.
func (o *outgoing) appendTo(dst []byte, features uint64) []byte {
	if features&wire.FeatureMetadata == 0 || o.left <= 0 && len(o.section) == 0 {
		return appendFrame(dst, o.header, o.method, o.payload)
	}
	start := len(dst)
	dst = slices.Grow(dst, o.size())[:start+wire.HeaderLen]
	dst = append(dst, o.method...)
	if len(o.section) == 0 { // most of the time
		dst = wire.AppendTimeoutSection(dst, microseconds(o.left))
	} else {
		dst = o.appendSection(dst)
	}
	dst = o.payload.appendTo(dst)
	h := o.header
	h.Flag |= wire.FlagMeta
	h.MethodLen = byte(len(o.method))
	h.BodyLen = uint32(len(dst) - start - wire.HeaderLen)
	wire.PutHeader(dst[start:], h)
	return dst
}

func (o *outgoing) appendSection(dst []byte) []byte {
	var space [maxTimeoutField]byte
	timeout := space[:0]
	if o.left > 0 {
		timeout = wire.AppendTimeout(timeout, microseconds(o.left))
	}
	dst = wire.AppendUvarintBody(dst, uint64(len(timeout)+len(o.section)))
	dst = append(dst, timeout...)
	return append(dst, o.section...)
}

// microseconds rounds up, so that the peer does not give up before us.
func microseconds(d time.Duration) uint64 {
	return (uint64(d) + uint64(time.Microsecond) - 1) / uint64(time.Microsecond)
}
