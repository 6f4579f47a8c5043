package wire_test

import (
	"math"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/arpc-go/arpc/internal/wire"
)

// record is a hello with the given fields.
func record(fields ...string) []byte { return []byte("ARPC\x02" + strings.Join(fields, "")) }

func fullHello() wire.Hello {
	return wire.Hello{
		Features: wire.FeatureMetadata | wire.FeatureCancel | wire.FeatureWindows | wire.FeatureGoAway,
		MaxBody:  wire.DefaultMaxBodyLen, MaxInflight: 10_000, MaxStreams: 1000,
		Window: 256 << 10, MaxMetadata: wire.DefaultMaxMeta,
		Codec: "json", Compat: "shop/3", Credentials: []byte("\x00secret\xff"), Session: []byte("session"),
		Name: "till 7", Software: "arpc-go 1.0", Code: math.MaxUint32, Message: "no", Coders: "zstd,s2",
	}
}

func TestHelloBytes(t *testing.T) {
	tests := map[string]struct {
		hello   wire.Hello
		lineEnd bool
		want    string
	}{
		"empty":            {wire.Hello{}, false, "ARPC\x02"},
		"line end alone":   {wire.Hello{}, true, "ARPC\x02\x0f\x04\r\n\r\n"},
		"feature bits":     {wire.Hello{Features: wire.FeatureCancel | wire.FeatureGoAway}, false, "ARPC\x02\x01\x01\x0a"},
		"largest number":   {wire.Hello{MaxBody: math.MaxUint64}, false, "ARPC\x02\x02\x0a" + strings.Repeat("\xff", 9) + "\x01"},
		"tag 14 before 15": {wire.Hello{MaxMetadata: 128}, true, "ARPC\x02\x0e\x02\x80\x01\x0f\x04\r\n\r\n"},
		"long text":        {wire.Hello{Name: strings.Repeat("n", 200)}, false, "ARPC\x02\x0a\xc8\x01" + strings.Repeat("n", 200)},
		"tag 16 before 15": {wire.Hello{Coders: "s2"}, true, "ARPC\x02\x10\x02s2\x0f\x04\r\n\r\n"},
		"refusal":          {wire.Hello{Code: 16, Message: "who?"}, false, "ARPC\x02\x0c\x01\x10\x0d\x04who?"},
		"tags ascend": {
			wire.Hello{
				Features: 1, MaxBody: 2, MaxInflight: 3, MaxStreams: 4, Window: 5, Codec: "6", Compat: "7",
				Credentials: []byte("8"), Session: []byte("9"), Name: "10", Software: "11", Code: 12, Message: "13", MaxMetadata: 14,
			}, false,
			"ARPC\x02\x01\x01\x01\x02\x01\x02\x03\x01\x03\x04\x01\x04\x05\x01\x05\x06\x016\x07\x017\x08\x018\x09\x019" +
				"\x0a\x0210\x0b\x0211\x0c\x01\x0c\x0d\x0213\x0e\x01\x0e",
		},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			require.Equal(t, "before"+tt.want, string(tt.hello.Append([]byte("before"), tt.lineEnd)))
			got, err := wire.ParseHello([]byte(tt.want))
			require.NoError(t, err)
			require.Equal(t, tt.hello, got)
		})
	}
}

func TestIsHello(t *testing.T) {
	tests := map[string]bool{
		"ARPC\x02":             true,
		"ARPC\x02\x01\x01\x01": true,
		"ARPC\x03":             true,
		"ARPC\xff":             true,
		"":                     false,
		"ARPC":                 false,
		"ARPC\x00":             false,
		"ARPC\x01\x01\x01\x01": false,
		"arpc\x02":             false,
		" ARPC\x02":            false,
		"hello, are you there": false,
	}
	for body, want := range tests {
		require.Equal(t, want, wire.IsHello([]byte(body)), "%q", body)
	}
}

