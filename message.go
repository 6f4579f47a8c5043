package arpc

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"

	"github.com/arpc-go/arpc/codec"
	"github.com/arpc-go/arpc/internal/wire"
)

// Message is one frame: the 16-byte header, the method, metadata if there is any,
// and the payload, in one buffer. Coders rewrite it as a whole.
//
// A Message that a handler gets is a view of the connection's buffer and is
// valid until the handler returns. A Message made by NewMessage may be pushed
// to any number of clients at the same time; it is never changed by that. The
// setters are for coders and for tests, before the message is pushed.
type Message struct {
	// Buffer is the whole frame.
	Buffer []byte

	values map[any]any
	err    error // why the message could not be made
	lent   bool  // it is not changed once it was pushed: connections send it from where it lies

	mu    sync.Mutex
	coded map[coding][]byte // the frame as coders rewrote it, once
}

// newMessage makes a frame of v. An error, of the method's length or of the
// codec, is kept in the message and returned by whoever is to send it.
func newMessage(c codec.Codec, h wire.Header, method string, v any, maxBody int) *Message {
	m := &Message{}
	p, err := encode(c, v)
	if err == nil && (h.Cmd < wire.CmdRequest || h.Cmd > wire.CmdStream) {
		err = Errorf(CodeInvalidArgument, "arpc: command %d: a message has one of CmdRequest to CmdStream, or the peer ends the connection", h.Cmd)
		h.Cmd = wire.CmdNotify
	}
	if err == nil {
		err = checkMethod(method)
	}
	if err == nil {
		err = checkBody(len(method)+p.len(), maxBody)
	}
	if err != nil {
		m.err = unsent(err)
		p, method = payload{}, "?"
	}
	m.Buffer = appendFrame(make([]byte, 0, wire.HeaderLen+len(method)+p.len()), h, method, p)
	p.release()
	return m
}

// appendFrame appends a frame to dst. The lengths in h are set here.
func appendFrame(dst []byte, h wire.Header, method string, p payload) []byte {
	h.MethodLen = byte(len(method))
	h.BodyLen = uint32(len(method) + p.len())
	start := len(dst)
	dst = slices.Grow(dst, h.FrameLen())[:start+wire.HeaderLen]
	wire.PutHeader(dst[start:], h)
	dst = append(dst, method...)
	return p.appendTo(dst)
}

func checkMethod(method string) error {
	switch {
	case method == "":
		return NewError(CodeInvalidArgument, "arpc: the method name is empty")
	case len(method) > wire.MaxMethodLen:
		return Errorf(CodeInvalidArgument, "arpc: the method name is %d bytes long, the limit is %d: %.40q...", len(method), wire.MaxMethodLen, method)
	}
	return nil
}

func checkBody(n, limit int) error {
	if n > limit {
		return bodyTooLarge(n, limit)
	}
	return nil
}

func bodyTooLarge(n, limit int) *Error {
	return Errorf(CodeResourceExhausted, "arpc: a body of %d bytes is over the limit of %d (WithMaxBodyLen)", n, limit)
}

func (m *Message) header() wire.Header { return wire.ParseHeader(m.Buffer) }

// Len returns the length of the whole frame in bytes.
func (m *Message) Len() int { return len(m.Buffer) }

// Cmd returns the command, without the bits of streams.
func (m *Message) Cmd() byte { return m.Buffer[5] & wire.CmdMask }

// SetCmd sets the command and keeps the bits of streams.
func (m *Message) SetCmd(cmd byte) { m.Buffer[5] = m.Buffer[5]&^wire.CmdMask | cmd&wire.CmdMask }

// IsStreamEnd reports whether the sender sends no more on this stream.
func (m *Message) IsStreamEnd() bool { return m.Buffer[5]&wire.StreamEnd != 0 }

// IsStreamOpener reports whether the side that opened the stream sent this.
func (m *Message) IsStreamOpener() bool { return m.Buffer[5]&wire.StreamOpener != 0 }

// IsError reports whether this is an error response.
func (m *Message) IsError() bool { return m.Buffer[6]&wire.FlagError != 0 }

