package arpctest

import (
	"fmt"
	"maps"
	"reflect"
	"slices"
	"testing"

	"github.com/arpc-go/arpc/codec"
)

// CodecSpec says what the format of a codec can hold. The zero CodecSpec is that
// of a format which brings all Go values back as they were.
type CodecSpec struct {
	// Values are encoded and decoded in place of the kit's own, by a name for
	// each. A pointer stands for what it points to: what is encoded is the
	// pointer, and it is decoded into a new value of the type it points to.
	Values map[string]any
	// Cannot names those values that the format has no room for: Marshal or
	// Unmarshal must return an error.
	Cannot []string
	// Becomes has, under their names, what comes back in the place of those
	// values that the format does not keep as they are.
	Becomes map[string]any
	// Equal reports whether got is as good as want after a round trip. Default:
	// like reflect.DeepEqual, but NaN equals NaN, and a time another of the same
	// instant.
	Equal func(want, got any) bool
	// SelfDelimiting says that structs and maps end by themselves: bytes that are
	// missing at their end, or follow it, are errors.
	SelfDelimiting bool
	// Nested returns a payload of n containers, one in the other. It is nil for
	// formats without containers.
	Nested func(n int) []byte
	// MaxAlloc is how many bytes of memory Unmarshal may allocate for a damaged
	// payload of n bytes. Default: 1 MiB, and 512 bytes for each byte.
	MaxAlloc func(n int) uint64
}

// Codec tests what package codec promises of a codec, each in a subtest:
//
//   - Values of many kinds come back as they were, also from a pointer to them and
//     into a value that holds something already.
//   - Unmarshal keeps nothing of the payload and does not change it; the bytes
//     that Marshal returned are the caller's.
//   - MarshalAppend, if there is one, appends what Marshal returns, changes
//     nothing of the buffer before it, and returns the buffer on an error.
//   - All of that from several goroutines at the same time.
//   - What cannot be encoded (channels, functions, cycles), and targets that
//     cannot be decoded into, are errors.
//   - Payloads that are cut off or have bits flipped neither panic nor allocate
//     more than MaxAlloc, and those that nest ten million levels deep are errors.
//
// A codec that exhausts the stack ends the test process. Codec must not run
// beside other tests, whose allocations it would count.
func Codec(t *testing.T, c codec.Codec, spec CodecSpec) {
	t.Helper()
	k, err := newCodecKit(c, spec)
	if err != nil {
		t.Fatal("arpctest: ", err)
	}
	for _, check := range k.checks() {
		t.Run(check.name, func(t *testing.T) {
			if check.skip != "" {
				t.Skip(check.skip)
			}
			if err := check.run(); err != nil {
				t.Error(err)
			}
		})
	}
}

// codecKit is one run of Codec.
type codecKit struct {
	c     codec.Codec
	spec  CodecSpec
	names []string // of spec.Values, sorted
}

type codecCheck struct {
	name string
	skip string // why it is not run, if it is not
	run  func() error
}

func newCodecKit(c codec.Codec, spec CodecSpec) (*codecKit, error) {
	if spec.Values == nil {
		spec.Values = codecZoo()
	}
	if spec.Equal == nil {
		spec.Equal = codecEqual
	}
	if spec.MaxAlloc == nil {
		spec.MaxAlloc = func(n int) uint64 { return 1<<20 + 512*uint64(n) }
	}
	for _, name := range slices.Concat(spec.Cannot, slices.Collect(maps.Keys(spec.Becomes))) {
		if _, ok := spec.Values[name]; !ok {
			return nil, fmt.Errorf("the spec names %q in Cannot or Becomes, which is none of the values: %q", name, slices.Sorted(maps.Keys(spec.Values)))
		}
	}
	return &codecKit{c: c, spec: spec, names: slices.Sorted(maps.Keys(spec.Values))}, nil
}

