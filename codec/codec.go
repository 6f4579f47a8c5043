// Package codec turns values into payload bytes and back.
//
// A [Codec] has two methods, so any serialisation library fits behind it with a
// few lines. [JSON] is what clients and servers start with; [StdJSON] is the
// standard library's encoding/json, unchanged, and both write the same format:
// one end may use one and the other end the other.
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