// SetError sets or clears the error flag.
func (m *Message) SetError(on bool) { m.Buffer[6] = setBit(m.Buffer[6], wire.FlagError, on) }

// Error returns the error that an error response carries, nil for any other
// message, or why NewMessage could not make this one.
func (m *Message) Error() error {
	switch {
	case m.err != nil:
		return m.err
	case m.IsError():
		meta, _ := m.meta()
		return remoteErrorOf(meta, m.Data())
	}
	return nil
}

// meta parses the metadata section, if there is one.
func (m *Message) meta() (*wire.Meta, bool) {
	h := m.header()
	if h.Flag&wire.FlagMeta == 0 {
		return nil, false
	}
	_, section, _, err := wire.SplitMeta(m.Buffer, h)
	if err != nil {
		return nil, false
	}
	meta, err := wire.ParseMeta(section)
	return &meta, err == nil
}

// Metadata returns what travels beside the payload; nil if nothing does.
func (m *Message) Metadata() Metadata {
	meta, ok := m.meta()
	if !ok {
		return nil
	}
	return metadataOf(meta.NPairs, meta.Pairs())
}

// IsAsync returns the async flag.
func (m *Message) IsAsync() bool { return m.Buffer[6]&wire.FlagAsync != 0 }

// SetAsync sets or clears the async flag.
func (m *Message) SetAsync(on bool) { m.Buffer[6] = setBit(m.Buffer[6], wire.FlagAsync, on) }

// IsFlagBitSet returns one of the eight bits that belong to coders. Bit 0 is
// taken by the old tracing trailer, bit 7 by gzip.
func (m *Message) IsFlagBitSet(index int) bool {
	return index >= 0 && index < 8 && m.Buffer[4]&(1<<index) != 0
}

// SetFlagBit sets one of the eight bits that belong to coders.
func (m *Message) SetFlagBit(index int, on bool) error {
	if index < 0 || index > 7 {
		return Errorf(CodeInvalidArgument, "arpc: flag bit %d: the index must be 0 to 7", index)
	}
	m.Buffer[4] = setBit(m.Buffer[4], 1<<index, on)
	return nil
}

func setBit(b, mask byte, on bool) byte {
	if on {
		return b | mask
	}
	return b &^ mask
}

// MethodLen returns the length of the method name in bytes.
func (m *Message) MethodLen() int { return int(m.Buffer[7]) }

// SetMethodLen sets the length of the method name in the header.
func (m *Message) SetMethodLen(n int) { m.Buffer[7] = byte(n) }

// Method returns the method name.
func (m *Message) Method() string {
	return string(m.Buffer[wire.HeaderLen : wire.HeaderLen+m.MethodLen()])
}

// BodyLen returns the length of the body, method and payload, as the header
// has it.
func (m *Message) BodyLen() int { return int(m.header().BodyLen) }

// SetBodyLen sets the length of the body in the header.
func (m *Message) SetBodyLen(n int) {
	h := m.header()
	h.BodyLen = uint32(n)
	wire.PutHeader(m.Buffer, h)
}

// Seq returns the number of the call or stream, chosen by its sender.
func (m *Message) Seq() uint64 { return m.header().Seq }

// SetSeq sets the number of the call or stream.
func (m *Message) SetSeq(seq uint64) {
	h := m.header()
	h.Seq = seq
	wire.PutHeader(m.Buffer, h)
}

// Data returns the payload, behind method and metadata. It is a view of Buffer.
func (m *Message) Data() []byte { return wire.Payload(m.Buffer) }

// Get returns a value that a coder or the caller attached to the message.
// Values stay in this process unless a coder sends them.
func (m *Message) Get(key any) (any, bool) {
	v, ok := m.values[key]
	return v, ok
}

// Set attaches a value to the message.
func (m *Message) Set(key, value any) {
	if m.values == nil {
		m.values = make(map[any]any)
	}
	m.values[key] = value
}

// Values returns what was attached to the message. The map is the message's.
func (m *Message) Values() map[any]any { return m.values }

// clone returns a copy that shares nothing with m.
func (m *Message) clone() *Message {
	return &Message{Buffer: append([]byte(nil), m.Buffer...), values: maps.Clone(m.values), err: m.err}
}

