package cbor_test

import (
	"encoding/binary"
	"errors"
	"math"
	"math/big"
	"unicode/utf8"

	"github.com/fxamacker/cbor/v2"
)

// model decodes CBOR as RFC 8949 reads, without a thought of speed, into what the
// codec makes of an interface.
type model struct {
	data  []byte
	depth int
}

var (
	errModel = errors.New("not accepted")
	// errUnknown says that the model does not know what should come out.
	errUnknown = errors.New("not known to the model")
)

func decodeModel(data []byte, depth int) (any, error) {
	m := &model{data, depth}
	v, err := m.value(0, false)
	if err == nil && len(m.data) > 0 {
		return nil, errModel
	}
	return v, err
}

func (m *model) take(n uint64) ([]byte, error) {
	if n > uint64(len(m.data)) {
		return nil, errModel
	}
	taken := m.data[:n]
	m.data = m.data[n:]
	return taken, nil
}

// head returns the major type, the low five bits, and the argument.
func (m *model) head() (major, info byte, arg uint64, err error) {
	first, err := m.take(1)
	if err != nil {
		return 0, 0, 0, err
	}
	major, info = first[0]>>5, first[0]&31
	if info < 24 {
		return major, info, uint64(info), nil
	}
	if info > 27 {
		return 0, 0, 0, errModel
	}
	b, err := m.take(1 << (info - 24))
	if err != nil {
		return 0, 0, 0, err
	}
	return major, info, binary.BigEndian.Uint64(append(make([]byte, 8-len(b)), b...)), nil
}

func (m *model) value(depth int, inTag bool) (any, error) {
	major, info, arg, err := m.head()
	if err != nil {
		return nil, err
	}
	if (major == 4 || major == 5 || major == 6 && inTag) && depth >= m.depth {
		return nil, errModel
	}
	switch major {
	case 0:
		return integer(new(big.Int).SetUint64(arg)), nil
	case 1:
		n := new(big.Int).SetUint64(arg)
		return integer(n.Not(n)), nil
	case 2:
		b, err := m.take(arg)
		return append([]byte{}, b...), err
	case 3:
		b, err := m.take(arg)
		if err == nil && !utf8.Valid(b) {
			return nil, errModel
		}
		return string(b), err
	case 4:
		return m.array(arg, depth+1)
	case 5:
		return m.object(arg, depth+1)
	case 6:
		if inTag { // the first of several tags does not count
			depth++
		}
		return m.tagged(arg, depth)
	}
	return simple(info, arg)
}

func integer(n *big.Int) any {
	if n.IsInt64() {
		return n.Int64()
	}
	return n
}

func (m *model) array(n uint64, depth int) (any, error) {
	list := []any{}
	for ; n > 0; n-- {
		v, err := m.value(depth, false)
		if err != nil {
			return nil, err
		}
		list = append(list, v)
	}
	return list, nil
}

func (m *model) object(n uint64, depth int) (any, error) {
	object := map[string]any{}
	for ; n > 0; n-- {
		key, err := m.value(depth, false)
		if err != nil {
			return nil, err
		}
		v, err := m.value(depth, false)
		if err != nil {
			return nil, err
		}
		tag, tagged := key.(cbor.Tag)
		for ; tagged; tag, tagged = key.(cbor.Tag) { // makes no difference to a name
			key = tag.Content
		}
		name, ok := key.(string)
		ok = ok || key == nil // which is the empty name
		if _, again := object[name]; !ok || again {
			return nil, errModel
		}
		object[name] = v
	}
	return object, nil
}

func (m *model) tagged(number uint64, depth int) (any, error) {
	content, err := m.value(depth, true)
	if err != nil {
		return nil, err
	}
	if number < 4 {
		return nil, errUnknown // times and large integers
	}
	return cbor.Tag{Number: number, Content: content}, nil
}

func simple(info byte, arg uint64) (any, error) {
	switch {
	case info == 25:
		return half(uint16(arg)), nil
	case info == 26:
		return float64(math.Float32frombits(uint32(arg))), nil
	case info == 27:
		return math.Float64frombits(arg), nil
	case info == 24 && arg < 32:
		return nil, errModel
	case arg == 20 || arg == 21:
		return arg == 21, nil
	case arg == 22 || arg == 23:
		return nil, nil
	}
	return cbor.SimpleValue(arg), nil
}

// half is a float of 16 bits.
func half(bits uint16) float64 {
	exponent, fraction := int(bits>>10&31), float64(bits&1023)
	f := math.Ldexp(1+fraction/1024, exponent-15)
	switch {
	case exponent == 0:
		f = math.Ldexp(fraction/1024, -14)
	case exponent == 31 && fraction == 0:
		f = math.Inf(1)
	case exponent == 31:
		f = math.NaN()
	}
	if bits>>15 == 1 {
		return -f
	}
	return f
}
