package msgpack_test

import (
	"encoding/binary"
	"errors"
	"math"
	"time"
)

// model decodes MessagePack as its specification reads, without a thought of
// speed, into what the codec makes of an interface.
type model struct {
	data  []byte
	depth int
}

var errModel = errors.New("not accepted")

func decodeModel(data []byte, depth int) (any, error) {
	m := &model{data, depth}
	v, err := m.value(0)
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

// number takes an unsigned number of so many bytes.
func (m *model) number(bytes uint64) (uint64, error) {
	b, err := m.take(bytes)
	if err != nil {
		return 0, err
	}
	return binary.BigEndian.Uint64(append(make([]byte, 8-len(b)), b...)), nil
}

func (m *model) value(depth int) (any, error) {
	first, err := m.number(1)
	if err != nil {
		return nil, err
	}
	switch {
	case first < 0x80:
		return int64(first), nil
	case first < 0x90:
		return m.object(first-0x80, nil, depth)
	case first < 0xa0:
		return m.array(first-0x90, nil, depth)
	case first < 0xc0:
		return m.text(first-0xa0, nil)
	case first >= 0xe0:
		return int64(first) - 256, nil
	}
	return m.marked(first, depth)
}

func (m *model) marked(first uint64, depth int) (any, error) {
	switch {
	case first == 0xc0:
		return nil, nil
	case first == 0xc2 || first == 0xc3:
		return first == 0xc3, nil
	case first >= 0xc4 && first <= 0xc6:
		return m.bytes(m.number(1 << (first - 0xc4)))
	case first >= 0xc7 && first <= 0xc9:
		n, err := m.number(1 << (first - 0xc7))
		return m.extension(n, err)
	case first == 0xca:
		n, err := m.number(4)
		return float64(math.Float32frombits(uint32(n))), err
	case first == 0xcb:
		n, err := m.number(8)
		return math.Float64frombits(n), err
	case first >= 0xcc && first <= 0xcf:
		return unsigned(m.number(1 << (first - 0xcc)))
	case first >= 0xd0 && first <= 0xd3:
		bits := 8 << (first - 0xd0)
		n, err := m.number(uint64(bits / 8))
		return int64(n<<(64-bits)) >> (64 - bits), err
	case first >= 0xd4 && first <= 0xd8:
		return m.extension(1<<(first-0xd4), nil)
	case first >= 0xd9 && first <= 0xdb:
		return m.text(m.number(1 << (first - 0xd9)))
	case first == 0xdc || first == 0xdd:
		n, err := m.number(2 << (first - 0xdc))
		return m.array(n, err, depth)
	case first == 0xde || first == 0xdf:
		n, err := m.number(2 << (first - 0xde))
		return m.object(n, err, depth)
	}
	return nil, errModel
}

func (m *model) bytes(n uint64, err error) (any, error) {
	if err != nil {
		return nil, err
	}
	b, err := m.take(n)
	return append([]byte{}, b...), err
}

func unsigned(n uint64, err error) (any, error) {
	if n > math.MaxInt64 {
		return n, err
	}
	return int64(n), err
}

func (m *model) text(n uint64, err error) (any, error) {
	if err != nil {
		return nil, err
	}
	b, err := m.take(n)
	return string(b), err
}

func (m *model) extension(n uint64, err error) (any, error) {
	kind, kindErr := m.number(1)
	data, dataErr := m.take(n)
	if err := errors.Join(err, kindErr, dataErr); err != nil {
		return nil, err
	}
	var seconds, nanos uint64
	switch {
	case kind == 5 && n == 12: // what the library wrote for a time once
		seconds, nanos = binary.BigEndian.Uint64(data), uint64(int64(int32(binary.BigEndian.Uint32(data[8:]))))
		return time.Unix(int64(seconds), int64(nanos)).UTC(), nil
	case kind != 0xff:
		return nil, errModel
	case n == 4:
		seconds = uint64(binary.BigEndian.Uint32(data))
	case n == 8:
		both := binary.BigEndian.Uint64(data)
		seconds, nanos = both&(1<<34-1), both>>34
	case n == 12:
		seconds, nanos = binary.BigEndian.Uint64(data[4:]), uint64(binary.BigEndian.Uint32(data))
	default:
		return nil, errModel
	}
	if nanos > 999_999_999 {
		return nil, errModel
	}
	return time.Unix(int64(seconds), int64(nanos)).UTC(), nil
}

func (m *model) array(n uint64, err error, depth int) (any, error) {
	if err != nil || depth >= m.depth {
		return nil, errModel
	}
	list := []any{}
	for ; n > 0; n-- {
		v, err := m.value(depth + 1)
		if err != nil {
			return nil, err
		}
		list = append(list, v)
	}
	return list, nil
}

func (m *model) object(n uint64, err error, depth int) (any, error) {
	if err != nil || depth >= m.depth {
		return nil, errModel
	}
	object := map[string]any{}
	for ; n > 0; n-- {
		key, err := m.value(depth + 1)
		if err != nil {
			return nil, err
		}
		name, ok := key.(string)
		if !ok {
			return nil, errModel
		}
		if object[name], err = m.value(depth + 1); err != nil {
			return nil, err
		}
	}
	return object, nil
}
