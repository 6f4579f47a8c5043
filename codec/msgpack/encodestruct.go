package msgpack

import (
	"reflect"

	"github.com/tinylib/msgp/msgp"
)

// fieldEncoder encodes one field of a struct.
type fieldEncoder struct {
	field
	key    []byte // the name, encoded
	encode encoder
}

func newStructEncoder(t reflect.Type) encoder {
	fields, err := fieldsOf(t)
	if err != nil {
		return func(dst []byte, _ reflect.Value) ([]byte, error) { return dst, err }
	}
	encoders := make([]fieldEncoder, len(fields))
	sometimes := false // some fields are left out sometimes
	for i, f := range fields {
		encoders[i] = fieldEncoder{field: f, key: msgp.AppendString(nil, f.name), encode: encoderOf(f.typ)}
		sometimes = sometimes || f.omitEmpty || f.omitZero || len(f.index) > 1
	}
	return func(dst []byte, v reflect.Value) (_ []byte, err error) {
		n := len(encoders)
		if sometimes {
			n = countFields(encoders, v)
		}
		dst = msgp.AppendMapHeader(dst, uint32(n))
		for i := range encoders {
			f := &encoders[i]
			fv, ok := f.in(v)
			if !ok {
				continue
			}
			if dst, err = f.encode(append(dst, f.key...), fv); err != nil {
				return dst, err
			}
		}
		return dst, nil
	}
}

func countFields(encoders []fieldEncoder, v reflect.Value) (n int) {
	for i := range encoders {
		if _, ok := encoders[i].in(v); ok {
			n++
		}
	}
	return n
}

// in returns the field of the struct v. It reports false if the field is left out.
func (f *fieldEncoder) in(v reflect.Value) (reflect.Value, bool) {
	for _, i := range f.index {
		if v.Kind() == reflect.Pointer {
			if v.IsNil() {
				return reflect.Value{}, false
			}
			v = v.Elem()
		}
		v = v.Field(i)
	}
	return v, !(f.omitEmpty && isEmpty(v) || f.omitZero && isZero(v))
}

func isEmpty(v reflect.Value) bool {
	switch v.Kind() {
	case reflect.Array, reflect.Map, reflect.Slice, reflect.String:
		return v.Len() == 0
	case reflect.Struct:
		return false
	}
	return v.IsZero()
}

func isZero(v reflect.Value) bool {
	if z, ok := v.Interface().(interface{ IsZero() bool }); ok && (v.Kind() != reflect.Pointer || !v.IsNil()) {
		return z.IsZero()
	}
	return v.IsZero()
}
