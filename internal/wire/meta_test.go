package wire_test

import (
	"iter"
	"math"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/arpc-go/arpc/internal/wire"
)

const traceParent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"

// fullSection holds each field, and two of those that may be repeated.
func fullSection() []byte {
	s := wire.AppendTimeout(nil, 1_500_000)
	s = wire.AppendCode(s, 5)
	s = wire.AppendDetail(s, "first", []byte("\x00\xff"))
	s = wire.AppendDetail(s, "second", nil)
	s = wire.AppendPair(s, "user", "ann")
	s = wire.AppendPair(s, "empty", "")
	s = wire.AppendTraceParent(s, traceParent)
	s = wire.AppendTraceState(s, "vendor=1")
	return wire.AppendComeBack(s, 2_000_000)
}

type named struct{ name, data string }

func collect(all iter.Seq2[[]byte, []byte]) (list []named) {
	for name, data := range all {
		list = append(list, named{string(name), string(data)})
	}
	return list
}

func TestMetaBytes(t *testing.T) {
	tests := map[string]struct {
		got  []byte
		want string
	}{
		"timeout":          {wire.AppendTimeout(nil, 300), "\x01\x02\xac\x02"},
		"passed already":   {wire.AppendTimeout(nil, 0), "\x01\x01\x00"},
		"longest timeout":  {wire.AppendTimeout(nil, math.MaxUint64), "\x01\x0a" + strings.Repeat("\xff", 9) + "\x01"},
		"code":             {wire.AppendCode(nil, 127), "\x02\x01\x7f"},
		"code of two":      {wire.AppendCode(nil, 128), "\x02\x02\x80\x01"},
		"no code":          {wire.AppendCode(nil, 0), "\x02\x01\x00"},
		"detail":           {wire.AppendDetail(nil, "name", []byte("data")), "\x03\x09\x04namedata"},
		"empty detail":     {wire.AppendDetail(nil, "", nil), "\x03\x01\x00"},
		"pair":             {wire.AppendPair(nil, "k", "v"), "\x04\x03\x01kv"},
		"longest key":      {wire.AppendPair(nil, strings.Repeat("k", 256), ""), "\x04\x82\x02\x80\x02" + strings.Repeat("k", 256)},
		"trace parent":     {wire.AppendTraceParent(nil, "00-1-2-01"), "\x05\x0900-1-2-01"},
		"trace state":      {wire.AppendTraceState(nil, "a=b"), "\x06\x03a=b"},
		"come back":        {wire.AppendComeBack(nil, 1), "\x07\x01\x01"},
		"one after others": {wire.AppendCode([]byte("before"), 1), "before\x02\x01\x01"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			require.Equal(t, tt.want, string(tt.got))
		})
	}
}

func TestParseMetaReadsEveryField(t *testing.T) {
	m, err := wire.ParseMeta(fullSection())
	require.NoError(t, err)
	require.True(t, m.HasTimeout)
	require.EqualValues(t, 1_500_000, m.Timeout)
	require.True(t, m.HasCode)
	require.EqualValues(t, 5, m.Code)
	require.True(t, m.HasComeBack)
	require.EqualValues(t, 2_000_000, m.ComeBack)
	require.Equal(t, traceParent, string(m.TraceParent))
	require.Equal(t, "vendor=1", string(m.TraceState))
	require.Equal(t, 2, m.NPairs)
	require.Equal(t, []named{{"user", "ann"}, {"empty", ""}}, collect(m.Pairs()))
	require.Equal(t, 2, m.NDetails)
	require.Equal(t, []named{{"first", "\x00\xff"}, {"second", ""}}, collect(m.Details()))
}

func TestParseMetaOfNothing(t *testing.T) {
	for _, section := range [][]byte{nil, {}} {
		m, err := wire.ParseMeta(section)
		require.NoError(t, err)
		require.False(t, m.HasTimeout || m.HasCode || m.HasComeBack)
		require.Nil(t, m.TraceParent)
		require.Nil(t, m.TraceState)
		require.Zero(t, m.NPairs+m.NDetails)
		require.Empty(t, collect(m.Pairs()))
		require.Empty(t, collect(m.Details()))
	}
}