func TestParseHelloTolerates(t *testing.T) {
	tests := map[string]struct {
		body []byte
		want wire.Hello
	}{
		"higher version":         {[]byte("ARPC\x09\x01\x01\x03"), wire.Hello{Features: 3}},
		"unknown tags":           {record("\x00\x01x", "\x50\x02xx", "\x01\x01\x01", "\xc8\x01\x00"), wire.Hello{Features: 1}},
		"largest tag":            {record(strings.Repeat("\xff", 9) + "\x01\x00"), wire.Hello{}},
		"unknown feature bits":   {record("\x01\x02\x81\x20"), wire.Hello{Features: 1 | 1<<12}},
		"the last counts":        {record("\x06\x04json", "\x02\x01\x01", "\x06\x07msgpack", "\x02\x01\x02"), wire.Hello{Codec: "msgpack", MaxBody: 2}},
		"the last, empty":        {record("\x08\x01x", "\x08\x00", "\x0a\x01x", "\x0a\x00"), wire.Hello{}},
		"any order":              {record("\x0f\x00", "\x0e\x01\x40", "\x01\x01\x01"), wire.Hello{Features: 1, MaxMetadata: 64}},
		"numbers not minimal":    {record("\x81\x00\x82\x00\x85\x00"), wire.Hello{Features: 5}},
		"longest session":        {record("\x09\x40" + strings.Repeat("s", 64)), wire.Hello{Session: []byte(strings.Repeat("s", 64))}},
		"text that is not UTF-8": {record("\x0a\x02\xff\xfe"), wire.Hello{Name: "\xff\xfe"}},
		"largest code":           {record("\x0c\x05\xff\xff\xff\xff\x0f"), wire.Hello{Code: math.MaxUint32}},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			got, err := wire.ParseHello(tt.body)
			require.NoError(t, err)
			require.Equal(t, tt.want, got)
		})
	}
}

func TestParseHelloRefuses(t *testing.T) {
	tests := map[string]struct {
		body []byte
		says string
	}{
		"empty":                  {nil, "does not begin"},
		"version 1":              {[]byte("ARPC\x01"), "does not begin"},
		"tag cut short":          {record("\x80"), "cut short"},
		"no length":              {record("\x01"), "cut short"},
		"length cut short":       {record("\x0a\x80"), "cut short"},
		"tag of 65 bits":         {record(strings.Repeat("\xff", 9) + "\x02\x00"), "longer than 64 bits"},
		"tag that never ends":    {record(strings.Repeat("\x80", 11)), "longer than 64 bits"},
		"length of 65 bits":      {record("\x0a" + strings.Repeat("\xff", 9) + "\x02"), "longer than 64 bits"},
		"value one short":        {record("\x0a\x03ab"), "field 10: a length runs beyond the end"},
		"unknown value short":    {record("\x20\x03ab"), "field 32: a length runs beyond the end"},
		"largest length":         {record("\x0a" + strings.Repeat("\xff", 9) + "\x01"), "beyond the end"},
		"length of 2^31":         {record("\x0a\x80\x80\x80\x80\x08"), "beyond the end"},
		"length of 2^63":         {record("\x0a" + strings.Repeat("\x80", 9) + "\x01"), "beyond the end"},
		"number without bytes":   {record("\x01\x00"), "field 1: the value is not one number"},
		"number cut short":       {record("\x02\x01\x80"), "not one number"},
		"number and more":        {record("\x03\x02\x01\x00"), "not one number"},
		"number of 65 bits":      {record("\x04\x0a" + strings.Repeat("\xff", 9) + "\x02"), "not one number"},
		"code of 33 bits":        {record("\x0c\x05\x80\x80\x80\x80\x10"), "field 12: the number is too large"},
		"session one too long":   {record("\x09\x41" + strings.Repeat("s", 65)), "longer than 64 bytes"},
		"bad field behind good":  {record("\x01\x01\x01", "\x02\x00"), "field 2"},
		"one byte behind fields": {record("\x0f\x04\r\n\r\n", "\x00"), "cut short"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			got, err := wire.ParseHello(tt.body)
			require.ErrorIs(t, err, wire.ErrHello)
			require.ErrorContains(t, err, tt.says)
			require.Zero(t, got)
		})
	}
}

func TestParseHelloLimitsTheRecord(t *testing.T) {
	room := wire.HelloMax - len("ARPC\x02\x08\xf7\xff\x03")
	h := wire.Hello{Credentials: make([]byte, room)}
	body := h.Append(nil, false)
	require.Len(t, body, wire.HelloMax)
	got, err := wire.ParseHello(body)
	require.NoError(t, err)
	require.Equal(t, h, got)

	_, err = wire.ParseHello(append(body, 0x20, 0))
	require.ErrorIs(t, err, wire.ErrHello)
	require.ErrorContains(t, err, "65538 bytes, at most 65536")
}

// A hello is kept for as long as its connection, the read buffer is not.
func TestParseHelloKeepsNothingOfTheBody(t *testing.T) {
	full := fullHello()
	body := full.Append(nil, true)
	got, err := wire.ParseHello(body)
	require.NoError(t, err)
	for i := range body {
		body[i] = 'x'
	}
	require.Equal(t, full, got)
}
