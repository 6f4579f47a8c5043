package wire_test

import (
	"math"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/arpc-go/arpc/internal/wire"
)

// call is the request of the worked examples: method "/echo", payload "hello".
var call = []byte("\x0a\x00\x00\x00\x00\x01\x00\x05\x02\x00\x00\x00\x00\x00\x00\x00/echohello")

func TestHeaderCheck(t *testing.T) {
	tests := map[string]struct {
		header wire.Header
		want   error
	}{
		"request":                       {wire.Header{Cmd: wire.CmdRequest, MethodLen: 5, BodyLen: 10}, nil},
		"shortest method":               {wire.Header{Cmd: wire.CmdNotify, MethodLen: 1, BodyLen: 1}, nil},
		"longest method":                {wire.Header{Cmd: wire.CmdResponse, MethodLen: 127, BodyLen: 127}, nil},
		"method fills the body":         {wire.Header{Cmd: wire.CmdStream, MethodLen: 7, BodyLen: 7}, nil},
		"longest body":                  {wire.Header{Cmd: wire.CmdRequest, MethodLen: 1, BodyLen: math.MaxUint32}, nil},
		"ping":                          {wire.Header{Cmd: wire.CmdPing}, nil},
		"pong":                          {wire.Header{Cmd: wire.CmdPong}, nil},
		"ping with a body":              {wire.Header{Cmd: wire.CmdPing, BodyLen: 40}, nil},
		"ping with a method":            {wire.Header{Cmd: wire.CmdPing, MethodLen: 3, BodyLen: 3}, nil},
		"ping with stream bits":         {wire.Header{Cmd: wire.CmdPing | wire.StreamEnd | wire.StreamOpener}, nil},
		"request without method":        {wire.Header{Cmd: wire.CmdRequest, BodyLen: 5}, wire.ErrMethodEmpty},
		"response without method":       {wire.Header{Cmd: wire.CmdResponse}, wire.ErrMethodEmpty},
		"notify without method":         {wire.Header{Cmd: wire.CmdNotify}, wire.ErrMethodEmpty},
		"stream end without method":     {wire.Header{Cmd: wire.CmdStream | wire.StreamEnd}, wire.ErrMethodEmpty},
		"no command":                    {wire.Header{}, wire.ErrMethodEmpty},
		"method one too long":           {wire.Header{Cmd: wire.CmdRequest, MethodLen: 128, BodyLen: 200}, wire.ErrMethodTooLong},
		"method much too long":          {wire.Header{Cmd: wire.CmdPing, MethodLen: 255, BodyLen: 300}, wire.ErrMethodTooLong},
		"too long and overrunning":      {wire.Header{Cmd: wire.CmdRequest, MethodLen: 128}, wire.ErrMethodTooLong},
		"method one beyond the body":    {wire.Header{Cmd: wire.CmdRequest, MethodLen: 6, BodyLen: 5}, wire.ErrMethodOverruns},
		"method beyond an empty body":   {wire.Header{Cmd: wire.CmdResponse, MethodLen: 1}, wire.ErrMethodOverruns},
		"ping's method beyond the body": {wire.Header{Cmd: wire.CmdPing, MethodLen: 1}, wire.ErrMethodOverruns},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			require.ErrorIs(t, tt.header.Check(), tt.want)
		})
	}
}

func TestHeaderCommand(t *testing.T) {
	tests := map[string]struct{ cmd, want byte }{
		"request":                 {0x01, wire.CmdRequest},
		"stream":                  {0x06, wire.CmdStream},
		"stream from its opener":  {0x86, wire.CmdStream},
		"end of stream":           {0x46, wire.CmdStream},
		"opener's end":            {0xc6, wire.CmdStream},
		"stream bits on the call": {0xc1, wire.CmdRequest},
		"highest command":         {0xff, 0x3f},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			require.Equal(t, tt.want, wire.Header{Cmd: tt.cmd}.Command())
		})
	}
}

