// Package encodable finds values that an encoder would get wrong without an
// error: such as nest too deep, on which an encoder that calls itself for each
// level exhausts the stack, which ends the process and cannot be recovered from
// (cyclic values nest without end); and structs that would be empty because none
// of their fields is exported.
package encodable

import (
	"errors"
	"fmt"
	"reflect"
	"sync"
)

// Checker looks into values as an encoder does. Its methods may be called from
// several goroutines at the same time.
type Checker struct {
	// Tags are the keys of struct tags that the encoder reads: it leaves out
	// fields that have "-" under the first of them that a field has.
	Tags []string
	// Opaque are interfaces whose implementations encode themselves, as something
	// that does not nest.
	Opaque []reflect.Type
	// Own are interfaces whose implementations encode themselves, and what they
	// hold: they are looked into, and need no exported fields.
	Own []reflect.Type
	// Setting is what an error calls the limit.
	Setting string
	// Hollow says that structs without exported fields are all right.
	Hollow bool

	shapes sync.Map // of reflect.Type to *shape
}

// Check returns an error if arrays, slices, maps and structs nest deeper than most
// in v. The parts of v whose depth is that of their type are not looked into: what
// is returned may miss by the depth of such a type. It also returns an error if
// the type of v, or of what v holds, has a struct with fields of which none is
// exported.
func (c *Checker) Check(v any, most int) error {
	err := c.check(v, most)
	if err == errTooDeep {
		return fmt.Errorf("%T is cyclic, or nests deeper than the limit of %d%s", v, most, c.Setting)
	}
	return err
}

var errTooDeep = errors.New("too deep")

// check checks v, which may nest as deep as left.
func (c *Checker) check(v any, left int) error {
	switch v := v.(type) {
	case nil, bool, string, []byte, int, int64, uint64, float64:
		return nil
	case []any:
		if left <= 0 {
			return errTooDeep
		}
		for _, elem := range v {
			if err := c.check(elem, left-1); err != nil {
				return err
			}
		}
		return nil
	case map[string]any:
		if left <= 0 {
			return errTooDeep
		}
		for _, elem := range v {
			if err := c.check(elem, left-1); err != nil {
				return err
			}
		}
		return nil
	}
	rv := reflect.ValueOf(v)
	return c.checkValue(rv, c.shapeOf(rv.Type()), left)
}

// checkValue is check for a value that has the shape s.
func (c *Checker) checkValue(v reflect.Value, s *shape, left int) error {
	pointers := 0
	for ; !s.flat && v.Kind() == reflect.Pointer; pointers++ {
		if pointers > left {
			return errTooDeep
		}
		if v = v.Elem(); !v.IsValid() {
			break
		}
		s = c.shapeOf(v.Type())
	}
	switch {
	case s.hollow != nil:
		return fmt.Errorf("%v has no exported fields, and no methods to encode it", s.hollow)
	case s.flat || !v.IsValid():
		return nil
	case v.Kind() == reflect.Interface && pointers == 0:
		return c.checkContent(v.Elem(), left)
	case v.Kind() == reflect.Interface && left > 0:
		return c.checkContent(v.Elem(), left-1) // which may hold that pointer
	case left <= 0:
		return errTooDeep
	}
	return c.checkElems(v, s, left-1)
}

func (c *Checker) checkContent(v reflect.Value, left int) error {
	switch {
	case !v.IsValid():
		return nil
	case v.CanInterface():
		return c.check(v.Interface(), left)
	}
	return c.checkValue(v, c.shapeOf(v.Type()), left) // of an embedded field that is not exported
}

func (c *Checker) checkElems(v reflect.Value, s *shape, left int) error {
	switch v.Kind() {
	case reflect.Struct:
		for _, i := range s.fields {
			f := v.Field(i)
			if err := c.checkValue(f, c.shapeOf(f.Type()), left); err != nil {
				return err
			}
		}
	case reflect.Slice, reflect.Array:
		elem := c.shapeOf(v.Type().Elem())
		for i := range v.Len() {
			if err := c.checkValue(v.Index(i), elem, left); err != nil {
				return err
			}
		}
	case reflect.Map:
		key, elem := c.shapeOf(v.Type().Key()), c.shapeOf(v.Type().Elem())
		for it := v.MapRange(); it.Next(); {
			if err := c.checkValue(it.Key(), key, left); err != nil {
				return err
			}
			if err := c.checkValue(it.Value(), elem, left); err != nil {
				return err
			}
		}
	}
	return nil
}

// shape is what values of a type have in common.
type shape struct {
	flat   bool         // they never nest deeper than the type itself does
	fields []int        // of a struct that is not flat: those that are not
	hollow reflect.Type // a struct that they may hold, and that would be empty
}

func (c *Checker) shapeOf(t reflect.Type) *shape {
	if s, ok := c.shapes.Load(t); ok {
		return s.(*shape)
	}
	return c.look(t, make(map[reflect.Type]bool))
}

// recursive is what a type looks like from inside of itself.
var recursive = &shape{}

// look finds the shape of t, which the types that are open hold.
func (c *Checker) look(t reflect.Type, open map[reflect.Type]bool) *shape {
	if s, ok := c.shapes.Load(t); ok {
		return s.(*shape)
	}
	if open[t] {
		return recursive
	}
	open[t] = true
	s := &shape{flat: true}
	if !implements(t, c.Opaque) {
		c.lookInto(t, s, open)
	}
	delete(open, t)
	c.shapes.Store(t, s)
	return s
}

func (c *Checker) lookInto(t reflect.Type, s *shape, open map[reflect.Type]bool) {
	switch t.Kind() {
	case reflect.Interface:
		s.flat = false // its content may be anything
	case reflect.Pointer, reflect.Slice, reflect.Array:
		s.add(c.look(t.Elem(), open))
	case reflect.Map:
		s.add(c.look(t.Key(), open))
		s.add(c.look(t.Elem(), open))
	case reflect.Struct:
		c.lookIntoStruct(t, s, open)
	}
}

func (s *shape) add(part *shape) {
	s.flat = s.flat && part.flat
	if s.hollow == nil {
		s.hollow = part.hollow
	}
}

func (c *Checker) lookIntoStruct(t reflect.Type, s *shape, open map[reflect.Type]bool) {
	visible := t.NumField() == 0
	for i := range t.NumField() {
		f := t.Field(i)
		if !f.IsExported() && !f.Anonymous {
			continue
		}
		visible = true
		if c.isLeftOut(f) {
			continue
		}
		part := c.look(f.Type, open)
		s.add(part)
		if !part.flat {
			s.fields = append(s.fields, i)
		}
	}
	if !visible && !c.Hollow && !implements(t, c.Own) {
		s.hollow = t
	}
}

func (c *Checker) isLeftOut(f reflect.StructField) bool {
	for _, key := range c.Tags {
		if tag, ok := f.Tag.Lookup(key); ok {
			return tag == "-"
		}
	}
	return false
}

// implements reports whether t, or a pointer to it, implements one of the
// interfaces.
func implements(t reflect.Type, interfaces []reflect.Type) bool {
	if t.Kind() == reflect.Interface {
		return false // what it holds need not be alike
	}
	for _, i := range interfaces {
		if t.Implements(i) || reflect.PointerTo(t).Implements(i) {
			return true
		}
	}
	return false
}