// MessageCoder rewrites whole messages on their way, for compression,
// encryption and the like. Encode runs for each message that leaves, in the
// order of UseCoder, Decode for each that arrives, in reverse. Both may change
// the message and return it, or return another one; bytes 0 to 3 of the buffer
// must be its length less 16. A coder that hides the header sets a bit of its
// own, SetFlagBit. Pings pass no coders. A nil message means that the coder refuses: the
// sender gets an error, and a received message is treated as malformed.
//
// Coders are called concurrently. A message pushed to many clients is encoded
// once for all that use the same chain, with the first of them as argument.
type MessageCoder interface {
	Encode(*Client, *Message) *Message
	Decode(*Client, *Message) *Message
}

// NamedCoder is a MessageCoder that both ends must have to use it: its name travels
// in the hello, and messages for a peer that did not say the same name, as none of
// version 1 does, pass it by. The name is 1 to 64 characters without commas and
// never changes. Decode gets every message and has to know which ones are its own.
type NamedCoder interface {
	MessageCoder
	CoderName() string
}

// PerSendCoder is a MessageCoder whose result may leave once only, such as
// encryption that numbers messages. A message that is pushed to many clients, or
// many times, is encoded for each of them and each time.
type PerSendCoder interface {
	MessageCoder
	PerSend() bool
}

// CheckedEncoder is a MessageCoder that says why it refuses to encode a message. The
// sender gets the reason, with its code.
type CheckedEncoder interface {
	EncodeChecked(*Client, *Message) (*Message, error)
}

// CheckedDecoder is a MessageCoder that says why it refuses a message. The
// reason reaches the sender where the message's header can still be read. A
// message beside the error is the start of the one refused, header and method at
// least, for a coder that had to open it; its sender is told, and the connection
// goes on.
type CheckedDecoder interface {
	DecodeChecked(*Client, *Message) (*Message, error)
}

// coderChain is an immutable list of coders; its address is its identity.
type coderChain struct {
	coders []MessageCoder
}

// perSend reports whether what the chain makes for a peer that misses some of the
// coders may leave once only.
func (ch *coderChain) perSend(missing uint64) bool {
	for i, coder := range ch.coders {
		if p, ok := coder.(PerSendCoder); ok && missing>>i&1 == 0 && p.PerSend() {
			return true
		}
	}
	return false
}

const (
	// maxCoders is how many coders a chain has at most.
	maxCoders = 64
	// maxCoderName is the length in bytes of the longest name of a coder.
	maxCoderName = 64
)

func mustName(name string) {
	if name == "" || len(name) > maxCoderName || strings.Contains(name, ",") {
		panic(fmt.Sprintf("arpc: UseCoder: the name of a coder is 1 to %d bytes without commas, not %q", maxCoderName, name))
	}
}

// names lists the coders that have one, as a hello has it.
func (ch *coderChain) names() string {
	if ch == nil {
		return ""
	}
	var names []string
	for _, coder := range ch.coders {
		if named, ok := coder.(NamedCoder); ok {
			names = append(names, named.CoderName())
		}
	}
	return strings.Join(names, ",")
}

func coderNames(list string) []string {
	if list == "" {
		return nil
	}
	return strings.Split(list, ",")
}

// agreement says which coders of a chain the peer that said hello has not.
type agreement struct {
	chain   *coderChain
	hello   *wire.Hello
	missing uint64 // a bit for each coder
}

// missing returns the coders that messages of the connection pass by.
func (ch *coderChain) missing(c *conn) uint64 {
	hello := c.hello.Load()
	if known := c.coders.Load(); known != nil && known.chain == ch && known.hello == hello {
		return known.missing
	}
	known := &agreement{chain: ch, hello: hello}
	var theirs []string
	if hello != nil {
		theirs = coderNames(hello.Coders)
	}
	for i, coder := range ch.coders {
		if named, ok := coder.(NamedCoder); ok && !slices.Contains(theirs, named.CoderName()) {
			known.missing |= 1 << i
		}
	}
	c.coders.Store(known)
	return known.missing
}

// errCoding is in the chain of errors of messages that cannot be coded.
var errCoding = errors.New("coding")

