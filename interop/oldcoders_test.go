package interop

import (
	"bytes"
	"compress/gzip"
	"encoding/binary"
	"io"

	old "github.com/lesismal/arpc"
	"github.com/vmihailenco/msgpack"
)

// The coders of the old library are a module of their own that cannot be required
// beside it. These have their wire form; that with values uses the library for msgpack
// that they use.

// setPayload replaces what is behind the method.
func setPayload(m *old.Message, payload []byte) {
	head := old.HeadLen + m.MethodLen()
	setFrame(m, append(m.Buffer[:head:head], payload...))
}

func setFrame(m *old.Message, frame []byte) {
	m.Buffer = frame
	m.SetBodyLen(len(frame) - old.HeadLen)
}

// oldMsgpack sends values along with payloads.
type oldMsgpack struct{}

type envelope struct {
	Body   []byte
	Values map[any]any
}

func (oldMsgpack) Encode(_ *old.Client, m *old.Message) *old.Message {
	b, err := msgpack.Marshal(&envelope{m.Data(), m.Values()})
	if err == nil {
		setPayload(m, b)
	}
	return m
}

func (oldMsgpack) Decode(_ *old.Client, m *old.Message) *old.Message {
	var e envelope
	if msgpack.Unmarshal(m.Data(), &e) == nil {
		setPayload(m, e.Body)
		for k, v := range e.Values {
			m.Set(k, v)
		}
	}
	return m
}

// oldTrailer sends the value of one key behind payloads.
type oldTrailer string

func (key oldTrailer) Encode(_ *old.Client, m *old.Message) *old.Message {
	v, ok := m.Get(string(key))
	if !ok {
		return m
	}
	m.SetFlagBit(0, true)
	trailer := append([]byte(key), v.([]byte)...)
	trailer = binary.BigEndian.AppendUint16(trailer, uint16(len(trailer)+2))
	setFrame(m, append(m.Buffer[:len(m.Buffer):len(m.Buffer)], trailer...))
	return m
}

func (key oldTrailer) Decode(_ *old.Client, m *old.Message) *old.Message {
	if !m.IsFlagBitSet(0) {
		return m
	}
	end := len(m.Buffer) - 2
	begin := end + 2 - int(binary.BigEndian.Uint16(m.Buffer[end:]))
	if bytes.HasPrefix(m.Buffer[begin:end], []byte(key)) {
		m.Set(string(key), bytes.Clone(m.Buffer[begin+len(key):end]))
	}
	m.SetFlagBit(0, false)
	setFrame(m, m.Buffer[:begin])
	return m
}

// oldGzip compresses what is longer than so many bytes.
type oldGzip int

func (threshold oldGzip) Encode(_ *old.Client, m *old.Message) *old.Message {
	if len(m.Buffer) <= int(threshold) {
		return m
	}
	packed := bytes.NewBuffer(bytes.Clone(m.Buffer[:5]))
	w := gzip.NewWriter(packed)
	w.Write(m.Buffer[5:])
	w.Close()
	if packed.Len() < len(m.Buffer) {
		setFrame(m, packed.Bytes())
		m.SetFlagBit(7, true)
	}
	return m
}

func (oldGzip) Decode(_ *old.Client, m *old.Message) *old.Message {
	if !m.IsFlagBitSet(7) {
		return m
	}
	r, err := gzip.NewReader(bytes.NewReader(m.Buffer[5:]))
	if err != nil {
		return m
	}
	plain, err := io.ReadAll(r)
	if err == nil {
		setFrame(m, append(bytes.Clone(m.Buffer[:5]), plain...))
		m.SetFlagBit(7, false)
	}
	return m
}
