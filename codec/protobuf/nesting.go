package protobuf

import (
	"reflect"
	"sync"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
)

// recursions says of descriptors whether their messages hold themselves.
var recursions sync.Map // of protoreflect.MessageDescriptor to bool

// holdsItself reports whether a message of type md, or one that it holds, may hold
// another of its own type: then its type does not limit how deep it nests.
func holdsItself(md protoreflect.MessageDescriptor) bool {
	if known, ok := recursions.Load(md); ok {
		return known.(bool)
	}
	found := reachesOpen(md, make(map[protoreflect.FullName]bool))
	recursions.Store(md, found)
	return found
}

// reachesOpen reports whether md holds itself, or one of the messages that are
// open: those that hold md. What is in the map and not open does not.
func reachesOpen(md protoreflect.MessageDescriptor, open map[protoreflect.FullName]bool) bool {
	if isOpen, seen := open[md.FullName()]; seen {
		return isOpen
	}
	if md.ExtensionRanges().Len() > 0 { // an extension may be anything
		return true
	}
	open[md.FullName()] = true
	fields := md.Fields()
	for i := range fields.Len() {
		if held := fields.Get(i).Message(); held != nil && reachesOpen(held, open) {
			return true
		}
	}
	open[md.FullName()] = false
	return false
}

// nestsDeeper reports whether messages in m nest deeper than left, m included.
func nestsDeeper(m protoreflect.Message, left int) bool {
	if left <= 0 {
		return true
	}
	deeper := false
	m.Range(func(fd protoreflect.FieldDescriptor, v protoreflect.Value) bool {
		switch {
		case fd.IsMap():
			deeper = fd.MapValue().Message() != nil && mapDeeper(v.Map(), left-1)
		case fd.Message() == nil:
		case fd.IsList():
			deeper = listDeeper(v.List(), left-1)
		default:
			deeper = nestsDeeper(v.Message(), left-1)
		}
		return !deeper
	})
	return deeper
}

func mapDeeper(m protoreflect.Map, left int) (deeper bool) {
	m.Range(func(_ protoreflect.MapKey, v protoreflect.Value) bool {
		deeper = nestsDeeper(v.Message(), left)
		return !deeper
	})
	return deeper
}

func listDeeper(list protoreflect.List, left int) bool {
	for i := range list.Len() {
		if nestsDeeper(list.Get(i).Message(), left) {
			return true
		}
	}
	return false
}

// pointerHint helps those who pass a message by value.
func pointerHint(v any) string {
	if v == nil {
		return ""
	}
	if _, ok := reflect.New(reflect.TypeOf(v)).Interface().(proto.Message); ok {
		return ", a pointer to it is"
	}
	return ""
}
