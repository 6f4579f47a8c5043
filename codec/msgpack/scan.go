package msgpack

import (
	"fmt"

	"github.com/tinylib/msgp/msgp"
)

// limits are what a payload may have.
type limits struct {
	depth    int // levels of arrays and maps
	elements int // of an array, pairs of a map
}

// scan returns what follows the value at the start of data. What it accepts can
// be decoded without a further thought of depth, and has as many elements as its
// lengths say: generated code relies on neither.
func (l limits) scan(data []byte) ([]byte, error) { return l.scanBelow(data, 0) }

// scanBelow scans a value that is in so many containers.
func (l limits) scanBelow(data []byte, depth int) ([]byte, error) {
	n, each, rest, err := readHeader(data)
	if err != nil || each == 0 {
		return rest, err
	}
	switch {
	case depth >= l.depth:
		return nil, fmt.Errorf("the payload nests deeper than the limit of %d (WithMaxDepth)", l.depth)
	case int64(n) > int64(l.elements):
		return nil, fmt.Errorf("%d elements are over the limit of %d (WithMaxElements)", n, l.elements)
	case int64(n)*each > int64(len(rest)):
		return nil, msgp.ErrShortBytes
	}
	for range int64(n) * each {
		if rest, err = l.scanBelow(rest, depth+1); err != nil {
			return nil, err
		}
	}
	return rest, nil
}

// readHeader reads how many elements a container has, and how many values each of
// them is, which is 0 for a value that is no container: it is skipped.
func readHeader(data []byte) (n uint32, each int64, rest []byte, err error) {
	switch msgp.NextType(data) {
	case msgp.ArrayType:
		n, rest, err = msgp.ReadArrayHeaderBytes(data)
		return n, 1, rest, err
	case msgp.MapType:
		n, rest, err = msgp.ReadMapHeaderBytes(data)
		return n, 2, rest, err
	}
	rest, err = msgp.Skip(data)
	return 0, 0, rest, err
}
