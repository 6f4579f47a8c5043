package router

import (
	"reflect"

	"github.com/arpc-go/arpc"
)

// Validator is a request that can tell whether it makes sense.
type Validator interface {
	// Validate returns nil, or what is wrong for the peer to read.
	Validate() error
}

// Validate returns middleware that has Context.Bind, and the decoding of typed
// requests and notifications, fail with CodeInvalidArgument when what was decoded
// is a Validator and does not make sense; the text is that of its error. A typed
// request is then answered with it and a typed notification counts as dropped, see
// arpc.Handler.HandleMessageDropped; neither reaches its handler. A handler that
// calls Bind gets the error, and passes it to Context.Error.
//
// An empty payload, which leaves a typed request as it is, is validated too. Only
// the value itself is asked: it asks what is in it. Messages of streams do not pass
// here; CheckValid is for their handlers.
func Validate() arpc.HandlerFunc {
	return func(ctx *arpc.Context) { ctx.CheckBind(CheckValid) }
}

// CheckValid returns what Bind does behind Validate for a value: nil if it is none
// or one that makes sense. v is a Validator or points to one, through as many
// pointers as there are. A nil in the place of a Validator makes no sense.
func CheckValid(v any) error {
	if validator, ok := v.(Validator); ok {
		return checkValid(validator)
	}
	value := reflect.ValueOf(v)
	for value.Kind() == reflect.Pointer || value.Kind() == reflect.Interface {
		if validator, ok := value.Interface().(Validator); ok {
			return checkValid(validator)
		}
		if value.IsNil() {
			return checkNil(value.Type())
		}
		value = value.Elem()
	}
	return nil
}

func checkValid(validator Validator) error {
	if value := reflect.ValueOf(validator); value.Kind() == reflect.Pointer && value.IsNil() {
		return errNoValue
	}
	if err := validator.Validate(); err != nil {
		return arpc.Errorf(arpc.CodeInvalidArgument, "%w", err)
	}
	return nil
}

var errNoValue = arpc.NewError(arpc.CodeInvalidArgument, "the value is missing")

// checkNil says what is wrong with a nil of a type.
func checkNil(t reflect.Type) error {
	if t.Implements(reflect.TypeFor[Validator]()) || t.Kind() == reflect.Pointer && t.Elem().Implements(reflect.TypeFor[Validator]()) {
		return errNoValue
	}
	return nil
}