func TestHeaderBytes(t *testing.T) {
	tests := map[string]struct {
		header wire.Header
		bytes  string
	}{
		"zero": {
			wire.Header{},
			strings.Repeat("\x00", 16),
		},
		"every byte its own": {
			wire.Header{BodyLen: 0x04030201, Reserved: 5, Cmd: 6, Flag: 7, MethodLen: 8, Seq: 0x100f0e0d0c0b0a09},
			"\x01\x02\x03\x04\x05\x06\x07\x08\x09\x0a\x0b\x0c\x0d\x0e\x0f\x10",
		},
		"all ones": {
			wire.Header{
				BodyLen: math.MaxUint32, Reserved: 0xff, Cmd: 0xff, Flag: 0xff, MethodLen: 0xff, Seq: math.MaxUint64,
			},
			strings.Repeat("\xff", 16),
		},
		"longest default body": {
			wire.Header{BodyLen: wire.DefaultMaxBodyLen, Cmd: wire.CmdRequest, MethodLen: 1, Seq: 1},
			"\xf0\xff\xff\x03\x00\x01\x00\x01\x01\x00\x00\x00\x00\x00\x00\x00",
		},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			require.Equal(t, tt.bytes, string(wire.AppendHeader(nil, tt.header)))
			require.Equal(t, "before"+tt.bytes, string(wire.AppendHeader([]byte("before"), tt.header)))

			buf := []byte("................after")
			wire.PutHeader(buf, tt.header)
			require.Equal(t, tt.bytes+"after", string(buf))
			require.Equal(t, tt.header, wire.ParseHeader(buf))
		})
	}
}

func TestHeaderShort(t *testing.T) {
	short := make([]byte, wire.HeaderLen-1)
	require.Panics(t, func() { wire.ParseHeader(short) })
	require.Panics(t, func() { wire.PutHeader(short, wire.Header{BodyLen: 1}) })
	require.Equal(t, make([]byte, wire.HeaderLen-1), short, "written before the length was checked")
}

func TestAppendFrame(t *testing.T) {
	type text string
	header := wire.Header{Cmd: wire.CmdRequest, Seq: 2}
	tests := map[string]struct {
		got  []byte
		want string
	}{
		"bytes":           {wire.AppendFrame(nil, header, "/echo", []byte("hello")), string(call)},
		"string":          {wire.AppendFrame(nil, header, "/echo", "hello"), string(call)},
		"named string":    {wire.AppendFrame(nil, header, "/echo", text("hello")), string(call)},
		"after a frame":   {wire.AppendFrame(call[:len(call):len(call)], header, "/echo", "hello"), string(call) + string(call)},
		"lengths are set": {wire.AppendFrame(nil, wire.Header{Cmd: 1, Seq: 2, BodyLen: 99, MethodLen: 99}, "/echo", "hello"), string(call)},
		"nil payload": {
			wire.AppendFrame(nil, header, "/nil", []byte(nil)),
			"\x04\x00\x00\x00\x00\x01\x00\x04\x02\x00\x00\x00\x00\x00\x00\x00/nil",
		},
		"ping": {
			wire.AppendFrame(nil, wire.Header{Cmd: wire.CmdPing}, "", ""),
			"\x00\x00\x00\x00\x00\x04\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00",
		},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			require.Equal(t, tt.want, string(tt.got))
		})
	}
}

func TestSplit(t *testing.T) {
	tests := map[string]struct{ method, payload string }{
		"both":           {"/echo", "hello"},
		"method alone":   {"/nil", ""},
		"longest method": {strings.Repeat("m", wire.MaxMethodLen), "x"},
		"neither":        {"", ""},
		"not UTF-8":      {"\xff\xfe", "\x00\x80"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			frame := wire.AppendFrame(nil, wire.Header{Cmd: wire.CmdPing}, tt.method, tt.payload)
			method, payload := wire.Split(frame, wire.ParseHeader(frame))
			require.Equal(t, tt.method, string(method))
			require.Equal(t, tt.payload, string(payload))
		})
	}
}

// A read buffer holds the next frame right behind this one.
func TestSplitViewsDoNotGrowIntoTheNextFrame(t *testing.T) {
	buf := append(append([]byte(nil), call...), call...)
	method, payload := wire.Split(buf[:len(call)], wire.ParseHeader(buf))
	require.Len(t, method, cap(method))
	require.Len(t, payload, cap(payload))

	_ = append(method, "overwritten"...)
	_ = append(payload, "overwritten"...)
	require.Equal(t, string(call)+string(call), string(buf))
}

func BenchmarkParseHeader(b *testing.B) {
	b.ReportAllocs()
	for b.Loop() {
		h := wire.ParseHeader(call)
		if h.Check() != nil {
			b.Fatal("the example is unsound")
		}
	}
}

func BenchmarkAppendFrame(b *testing.B) {
	payload := make([]byte, 128)
	buf := make([]byte, 0, 256)
	b.ReportAllocs()
	for b.Loop() {
		buf = wire.AppendFrame(buf[:0], wire.Header{Cmd: wire.CmdRequest, Seq: 2}, "/echo", payload)
	}
	b.SetBytes(int64(len(buf)))
}
