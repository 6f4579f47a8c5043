package arpc

import (
	"errors"
	"fmt"
	"reflect"

	"github.com/arpc-go/arpc/codec"
	"github.com/arpc-go/arpc/internal/wire"
)

// Detail is a value that travels with an error, as it came.
type Detail struct {
	Name string // as both ends registered the type, see RegisterDetail
	Data []byte // the value as the codec encoded it
}

// detailType is how values of a registered type travel.
type detailType struct {
	name   string
	decode func(c codec.Codec, data []byte) (error, error)
}

// RegisterDetail has errors of type T cross the wire as values, under a name that
// both ends register. A handler that fails with an error whose chain holds a T,
// by %w or Error.WithDetail, sends it along; errors.As finds it in the error that
// the caller gets. T is a struct type or a pointer to one with an Error method;
// the connection's codec encodes it. It panics if the name is empty or taken by
// another type.
func RegisterDetail[T error](h *Handler, name string) {
	t := reflect.TypeFor[T]()
	if name == "" || t.Kind() == reflect.Interface {
		panic(fmt.Sprintf("arpc: RegisterDetail(%q): %v needs a name and must not be an interface", name, t))
	}
	h.registerDetail(t, detailType{name: name, decode: func(c codec.Codec, data []byte) (error, error) {
		if t.Kind() == reflect.Pointer {
			v := reflect.New(t.Elem()).Interface()
			err := c.Unmarshal(data, v)
			return v.(error), err
		}
		v := new(T)
		err := c.Unmarshal(data, v)
		return *v, err
	}})
}

func (h *Handler) registerDetail(t reflect.Type, d detailType) {
	h.change(func() {
		if known, ok := h.details.byName[d.name]; ok && known != t {
			panic(fmt.Sprintf("arpc: RegisterDetail(%q): the name is taken by %v", d.name, known))
		}
		h.details = h.details.with(t, d)
	})
}

// detailTypes are the registered types. Never changed.
type detailTypes struct {
	byType map[reflect.Type]detailType
	byName map[string]reflect.Type
}

func (d detailTypes) with(t reflect.Type, added detailType) detailTypes {
	next := detailTypes{byType: map[reflect.Type]detailType{t: added}, byName: map[string]reflect.Type{added.name: t}}
	for known, dt := range d.byType {
		if known != t {
			next.byType[known], next.byName[dt.name] = dt, known
		}
	}
	return next
}

// appendTo appends the details in err's chain to a metadata section. What was
// received with an error travels on as it came.
func (d detailTypes) appendTo(section []byte, c codec.Codec, err error) ([]byte, error) {
	if err == nil {
		return section, nil
	}
	if e, ok := err.(*Error); ok {
		for _, detail := range e.details {
			section = wire.AppendDetail(section, detail.Name, detail.Data)
		}
		return d.appendTo(section, c, e.cause) // its values are among the details
	}
	if dt, ok := d.byType[reflect.TypeOf(err)]; ok {
		data, failed := c.Marshal(err)
		if failed != nil {
			return section, Errorf(CodeInternal, "arpc: encode the error detail %T: %w", err, failed)
		}
		section = wire.AppendDetail(section, dt.name, data)
	}
	var failed error
	for _, inner := range unwrap(err) {
		if section, failed = d.appendTo(section, c, inner); failed != nil {
			break
		}
	}
	return section, failed
}

func unwrap(err error) []error {
	switch e := err.(type) {
	case interface{ Unwrap() error }:
		if inner := e.Unwrap(); inner != nil {
			return []error{inner}
		}
	case interface{ Unwrap() []error }:
		return e.Unwrap()
	}
	return nil
}

// decode gives a received error the values of its details, so that errors.As
// finds them. What is not registered, or does not decode, stays raw.
func (d detailTypes) decode(c codec.Codec, err error) error {
	e, ok := err.(*Error)
	if !ok || !e.remote || len(e.details) == 0 || len(d.byName) == 0 {
		return err
	}
	var values []error
	for _, detail := range e.details {
		t, ok := d.byName[detail.Name]
		if !ok {
			continue
		}
		if v, failed := d.byType[t].decode(c, detail.Data); failed == nil {
			values = append(values, v)
		}
	}
	typed := *e
	typed.values = errors.Join(values...)
	return &typed
}

// WithDetail returns a copy of e that carries detail, which must be of a type
// that RegisterDetail knows at both ends to reach the peer.
func (e *Error) WithDetail(detail error) *Error {
	next := *e
	next.cause = detail
	if e.cause != nil {
		next.cause = errors.Join(e.cause, detail)
	}
	return &next
}

// Details returns what came with an error of the peer, registered or not. It is
// not to be changed.
func (e *Error) Details() []Detail { return e.details }

// remoteErrorOf is the error that a frame of the peer carries.
func remoteErrorOf(m *wire.Meta, text []byte) *Error {
	e := remoteError(string(text))
	if m == nil {
		return e
	}
	if m.HasCode {
		e.code = Code(m.Code)
		if m.Code == 0 {
			e.code = CodeUnknown
		}
	}
	for name, data := range m.Details() {
		e.details = append(e.details, Detail{Name: string(name), Data: append([]byte(nil), data...)})
	}
	return e
}