func codingError(format string, args ...any) error {
	text := fmt.Sprintf(format, args...)
	return &Error{code: CodeInternal, msg: text, cause: errCoding, unsent: true}
}

func (ch *coderChain) encode(c *conn, m *Message) (out *Message, err error) {
	returned := false
	defer func() {
		if p := recover(); p != nil {
			out, err = nil, codingError("arpc: a coder panicked on a message: %v", p)
		} else if !returned {
			c.fail(errGoexit) // whoever waits for the message hears of it
		}
	}()
	out, err = ch.encodeAll(c, m)
	returned = true
	return out, err
}

func (ch *coderChain) encodeAll(c *conn, m *Message) (*Message, error) {
	missing := ch.missing(c)
	limit := c.handler.MaxBodyLen() + len(m.Buffer) - wire.HeaderLen - m.MethodLen() - len(m.Data()) // metadata is not counted
	for i, coder := range ch.coders {
		if missing>>i&1 != 0 {
			continue
		}
		if checked, ok := coder.(CheckedEncoder); ok {
			out, err := checked.EncodeChecked(c.client, m)
			if err != nil {
				return nil, &Error{code: codeOr(err, CodeInternal), msg: "arpc: a message cannot be encoded: " + err.Error(), cause: errors.Join(errCoding, err), unsent: true}
			}
			m = out
		} else if m = coder.Encode(c.client, m); m == nil {
			return nil, codingError("arpc: coder %T refused to encode the message", coder)
		}
	}
	if err := checkCoded(m); err != nil {
		return nil, codingError("%v", err)
	}
	if m.BodyLen() > limit {
		return nil, codingError("arpc: coders made a body of %d bytes, over the limit of %d (WithMaxBodyLen)", m.BodyLen(), limit)
	}
	return m, nil
}

func (ch *coderChain) decode(c *Client, m *Message) (out *Message, err error) {
	defer func() {
		if p := recover(); p != nil {
			out, err = nil, fmt.Errorf("arpc: a coder panicked on a message: %v", p)
		}
	}()
	for i := len(ch.coders) - 1; i >= 0; i-- {
		coder := ch.coders[i]
		if checked, ok := coder.(CheckedDecoder); ok {
			m, err = checked.DecodeChecked(c, m)
		} else if m = coder.Decode(c, m); m == nil {
			err = fmt.Errorf("arpc: coder %T refused the message", coder)
		}
		if err != nil && i > 0 {
			return nil, err // the coders before have not seen the header
		}
		if err != nil {
			return refusedHead(m), err
		}
	}
	if err := checkCoded(m); err != nil {
		return nil, err
	}
	return m, nil
}

// refusedHead returns the start of a refused message if it can be read.
func refusedHead(m *Message) *Message {
	if m == nil || len(m.Buffer) < wire.HeaderLen || len(m.Buffer) < wire.HeaderLen+m.MethodLen() {
		return nil
	}
	return m
}

// checkCoded says whether a coder left a whole frame.
func checkCoded(m *Message) error {
	if len(m.Buffer) < wire.HeaderLen || m.BodyLen() != len(m.Buffer)-wire.HeaderLen {
		return NewError(CodeInternal, "arpc: a coder returned a message whose length does not fit its buffer")
	}
	return nil
}

// coding is what the same frame comes of.
type coding struct {
	chain   *coderChain
	missing uint64
}

// frameFor returns the message as the connection's coders rewrite it, made once for
// all that rewrite it alike. The bytes are shared and never changed.
func (m *Message) frameFor(c *conn) ([]byte, error) {
	ch := c.handler.snapshot().coders
	if ch == nil {
		return m.Buffer, nil
	}
	key := coding{ch, ch.missing(c)}
	if ch.perSend(key.missing) {
		out, err := ch.encode(c, m.clone())
		if err != nil {
			return nil, err
		}
		return out.Buffer, nil
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if b, ok := m.coded[key]; ok {
		return b, nil
	}
	out, err := ch.encode(c, m.clone())
	if err != nil {
		return nil, err
	}
	if m.coded == nil {
		m.coded = make(map[coding][]byte)
	}
	m.coded[key] = out.Buffer
	return out.Buffer, nil
}