func TestParseMetaTolerates(t *testing.T) {
	tests := map[string]struct {
		section string
		check   func(*testing.T, wire.Meta)
	}{
		"unknown tags": {"\x00\x01x\x01\x01\x05\x08\x02xx\xc8\x01\x00", func(t *testing.T, m wire.Meta) {
			require.EqualValues(t, 5, m.Timeout)
		}},
		"the last number counts": {"\x01\x01\x05\x02\x01\x07\x01\x01\x06\x02\x01\x08", func(t *testing.T, m wire.Meta) {
			require.EqualValues(t, 6, m.Timeout)
			require.EqualValues(t, 8, m.Code)
		}},
		"the last trace counts": {"\x05\x01a\x05\x00", func(t *testing.T, m wire.Meta) {
			require.Empty(t, m.TraceParent)
		}},
		"a key twice": {"\x04\x03\x01kv\x04\x03\x01kw", func(t *testing.T, m wire.Meta) {
			require.Equal(t, []named{{"k", "v"}, {"k", "w"}}, collect(m.Pairs()))
		}},
		"numbers not minimal": {"\x81\x00\x83\x00\x85\x80\x00", func(t *testing.T, m wire.Meta) {
			require.EqualValues(t, 5, m.Timeout)
		}},
		"every key character": {"\x04\x28\x27abcdefghijklmnopqrstuvwxyz0123456789-_.", func(t *testing.T, m wire.Meta) {
			require.Equal(t, []named{{"abcdefghijklmnopqrstuvwxyz0123456789-_.", ""}}, collect(m.Pairs()))
		}},
		"largest code": {"\x02\x05\xff\xff\xff\xff\x0f", func(t *testing.T, m wire.Meta) {
			require.EqualValues(t, uint32(math.MaxUint32), m.Code)
		}},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			m, err := wire.ParseMeta([]byte(tt.section))
			require.NoError(t, err)
			tt.check(t, m)
		})
	}
}

func TestParseMetaRefuses(t *testing.T) {
	tests := map[string]struct{ section, says string }{
		"tag cut short":         {"\x80", "cut short"},
		"no length":             {"\x01", "cut short"},
		"length cut short":      {"\x05\x80", "cut short"},
		"tag of 65 bits":        {strings.Repeat("\xff", 9) + "\x02\x00", "longer than 64 bits"},
		"length of 65 bits":     {"\x05" + strings.Repeat("\xff", 9) + "\x02", "longer than 64 bits"},
		"largest length":        {"\x05" + strings.Repeat("\xff", 9) + "\x01", "field 5: a length runs beyond the end"},
		"length of 2^31":        {"\x05\x80\x80\x80\x80\x08", "beyond the end"},
		"value one short":       {"\x05\x03ab", "beyond the end"},
		"unknown value short":   {"\x09\x03ab", "beyond the end"},
		"bad field behind good": {"\x01\x01\x05\x02", "cut short"},
		"timeout empty":         {"\x01\x00", "field 1: the value is not one number"},
		"timeout cut short":     {"\x01\x01\x80", "not one number"},
		"timeout and more":      {"\x01\x02\x05\x00", "not one number"},
		"timeout of 65 bits":    {"\x01\x0a" + strings.Repeat("\xff", 9) + "\x02", "not one number"},
		"code empty":            {"\x02\x00", "field 2: the value is not one number"},
		"code of 33 bits":       {"\x02\x05\x80\x80\x80\x80\x10", "field 2: the number is too large"},
		"come back empty":       {"\x07\x00", "field 7"},
		"a bad one, then good":  {"\x01\x00\x01\x01\x05", "field 1"},
		"detail empty":          {"\x03\x00", "field 3: a number is cut short"},
		"detail's name short":   {"\x03\x02\x02n", "field 3: a length runs beyond the end"},
		"pair empty":            {"\x04\x00", "field 4: a number is cut short"},
		"pair's key short":      {"\x04\x02\x02k", "field 4: a length runs beyond the end"},
		"key of 2^63":           {"\x04\x0b" + strings.Repeat("\x80", 9) + "\x01k", "beyond the end"},
		"key empty":             {"\x04\x02\x00v", "the key is empty"},
		"key too long":          {"\x04\x83\x02\x81\x02" + strings.Repeat("k", 257), "longer than 256 bytes"},
		"key in upper case":     {"\x04\x04\x03KeY", `the key "KeY" holds 'K'`},
		"key with a space":      {"\x04\x04\x03k k", "' '"},
		"key not ASCII":         {"\x04\x03\x02\xc3\xa9", `'Ã'`},
		"second pair bad":       {"\x04\x03\x01kv\x04\x02\x00v", "the key is empty"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			_, err := wire.ParseMeta([]byte(tt.section))
			require.ErrorIs(t, err, wire.ErrMeta)
			require.ErrorContains(t, err, tt.says)
		})
	}
}

