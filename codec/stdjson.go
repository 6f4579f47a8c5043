package codec

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
)

// StdJSON is encoding/json as it is. It is slower than [JSON] and has no second
// path, which makes it the one to compare with when a payload looks wrong.
// A panic in a method of the value, such as its MarshalJSON, comes back as an
// error.
type StdJSON struct{}

// Name returns "json".
func (StdJSON) Name() string { return "json" }

// Marshal returns v as json.Marshal writes it: with map keys sorted and with
// <, > and & escaped.
func (StdJSON) Marshal(v any) (data []byte, err error) {
	defer panicToError("encode", &err)
	if data, err = json.Marshal(v); err != nil {
		return nil, fmt.Errorf("encode JSON: %w", err)
	}
	return data, nil
}

// MarshalAppend appends what Marshal returns to dst. See [Appender].
func (StdJSON) MarshalAppend(dst []byte, v any) ([]byte, error) {
	return appendJSON(dst, v, escapedHTML)
}

// Unmarshal fills v as json.Unmarshal does. The error wraps that of
// encoding/json, such as *json.SyntaxError or *json.UnmarshalTypeError.
func (StdJSON) Unmarshal(data []byte, v any) (err error) {
	defer panicToError("decode", &err)
	if len(data) == 0 {
		return errNoData
	}
	if err := json.Unmarshal(data, v); err != nil {
		return fmt.Errorf("decode JSON: %w", err)
	}
	return nil
}

var errNoData = errors.New("decode JSON: the payload is empty")

// Whether <, > and & are escaped, as those need who put JSON into HTML.
const (
	plainHTML   = false
	escapedHTML = true
)

// appendJSON appends what encoding/json makes of v to dst.
func appendJSON(dst []byte, v any, escapeHTML bool) (data []byte, err error) {
	data = dst
	defer panicToError("encode", &err)
	buf := bytes.NewBuffer(dst)
	enc := json.NewEncoder(buf)
	enc.SetEscapeHTML(escapeHTML)
	if err := enc.Encode(v); err != nil {
		return dst, fmt.Errorf("encode JSON: %w", err)
	}
	return bytes.TrimSuffix(buf.Bytes(), []byte("\n")), nil
}

// panicToError, deferred, turns a panic into *err: one value whose methods are
// wrong must not end a process that serves others.
func panicToError(operation string, err *error) {
	if r := recover(); r != nil {
		*err = fmt.Errorf("%s JSON: panic: %v", operation, r)
	}
}
