// Package codec turns values into payload bytes and back.
//
// A [Codec] has two methods, so any serialisation library fits behind it with a
// few lines. [JSON] is what clients and servers start with; [StdJSON] is the
// standard library's encoding/json, unchanged, and both write the same format:
// one end may use one and the other end the other. [Raw] is for payloads that are
// bytes already. CBOR, MessagePack and protobuf are in the folders below this one.
//
// What a codec owes its callers is tested by arpctest.Codec, for codecs of your
// own too.
package codec

// Codec turns values into payload bytes and back. Its methods may be called
// from several goroutines at the same time.
type Codec interface {
	// Marshal returns the bytes of v. They belong to the caller.
	Marshal(v any) ([]byte, error)
	// Unmarshal fills v, a non-nil pointer, from data. It keeps nothing of data,
	// which the caller may overwrite at once. After an error v may be partly
	// filled.
	Unmarshal(data []byte, v any) error
}

// Appender is implemented by codecs that can append to a buffer, which spares the
// caller an allocation and a copy. MarshalAppend may be called from several
// goroutines at the same time, with a buffer for each.
type Appender interface {
	// MarshalAppend appends the bytes that Marshal would return to dst, as the
	// built-in append does, and returns the result: where the capacity of dst is
	// not enough, in a new array. What dst holds stays as it is, and v must not
	// hold pieces of its capacity. Nothing of dst is kept. On an error the result
	// is dst; bytes between its length and its capacity may have been written.
	MarshalAppend(dst []byte, v any) ([]byte, error)
}

// MarshalAppend is c's own MarshalAppend, or that which its Marshal makes if c
// is no [Appender].
func MarshalAppend(c Codec, dst []byte, v any) ([]byte, error) {
	if a, ok := c.(Appender); ok {
		return a.MarshalAppend(dst, v)
	}
	data, err := c.Marshal(v)
	if err != nil {
		return dst, err
	}
	return append(dst, data...), nil
}

// Named is implemented by codecs whose format has a name that a peer can be
// told, such as "json".
type Named interface {
	Name() string
}

// Name returns the name of c's format, or "" if c is not [Named].
func Name(c Codec) string {
	if n, ok := c.(Named); ok {
		return n.Name()
	}
	return ""
}

// DefaultCodec is what clients and servers start with: [JSON] unless changed.
// They read it once, when they are made. Nothing guards it: set it at the start
// of the program, before the first of them.
var DefaultCodec Codec = JSON{}

// SetCodec sets [DefaultCodec], under the same rule. It panics if c is nil.
func SetCodec(c Codec) {
	if c == nil {
		panic("codec: SetCodec(nil)")
	}
	DefaultCodec = c
}