func TestParseMetaLimitsPairs(t *testing.T) {
	var section []byte
	for range wire.MaxPairs {
		section = wire.AppendPair(section, "k", "v")
	}
	m, err := wire.ParseMeta(section)
	require.NoError(t, err)
	require.Equal(t, wire.MaxPairs, m.NPairs)
	require.Len(t, collect(m.Pairs()), wire.MaxPairs)

	_, err = wire.ParseMeta(wire.AppendPair(section, "k", "v"))
	require.ErrorIs(t, err, wire.ErrMeta)
	require.ErrorContains(t, err, "more than 128")
}

func TestPairsCanBeLeft(t *testing.T) {
	m, err := wire.ParseMeta(fullSection())
	require.NoError(t, err)
	for key := range m.Pairs() {
		require.Equal(t, "user", string(key))
		break
	}
}

func TestCheckKey(t *testing.T) {
	for _, key := range []string{"a", "z", "0", "9", "-", "_", ".", "trace-id", strings.Repeat("k", 256)} {
		require.NoError(t, wire.CheckKey(key), key)
	}
	for _, key := range []string{"", "A", "Z", "k ", "k:v", "k/v", "`", "{", ",", "é", "k\x00", strings.Repeat("k", 257)} {
		require.Error(t, wire.CheckKey(key), key)
	}
}

func TestAppendFrameMeta(t *testing.T) {
	tests := map[string]struct {
		header          wire.Header
		method, section string
		payload, want   string
	}{
		"request with a timeout": {
			wire.Header{Cmd: wire.CmdRequest, Seq: 2}, "/echo", "\x01\x01\x05", "hello",
			"\x0e\x00\x00\x00\x00\x01\x04\x05\x02\x00\x00\x00\x00\x00\x00\x00/echo\x03\x01\x01\x05hello",
		},
		"other flags stay": {
			wire.Header{Cmd: wire.CmdResponse, Flag: wire.FlagError | wire.FlagAsync, Seq: 2}, "/err", "\x02\x01\x05", "boom",
			"\x0c\x00\x00\x00\x00\x02\x07\x04\x02\x00\x00\x00\x00\x00\x00\x00/err\x03\x02\x01\x05boom",
		},
		"without method": {
			wire.Header{Cmd: wire.CmdGoAway, BodyLen: 99, MethodLen: 99}, "", "\x07\x01\x01", "bye",
			"\x07\x00\x00\x00\x00\x09\x04\x00\x00\x00\x00\x00\x00\x00\x00\x00\x03\x07\x01\x01bye",
		},
		"empty section": {
			wire.Header{Cmd: wire.CmdCancel, Seq: 1}, "", "", "",
			"\x01\x00\x00\x00\x00\x07\x04\x00\x01\x00\x00\x00\x00\x00\x00\x00\x00",
		},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			got := wire.AppendFrameMeta([]byte("before"), tt.header, tt.method, []byte(tt.section), tt.payload)
			require.Equal(t, "before"+tt.want, string(got))
			require.Equal(t, got, wire.AppendFrameMeta([]byte("before"), tt.header, tt.method, []byte(tt.section), []byte(tt.payload)))

			frame := []byte(tt.want)
			method, section, payload, err := wire.SplitMeta(frame, wire.ParseHeader(frame))
			require.NoError(t, err)
			require.Equal(t, tt.method, string(method))
			require.NotNil(t, section)
			require.Equal(t, tt.section, string(section))
			require.Equal(t, tt.payload, string(payload))
		})
	}
}

func TestMetaLenCountsItsLength(t *testing.T) {
	for n, want := range map[int]int{0: 1, 1: 2, 127: 128, 128: 130, 16383: 16385, 16384: 16387} {
		section := make([]byte, n)
		require.Equal(t, want, wire.MetaLen(section))
		frame := wire.AppendFrameMeta(nil, wire.Header{Cmd: wire.CmdPing}, "", section, "")
		require.Len(t, frame, wire.HeaderLen+want)
	}
}

