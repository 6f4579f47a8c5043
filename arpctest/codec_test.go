package arpctest

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/arpc-go/arpc/codec"
)

// brokenCodec is a JSON codec with one fault or none.
type brokenCodec struct {
	marshal   func(v any) ([]byte, error)
	append    func(dst []byte, v any) ([]byte, error)
	unmarshal func(data []byte, v any) error
}

func (b brokenCodec) Marshal(v any) ([]byte, error) {
	if b.marshal != nil {
		return b.marshal(v)
	}
	return codec.StdJSON{}.Marshal(v)
}

func (b brokenCodec) MarshalAppend(dst []byte, v any) ([]byte, error) {
	if b.append != nil {
		return b.append(dst, v)
	}
	return codec.StdJSON{}.MarshalAppend(dst, v)
}

func (b brokenCodec) Unmarshal(data []byte, v any) error {
	if b.unmarshal != nil {
		return b.unmarshal(data, v)
	}
	return codec.StdJSON{}.Unmarshal(data, v)
}

func smallSpec() CodecSpec {
	type message struct {
		Text  string
		Count int
		Any   any
	}
	return CodecSpec{
		Values: map[string]any{
			"struct":  message{"hello", 5, "any"},
			"pointer": &message{"there", 6, nil},
			"list":    []string{"a", "b"},
			"map":     map[string]int{"a": 1, "b": 2},
			"complex": 1i,
			"integer": []any{1},
		},
		Cannot:         []string{"complex"},
		Becomes:        map[string]any{"integer": []any{1.0}},
		SelfDelimiting: true,
		Nested:         func(n int) []byte { return []byte(strings.Repeat("[", n) + strings.Repeat("]", n)) },
	}
}

// encodingFaults are codecs that break one promise each, by the checks that
// notice.
func encodingFaults() map[string]brokenCodec {
	var (
		std    codec.StdJSON
		mu     sync.Mutex
		shared []byte
	)
	return map[string]brokenCodec{
		"refuse what the format has no room for": {marshal: func(v any) ([]byte, error) {
			if _, ok := v.(complex128); ok {
				return []byte("null"), nil
			}
			return std.Marshal(v)
		}},
		"give the bytes away": {marshal: func(v any) ([]byte, error) {
			data, err := std.Marshal(v)
			mu.Lock()
			defer mu.Unlock()
			shared = append(shared[:0], data...)
			return shared, err
		}},
		"append": {append: func(dst []byte, v any) ([]byte, error) {
			out, err := std.MarshalAppend(dst, v)
			if err == nil {
				out[0] = '#'
			}
			return out, err
		}},
		"refuse what cannot be encoded": {append: func(dst []byte, v any) ([]byte, error) {
			out, err := std.MarshalAppend(dst, v)
			if err != nil {
				return nil, err
			}
			return out, nil
		}},
	}
}

func decodingFaults() map[string]brokenCodec {
	decoder := func(unmarshal func(data []byte, v any, std codec.StdJSON) error) brokenCodec {
		return brokenCodec{unmarshal: func(data []byte, v any) error { return unmarshal(data, v, codec.StdJSON{}) }}
	}
	return map[string]brokenCodec{
		"round trip": decoder(func(data []byte, v any, std codec.StdJSON) error {
			return std.Unmarshal(bytes.ReplaceAll(data, []byte("hello"), []byte("hallo")), v)
		}),
		"keep nothing of the payload": decoder(func(data []byte, v any, std codec.StdJSON) error {
			err := std.Unmarshal(data, v)
			if _, ok := v.(*[]string); ok && err == nil {
				copy(data, "#")
			}
			return err
		}),
		"refuse what cannot be decoded into": decoder(func(data []byte, v any, std codec.StdJSON) error {
			if v == nil {
				return nil
			}
			return std.Unmarshal(data, v)
		}),
		"ends of payloads": decoder(func(data []byte, v any, _ codec.StdJSON) error {
			return json.NewDecoder(bytes.NewReader(data)).Decode(v)
		}),
		"damaged payloads": decoder(func(data []byte, v any, std codec.StdJSON) error {
			err := std.Unmarshal(data, v)
			if errors.As(err, new(*json.SyntaxError)) {
				panic(err)
			}
			return err
		}),
		"deep nesting": decoder(func(data []byte, v any, std codec.StdJSON) error {
			if bytes.HasPrefix(data, []byte("[[")) {
				return nil
			}
			return std.Unmarshal(data, v)
		}),
	}
}

