package msgpack

import (
	"encoding"
	"fmt"
	"reflect"
	"strings"
	"time"

	"github.com/tinylib/msgp/msgp"
)

// tags are the struct tags that name a field, the first one counts that it has.
var tags = []string{"msgpack", "msg", "json"}

// field is one that is encoded.
type field struct {
	name      string
	index     []int // from the struct to the field, through embedded ones
	typ       reflect.Type
	omitEmpty bool
	omitZero  bool
}

// fieldsOf returns the fields of the struct t. Of several with one name, that
// counts which is embedded the least deep.
func fieldsOf(t reflect.Type) ([]field, error) {
	all := collect(nil, t, nil, make(map[reflect.Type]bool))
	least := make(map[string]int) // how deep the field of that name is
	for _, f := range all {
		if depth, ok := least[f.name]; !ok || len(f.index) < depth {
			least[f.name] = len(f.index)
		}
	}
	var fields []field
	taken := make(map[string]bool)
	for _, f := range all {
		if len(f.index) > least[f.name] {
			continue
		}
		if taken[f.name] {
			return nil, fmt.Errorf("%v has two fields with the name %q", t, f.name)
		}
		taken[f.name] = true
		fields = append(fields, f)
	}
	return fields, nil
}

// collect adds the fields of t, which is at the given place. Structs that t is
// embedded in are marked as open.
func collect(fields []field, t reflect.Type, at []int, open map[reflect.Type]bool) []field {
	if open[t] {
		return fields
	}
	open[t] = true
	defer delete(open, t)
	for i := range t.NumField() {
		f := t.Field(i)
		index := append(at[:len(at):len(at)], i)
		tag := tagOf(f)
		name, options, _ := strings.Cut(tag, ",")
		switch {
		case tag == "-":
		case f.Anonymous && name == "" && isPlainStruct(f.Type):
			fields = collect(fields, structOf(f.Type), index, open)
		case f.IsExported():
			if name == "" {
				name = f.Name
			}
			fields = append(fields, field{
				name: name, index: index, typ: f.Type,
				omitEmpty: hasOption(options, "omitempty"), omitZero: hasOption(options, "omitzero"),
			})
		}
	}
	return fields
}

func tagOf(f reflect.StructField) string {
	for _, key := range tags {
		if tag, ok := f.Tag.Lookup(key); ok {
			return tag
		}
	}
	return ""
}

func hasOption(options, option string) bool {
	for o := range strings.SplitSeq(options, ",") {
		if o == option {
			return true
		}
	}
	return false
}

// structOf returns the struct that t is or points to.
func structOf(t reflect.Type) reflect.Type {
	if t.Kind() == reflect.Pointer {
		return t.Elem()
	}
	return t
}

// isPlainStruct reports whether the fields of t, when it is embedded, are those of
// the struct around it.
func isPlainStruct(t reflect.Type) bool {
	t = structOf(t)
	return t.Kind() == reflect.Struct && methodOf(t, encodes) == 0
}

// method is how a type encodes or decodes itself.
type method byte

const (
	generated method = iota + 1
	timestamp
	binary
	text
)

// methods are the interfaces of one direction.
type methods struct {
	generated, binary, text reflect.Type
}

var (
	encodes = methods{reflect.TypeFor[msgp.Marshaler](), reflect.TypeFor[encoding.BinaryMarshaler](), reflect.TypeFor[encoding.TextMarshaler]()}
	decodes = methods{reflect.TypeFor[msgp.Unmarshaler](), reflect.TypeFor[encoding.BinaryUnmarshaler](), reflect.TypeFor[encoding.TextUnmarshaler]()}

	timeType = reflect.TypeFor[time.Time]()
)

// methodOf returns how t, or a pointer to t, does it; 0 if it leaves it to others.
func methodOf(t reflect.Type, m methods) method {
	if t.Kind() == reflect.Pointer || t.Kind() == reflect.Interface {
		return 0
	}
	p := reflect.PointerTo(t)
	switch {
	case t == timeType:
		return timestamp
	case p.Implements(m.generated):
		return generated
	case p.Implements(m.binary):
		return binary
	case p.Implements(m.text):
		return text
	}
	return 0
}