func TestSplitMetaWithoutSection(t *testing.T) {
	method, section, payload, err := wire.SplitMeta(call, wire.ParseHeader(call))
	require.NoError(t, err)
	require.Equal(t, "/echo", string(method))
	require.Nil(t, section)
	require.Equal(t, "hello", string(payload))
}

func TestSplitMetaRefuses(t *testing.T) {
	tests := map[string]string{
		"no length":         "",
		"length cut short":  "\x80",
		"length of 65 bits": strings.Repeat("\xff", 9) + "\x02",
		"one byte short":    "\x03ab",
		"largest length":    strings.Repeat("\xff", 9) + "\x01ab",
		"length of 2^31":    "\x80\x80\x80\x80\x08ab",
	}
	for name, rest := range tests {
		t.Run(name, func(t *testing.T) {
			frame := wire.AppendFrame(nil, wire.Header{Cmd: wire.CmdRequest, Flag: wire.FlagMeta}, "/echo", rest)
			method, section, payload, err := wire.SplitMeta(frame, wire.ParseHeader(frame))
			require.ErrorIs(t, err, wire.ErrMeta)
			require.Equal(t, "/echo", string(method))
			require.Nil(t, section)
			require.Nil(t, payload)
		})
	}
}

// A read buffer holds the next frame right behind this one.
func TestMetaViewsDoNotGrowIntoTheNextFrame(t *testing.T) {
	frame := wire.AppendFrameMeta(nil, wire.Header{Cmd: wire.CmdRequest}, "/echo", fullSection(), "hello")
	buf := append(append([]byte(nil), frame...), frame...)
	method, section, payload, err := wire.SplitMeta(buf[:len(frame)], wire.ParseHeader(buf))
	require.NoError(t, err)
	m, err := wire.ParseMeta(section)
	require.NoError(t, err)

	views := [][]byte{method, section, payload, m.TraceParent, m.TraceState}
	for key, value := range m.Pairs() {
		views = append(views, key, value)
	}
	for name, data := range m.Details() {
		views = append(views, name, data)
	}
	for _, view := range views {
		require.Len(t, view, cap(view))
		_ = append(view, "overwritten"...)
	}
	require.Equal(t, string(frame)+string(frame), string(buf))
}

func TestUvarintBody(t *testing.T) {
	tests := map[uint64]string{
		0: "\x00", 1: "\x01", 127: "\x7f", 128: "\x80\x01", 256 << 10: "\x80\x80\x10",
		math.MaxUint64: strings.Repeat("\xff", 9) + "\x01",
	}
	for v, body := range tests {
		require.Equal(t, "before"+body, string(wire.AppendUvarintBody([]byte("before"), v)))
		got, err := wire.ParseUvarint([]byte(body))
		require.NoError(t, err)
		require.Equal(t, v, got)
	}
	got, err := wire.ParseUvarint([]byte("\x85\x80\x00"))
	require.NoError(t, err, "not minimal")
	require.EqualValues(t, 5, got)

	for _, body := range []string{"", "\x80", "\x00\x00", "\x01x", strings.Repeat("\xff", 9) + "\x02", strings.Repeat("\x80", 10) + "\x00"} {
		_, err := wire.ParseUvarint([]byte(body))
		require.Error(t, err, "%q", body)
	}
}

func BenchmarkParseMeta(b *testing.B) {
	sections := map[string][]byte{"timeout": wire.AppendTimeout(nil, 1_500_000), "all": fullSection()}
	for name, section := range sections {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, err := wire.ParseMeta(section); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func TestParseTimeoutReadsWhatIsAlone(t *testing.T) {
	var m wire.Meta
	for _, us := range []uint64{0, 1, 127, 128, 60_000_000, math.MaxUint64} {
		section := wire.AppendTimeout(nil, us)
		frame := wire.AppendFrameMeta(nil, wire.Header{Cmd: wire.CmdRequest}, "/echo", section, "payload")
		require.Equal(t, wire.MetaLen(section), m.ParseTimeout(frame, wire.ParseHeader(frame)))
		require.Equal(t, us, m.Timeout)
		require.True(t, m.HasTimeout)
	}
	for _, section := range [][]byte{nil, fullSection(), wire.AppendPair(wire.AppendTimeout(nil, 5), "k", "v")} {
		frame := wire.AppendFrameMeta(nil, wire.Header{Cmd: wire.CmdRequest}, "/echo", section, "payload")
		require.Zero(t, m.ParseTimeout(frame, wire.ParseHeader(frame)))
	}
}