func (k *codecKit) checks() []codecCheck {
	checks := []codecCheck{
		{name: "round trip", run: k.each(k.checkRoundTrip)},
		{name: "refuse what the format has no room for", run: k.checkCannot},
		{name: "keep nothing of the payload", run: k.each(k.checkKeepsNothing)},
		{name: "give the bytes away", run: k.each(k.checkGivesAway)},
		{name: "append", run: k.each(k.checkAppend)},
		{name: "concurrent use", run: k.checkConcurrent},
		{name: "refuse what cannot be encoded", run: k.checkRefuses},
		{name: "refuse what cannot be decoded into", run: k.each(k.checkTargets)},
		{name: "ends of payloads", run: k.each(k.checkEnds)},
		{name: "damaged payloads", run: k.each(k.checkDamaged)},
		{name: "deep nesting", run: k.checkNested},
	}
	for i, check := range checks {
		checks[i].run = func() error { return k.guard(check.run) }
		switch _, appends := k.c.(codec.Appender); {
		case checks[i].name == "append" && !appends:
			checks[i].skip = "the codec is no codec.Appender"
		case checks[i].name == "ends of payloads" && !k.spec.SelfDelimiting:
			checks[i].skip = "the format is not declared as SelfDelimiting"
		case checks[i].name == "deep nesting" && k.spec.Nested == nil:
			checks[i].skip = "the format is declared without Nested"
		}
	}
	return checks
}

// each has check run for all values that the format has room for.
func (k *codecKit) each(check func(v codecValue) error) func() error {
	return func() error {
		for _, name := range k.names {
			if slices.Contains(k.spec.Cannot, name) {
				continue
			}
			if err := k.guard(func() error { return check(k.value(name)) }); err != nil {
				return fmt.Errorf("%s: %w", name, err)
			}
		}
		return nil
	}
}

// guard makes an error of a panic.
func (k *codecKit) guard(fn func() error) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("panic: %v", p)
		}
	}()
	return fn()
}

// codecValue is a value and what comes back of it.
type codecValue struct {
	v, want any
}

func (k *codecKit) value(name string) codecValue {
	v := codecValue{v: k.spec.Values[name], want: k.spec.Values[name]}
	if becomes, ok := k.spec.Becomes[name]; ok {
		v.want = becomes
	}
	return v
}

func isPointer(v any) bool {
	return v != nil && reflect.TypeOf(v).Kind() == reflect.Pointer
}

// target returns a pointer to decode v into, and what is to compare with
// afterwards.
func (v codecValue) target() (target any, got func() any) {
	t := reflect.TypeFor[any]()
	if v.v != nil {
		t = reflect.TypeOf(v.v)
	}
	if isPointer(v.v) {
		p := reflect.New(t.Elem()).Interface()
		return p, func() any { return p }
	}
	p := reflect.New(t)
	return p.Interface(), func() any { return p.Elem().Interface() }
}

// pointer is a pointer to v, or v if it is one.
func (v codecValue) pointer() any {
	if isPointer(v.v) || v.v == nil {
		return v.v
	}
	p := reflect.New(reflect.TypeOf(v.v))
	p.Elem().Set(reflect.ValueOf(v.v))
	return p.Interface()
}

// same decodes data and says how it differs from what v should be.
func (k *codecKit) same(data []byte, v codecValue) error {
	target, got := v.target()
	if err := k.c.Unmarshal(data, target); err != nil {
		return fmt.Errorf("unmarshal %s: %w", excerpt(data), err)
	}
	return k.compare(v, got(), data)
}

func (k *codecKit) compare(v codecValue, got any, data []byte) error {
	if !k.spec.Equal(v.want, got) {
		return fmt.Errorf("want %s, got %s from %s", shown(v.want), shown(got), excerpt(data))
	}
	return nil
}

// shown is a value of any size in a few words.
func shown(v any) string {
	const most = 300
	s := fmt.Sprintf("%T %+v", v, v)
	if len(s) > most {
		return s[:most] + "..."
	}
	return s
}

func excerpt(data []byte) string {
	const most = 100
	if len(data) <= most {
		return fmt.Sprintf("%q", data)
	}
	return fmt.Sprintf("%q... (%d bytes)", data[:most], len(data))
}
