package codec

import (
	"bytes"
	"encoding"
	"encoding/json"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
	"unicode/utf8"

	jsoniter "github.com/json-iterator/go"
)

// plan says what json-iterator may do with values of one type: that for which
// its result is known to be that of encoding/json. See [JSON] for the rules.
type plan struct {
	encode, decode bool
	narrow         bool // holds integers of 32 bits
	dynamic        bool // holds interfaces
}

var plans sync.Map // of reflect.Type to *plan

func planFor(t reflect.Type) *plan {
	if p, ok := plans.Load(t); ok {
		return p.(*plan)
	}
	w := walker{plan: plan{encode: true, decode: true}, state: make(map[reflect.Type]walkState)}
	w.walk(t)
	p, _ := plans.LoadOrStore(t, &w.plan)
	return p.(*plan)
}

// walker makes the plan of a type from all types that it holds.
type walker struct {
	plan
	state map[reflect.Type]walkState
}

type walkState byte

const (
	walking walkState = iota + 1 // met again, it is recursive
	walked
)

func (w *walker) walk(t reflect.Type) {
	if t == timeType || w.state[t] == walked {
		return
	}
	if w.state[t] == walking || t.Kind() != reflect.Pointer && isOdd(t) {
		w.refuse()
		return
	}
	w.state[t] = walking
	w.walkKind(t)
	w.state[t] = walked
}

// refuse leaves both directions to encoding/json.
func (w *walker) refuse() { w.encode, w.decode = false, false }

func (w *walker) walkKind(t reflect.Type) {
	switch t.Kind() {
	case reflect.Bool, reflect.String, reflect.Float32, reflect.Float64,
		reflect.Int8, reflect.Int16, reflect.Int64, reflect.Uint8, reflect.Uint16, reflect.Uint64:
	case reflect.Int32, reflect.Uint32:
		w.narrow = true
	case reflect.Int, reflect.Uint, reflect.Uintptr:
		w.narrow = w.narrow || strconv.IntSize == 32
	case reflect.Pointer, reflect.Slice:
		w.walk(t.Elem())
	case reflect.Map:
		if t.Key().Kind() != reflect.String || isOdd(t.Key()) {
			w.refuse()
			return
		}
		w.walk(t.Elem())
	case reflect.Struct:
		w.walkFields(t, make(map[string]bool))
	case reflect.Interface:
		w.dynamic, w.encode = true, false // its content may be of any type
		if t.NumMethod() > 0 {
			w.refuse()
		}
	default: // arrays; channels, functions and complex numbers
		w.refuse()
	}
}

// walkFields adds the fields of t to the names of the struct that t is, or is
// embedded in.
func (w *walker) walkFields(t reflect.Type, names map[string]bool) {
	for i := range t.NumField() {
		f := t.Field(i)
		tag := f.Tag.Get("json")
		if tag == "-" || !f.IsExported() && !f.Anonymous {
			continue
		}
		name, options, _ := strings.Cut(tag, ",")
		if f.Anonymous {
			if name != "" || f.Type.Kind() != reflect.Struct || f.Type == timeType || isOdd(f.Type) {
				w.refuse()
				return
			}
			w.walkFields(f.Type, names)
			continue
		}
		if name == "" {
			name = f.Name
		}
		folded := strings.ToLower(name)
		if names[folded] || !isPlainName(name) || !isPlainName(f.Name) || options != "" && options != "omitempty" {
			w.refuse()
			return
		}
		names[folded] = true
		w.walk(f.Type)
	}
}

var (
	timeType = reflect.TypeFor[time.Time]()

	// oddTypes are treated apart by one of the two libraries.
	oddTypes = map[reflect.Type]bool{
		reflect.TypeFor[json.Number]():         true,
		reflect.TypeFor[jsoniter.Number]():     true,
		reflect.TypeFor[jsoniter.RawMessage](): true,
	}
	methodTypes = []reflect.Type{
		reflect.TypeFor[json.Marshaler](),
		reflect.TypeFor[json.Unmarshaler](),
		reflect.TypeFor[encoding.TextMarshaler](),
		reflect.TypeFor[encoding.TextUnmarshaler](),
	}
)

// isOdd reports whether t, which is no pointer, or a pointer to t has its own
// way to and from JSON.
func isOdd(t reflect.Type) bool {
	for _, m := range methodTypes {
		if t.Implements(m) || reflect.PointerTo(t).Implements(m) {
			return true
		}
	}
	return oddTypes[t]
}

func isPlainName(name string) bool {
	for i := range len(name) {
		c := name[i]
		if !isDigit(c) && (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') && !strings.ContainsRune("_-.$:/@", rune(c)) {
			return false
		}
	}
	return true
}

// iterAgrees reports whether json-iterator reads data into v as encoding/json
// would, or fails, or data is malformed in a way that [JSON] lists.
func iterAgrees(data []byte, v any) bool {
	t := reflect.TypeOf(v)
	if t == nil || t.Kind() != reflect.Pointer {
		return false
	}
	p := planFor(t)
	if !p.decode || hasLongNumber(data, p.narrow) || hasOddRune(data) || !utf8.Valid(data) {
		return false
	}
	if p.dynamic || bytes.Contains(data, []byte("null")) {
		return isZeroTarget(v)
	}
	return true
}

// isZeroTarget reports whether v points to a zero value, into which the two
// libraries decode null and interfaces alike.
func isZeroTarget(v any) bool {
	target := reflect.ValueOf(v).Elem()
	return target.IsValid() && target.IsZero()
}

// The Kelvin sign and the long s are a k and an s to encoding/json when it looks
// for a field.
var (
	kelvin, longS = []byte("\u212a"), []byte("\u017f")

	oddEscapes = [][]byte{[]byte(`\ud`), []byte(`\uD`), []byte(`\u212`), []byte(`\u017`)}
)

// hasOddRune reports whether data has one of those, or something like the escape
// of a surrogate, \ud83d.
func hasOddRune(data []byte) bool {
	if bytes.Contains(data, kelvin) || bytes.Contains(data, longS) {
		return true
	}
	if bytes.IndexByte(data, '\\') < 0 {
		return false
	}
	return slices.ContainsFunc(oddEscapes, func(escape []byte) bool { return bytes.Contains(data, escape) })
}

// json-iterator detects some overflows only: it compares a product that has
// wrapped around with the factor. One digit less than here never wraps.
const (
	digits32 = 10
	digits64 = 20
)

// hasLongNumber reports whether data has as many digits in a row as a number
// needs that does not fit. It looks at one byte in ten or twenty.
func hasLongNumber(data []byte, narrow bool) bool {
	n := digits64
	if narrow {
		n = digits32
	}
	for i := n - 1; i < len(data); i += n {
		if isDigit(data[i]) && digitsAround(data, i) >= n {
			return true
		}
	}
	return false
}

// digitsAround counts the digits in a row of which data[i] is one.
func digitsAround(data []byte, i int) int {
	from, to := i, i+1
	for from > 0 && isDigit(data[from-1]) {
		from--
	}
	for to < len(data) && isDigit(data[to]) {
		to++
	}
	return to - from
}

func isDigit(c byte) bool { return '0' <= c && c <= '9' }