// failureOf runs one check.
func failureOf(t *testing.T, c codec.Codec, spec CodecSpec, name string) error {
	t.Helper()
	k, err := newCodecKit(c, spec)
	require.NoError(t, err)
	for _, check := range k.checks() {
		if check.name == name {
			require.Empty(t, check.skip)
			return check.run()
		}
	}
	t.Fatalf("there is no check %q", name)
	return nil
}

func TestCodecFindsFaults(t *testing.T) {
	Codec(t, brokenCodec{}, smallSpec()) // which has none
	for name, c := range merged(encodingFaults(), decodingFaults()) {
		require.Error(t, failureOf(t, c, smallSpec(), name), name)
	}
}

func TestCodecFindsAliasesOfThePayload(t *testing.T) {
	c := brokenCodec{unmarshal: func(data []byte, v any) error {
		if raw, ok := v.(*json.RawMessage); ok && json.Valid(data) {
			*raw = data
			return nil
		}
		return codec.StdJSON{}.Unmarshal(data, v)
	}}
	spec := CodecSpec{Values: map[string]any{"raw": json.RawMessage(`{"a":1}`)}}
	require.ErrorContains(t, failureOf(t, c, spec, "keep nothing of the payload"), "after the payload was overwritten")
}

func TestCodecFindsConcurrentFaults(t *testing.T) {
	var calls counter
	c := brokenCodec{unmarshal: func(data []byte, v any) error {
		defer calls.leave()
		if calls.enter() > 1 {
			return errors.New("in use")
		}
		return codec.StdJSON{}.Unmarshal(data, v)
	}}
	k, err := newCodecKit(c, smallSpec())
	require.NoError(t, err)
	calls.enter() // somebody else is always in
	require.ErrorContains(t, k.checkConcurrent(), "in use")
}

// counter counts who is in.
type counter struct {
	mu sync.Mutex
	n  int // guarded by mu
}

func (c *counter) enter() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.n++
	return c.n
}

func (c *counter) leave() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.n--
}

func TestCodecFindsWhatIsAllocatedForALength(t *testing.T) {
	c := brokenCodec{unmarshal: func(data []byte, v any) error {
		if bytes.Contains(data, []byte{0xff, 0xff}) {
			return fmt.Errorf("no use for %d bytes", len(make([]byte, 64<<20)))
		}
		return codec.StdJSON{}.Unmarshal(data, v)
	}}
	require.ErrorContains(t, failureOf(t, c, smallSpec(), "damaged payloads"), "more than")
}

func TestCodecSaysWhatItDoesNotTest(t *testing.T) {
	spec := smallSpec()
	spec.SelfDelimiting, spec.Nested = false, nil
	k, err := newCodecKit(struct{ codec.Codec }{codec.StdJSON{}}, spec)
	require.NoError(t, err)
	skipped := make(map[string]string)
	for _, check := range k.checks() {
		if check.skip != "" {
			skipped[check.name] = check.skip
		}
	}
	require.Equal(t, map[string]string{
		"append":           "the codec is no codec.Appender",
		"ends of payloads": "the format is not declared as SelfDelimiting",
		"deep nesting":     "the format is declared without Nested",
	}, skipped)
}

func TestCodecKnowsTheNamesOfItsValues(t *testing.T) {
	_, err := newCodecKit(codec.JSON{}, CodecSpec{Cannot: []string{"nan"}})
	require.ErrorContains(t, err, `names "nan" in Cannot or Becomes, which is none of the values`)
}
