package command

import (
	"context"
	"fmt"
	"maps"
	"reflect"
	"sync"
	"sync/atomic"
	"time"

	"github.com/arpc-go/arpc"
	"github.com/arpc-go/arpc/codec"
)

// Registry knows the commands for a receiver of type T by their names. Both ends
// have one with the same commands. Its methods and Register may be called at any
// time, from any goroutine.
type Registry[T any] struct {
	// The commands by their Go types. The map is replaced under mu, never changed.
	kinds atomic.Pointer[map[reflect.Type]*kind[T]]

	// Guarded by mu.
	mu    sync.Mutex
	bound []func(*kind[T]) // handlers that serve the commands
}

// kind is a registered type of commands. Never changed.
type kind[T any] struct {
	method     string // the route
	idempotent bool
	timeout    time.Duration // of Exec, 0: none

	serve        func(h *arpc.Handler, receiver T, invokers []Invoker)
	decodeResult func(c codec.Codec, data []byte) (any, error)
}

// NewRegistry returns a Registry without commands.
func NewRegistry[T any]() *Registry[T] {
	r := new(Registry[T])
	r.kinds.Store(new(map[reflect.Type]*kind[T]))
	return r
}

// RegisterOption says something about a type of commands.
type RegisterOption struct {
	apply func(*registration)
}

type registration struct {
	method     string
	idempotent bool
	timeout    time.Duration
}

// WithMethod sets the name that the command has on the wire, which is that of a
// route: 1 to 127 bytes. Default: "/command/" and the name of its type.
func WithMethod(name string) RegisterOption {
	return RegisterOption{func(r *registration) { r.method = name }}
}

// WithExecTimeout limits how long Exec may take, if the client does not give it less:
// its ctx ends then. What Exec returns after that is still answered. 0 is no limit,
// the default.
func WithExecTimeout(d time.Duration) RegisterOption {
	return RegisterOption{func(r *registration) { r.timeout = d }}
}

// Idempotent says that executing a command twice does no harm: Send sends it once
// more when it loses the connection under it, see arpc.ContextWithIdempotent. SendMulti
// and Start do not.
var Idempotent = RegisterOption{func(r *registration) { r.idempotent = true }}

// Register adds the commands of type C; the type of their results follows from it:
//
//	command.Register[Calc, Add](reg)
//
// C is a type whose values are sent, or a pointer type whose pointers are; the two are
// not the same. Register panics when the type or the name is registered already,
// the name is too long, or C or its results have an Error method, which would have
// them travel as texts.
func Register[T any, C Command[T, R], R any](reg *Registry[T], opts ...RegisterOption) {
	t := reflect.TypeFor[C]()
	name := t.Name()
	if t.Kind() == reflect.Pointer {
		name = t.Elem().Name()
	}
	r := registration{method: "/command/" + name}
	for _, opt := range opts {
		opt.apply(&r)
	}
	mustTravel(t, t)
	mustTravel(t, reflect.TypeFor[R]())
	if name == "" && r.method == "/command/" {
		panic(fmt.Sprintf("command: Register(%v): the type has no name, see WithMethod", t))
	}
	k := &kind[T]{method: r.method, idempotent: r.idempotent, timeout: r.timeout}
	k.serve = func(h *arpc.Handler, receiver T, invokers []Invoker) {
		(&server[T, C, R]{kind: k, receiver: receiver, invokers: invokers}).serve(h)
	}
	k.decodeResult = func(c codec.Codec, data []byte) (any, error) {
		return decodeNew[R](c, data)
	}
	reg.add(t, k)
}

var typeOfError = reflect.TypeFor[error]()

func mustTravel(of, t reflect.Type) {
	if t.Kind() == reflect.Interface && t == of || t.Implements(typeOfError) || reflect.PointerTo(t).Implements(typeOfError) {
		panic(fmt.Sprintf("command: Register(%v): %v is an interface or has an Error method", of, t))
	}
}

func (reg *Registry[T]) add(t reflect.Type, k *kind[T]) {
	if n := len(k.method); n == 0 || n > maxMethod {
		panic(fmt.Sprintf("command: Register(%v): the name must have 1 to %d bytes, it has %d; see WithMethod", t, maxMethod, n))
	}
	reg.mu.Lock()
	defer reg.mu.Unlock()
	known := *reg.kinds.Load()
	for other, o := range known {
		if other == t || o.method == k.method {
			panic(fmt.Sprintf("command: Register(%v): %v is registered as %q already; see WithMethod", t, other, o.method))
		}
	}
	next := maps.Clone(known)
	if next == nil {
		next = make(map[reflect.Type]*kind[T])
	}
	next[t] = k
	for _, bind := range reg.bound {
		bind(k)
	}
	reg.kinds.Store(&next)
}

// maxMethod is the length in bytes of the longest name of a route.
const maxMethod = 127

// Handle has h execute the commands of the registry against receiver, also those that
// are registered later. Invokers are around each Exec; the first is the outermost. It
// panics when h has a route of the name of one of the commands.
func (reg *Registry[T]) Handle(h *arpc.Handler, receiver T, invokers ...Invoker) {
	if h == nil {
		panic("command: Handle: the handler is nil")
	}
	bind := func(k *kind[T]) { k.serve(h, receiver, invokers) }
	reg.mu.Lock()
	defer reg.mu.Unlock()
	for _, k := range *reg.kinds.Load() {
		bind(k)
	}
	reg.bound = append(reg.bound, bind)
}

// kindOf returns what is registered for a command.
func (reg *Registry[T]) kindOf(cmd any) (*kind[T], error) {
	if k := (*reg.kinds.Load())[reflect.TypeOf(cmd)]; k != nil {
		if v := reflect.ValueOf(cmd); v.Kind() == reflect.Pointer && v.IsNil() {
			return nil, arpc.Unsent(arpc.Errorf(arpc.CodeInvalidArgument, "command: the %T is nil", cmd))
		}
		return k, nil
	}
	return nil, arpc.Unsent(arpc.Errorf(arpc.CodeUnimplemented, "command: %T is not registered here", cmd))
}

// byMethod returns what is registered under a name, nil for nothing.
func (reg *Registry[T]) byMethod(name string) *kind[T] {
	for _, k := range *reg.kinds.Load() {
		if k.method == name {
			return k
		}
	}
	return nil
}

// Invocation is what an Invoker may know of a command.
type Invocation struct {
	Method     string       // the name of the command on the wire
	Command    any          // the value
	Client     *arpc.Client // at whose other end its sender is
	ReceivedAt time.Time    // see Reply.ReceivedAt
}

// Invoker is around the Exec of each command, whether it has one result or many. It
// calls exec once, with a context made of ctx, and returns its error, or another
// one, which is then the caller's; one that returns without calling exec refuses
// the command. It is called by many goroutines at the same time.
//
// Middleware (arpc.Handler.Use) is around the commands of Send, and that of
// arpc.Handler.UseStream around those of SendMulti and Start.
type Invoker func(ctx context.Context, in *Invocation, exec func(ctx context.Context) error) error
