package wire_test

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/arpc-go/arpc/internal/wire"
)

var update = flag.Bool("update", false, "write the vectors of version 2 anew")

const lineEndField = "\x0f\x04\r\n\r\n"

// scenario2 is one exchange of version 2.
type scenario2 struct {
	Name   string    `json:"name"`
	Note   string    `json:"note"`
	Frames []vector2 `json:"frames"`
}

// vector2 is a frame and what it decodes to. Of Hello, Meta and Credit there are
// those that the frame holds. Body is the payload.
type vector2 struct {
	Note      string   `json:"note,omitempty"`
	Dir       string   `json:"dir"`
	Cmd       byte     `json:"cmd"`
	Reserved  byte     `json:"reserved"`
	Flag      byte     `json:"flag"`
	Method    string   `json:"method"`
	Seq       uint64   `json:"seq"`
	Hello     *hello2  `json:"hello,omitempty"`
	Meta      *fields2 `json:"meta,omitempty"`
	Credit    *uint64  `json:"credit,omitempty"`
	BodyHex   string   `json:"body_hex"`
	ReadOnly  bool     `json:"read_only,omitempty"` // sound, but not as it would be written
	Malformed string   `json:"malformed,omitempty"` // what cannot be read: hello, metadata or window
	FrameHex  string   `json:"frame_hex"`
}

type hello2 struct {
	Features       uint64 `json:"features,omitempty"`
	MaxBody        uint64 `json:"max_body,omitempty"`
	MaxInflight    uint64 `json:"max_inflight,omitempty"`
	MaxStreams     uint64 `json:"max_streams,omitempty"`
	Window         uint64 `json:"window,omitempty"`
	Codec          string `json:"codec,omitempty"`
	Compat         string `json:"compat,omitempty"`
	CredentialsHex string `json:"credentials_hex,omitempty"`
	SessionHex     string `json:"session_hex,omitempty"`
	Name           string `json:"name,omitempty"`
	Software       string `json:"software,omitempty"`
	Code           uint32 `json:"code,omitempty"`
	Message        string `json:"message,omitempty"`
	MaxMetadata    uint64 `json:"max_metadata,omitempty"`
	Coders         string `json:"coders,omitempty"`
	LineEnd        bool   `json:"line_end,omitempty"`
}

type fields2 struct {
	TimeoutUS   *uint64   `json:"timeout_us,omitempty"`
	Code        *uint32   `json:"code,omitempty"`
	Details     []detail2 `json:"details,omitempty"`
	Pairs       []pair2   `json:"pairs,omitempty"`
	TraceParent string    `json:"traceparent,omitempty"`
	TraceState  string    `json:"tracestate,omitempty"`
	ComeBackUS  *uint64   `json:"come_back_us,omitempty"`
}

type detail2 struct {
	Name    string `json:"name"`
	DataHex string `json:"data_hex"`
}

type pair2 struct {
	Key      string `json:"key"`
	ValueHex string `json:"value_hex"`
}

func vectors2Path() string { return filepath.Join("..", "..", "docs", "vectors", "arpc-v2.json") }

func loadVectors2(tb testing.TB) []scenario2 {
	tb.Helper()
	data, err := os.ReadFile(vectors2Path())
	require.NoError(tb, err)
	dec := json.NewDecoder(bytes.NewReader(data))
	dec.DisallowUnknownFields()
	var scenarios []scenario2
	require.NoError(tb, dec.Decode(&scenarios))
	require.NotEmpty(tb, scenarios)
	return scenarios
}

func allVectors2(tb testing.TB) (all []vector2) {
	for _, s := range loadVectors2(tb) {
		all = append(all, s.Frames...)
	}
	return all
}

// The file holds what the scenarios in this package say. With -update it is
// written.
func TestVectors2AreThoseOfTheFile(t *testing.T) {
	scenarios := scenarios2()
	for i := range scenarios {
		for j := range scenarios[i].Frames {
			scenarios[i].Frames[j].complete(t)
		}
	}
	var want bytes.Buffer
	enc := json.NewEncoder(&want)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", " ")
	require.NoError(t, enc.Encode(scenarios))
	if *update {
		require.NoError(t, os.WriteFile(vectors2Path(), want.Bytes(), 0o644))
	}
	got, err := os.ReadFile(vectors2Path())
	require.NoError(t, err)
	require.Equal(t, want.String(), string(got))
}

// complete fills in what follows from the rest.
func (v *vector2) complete(tb testing.TB) {
	if v.FrameHex == "" {
		v.BodyHex = hex.EncodeToString(v.payload(tb))
		v.FrameHex = hex.EncodeToString(v.frame(tb))
	}
}

func TestVectors2(t *testing.T) {
	for _, s := range loadVectors2(t) {
		require.NotEmpty(t, s.Note, s.Name)
		require.NotEmpty(t, s.Frames, s.Name)
		for i, v := range s.Frames {
			t.Run(fmt.Sprintf("%s/%d", s.Name, i), func(t *testing.T) {
				require.Contains(t, []string{"client->server", "server->client"}, v.Dir)
				if v.Malformed != "" {
					checkMalformed2(t, v)
					return
				}
				require.Equal(t, v.decoded(), decode2(t, unhex(t, v.FrameHex)))
				if !v.ReadOnly {
					require.Equal(t, v.FrameHex, hex.EncodeToString(v.frame(t)))
				}
			})
		}
	}
}

// decoded is what of a vector can be read from its frame.
func (v vector2) decoded() vector2 {
	v.Dir, v.Note, v.ReadOnly, v.FrameHex = "", "", false, ""
	return v
}

func decode2(t *testing.T, frame []byte) vector2 {
	h := wire.ParseHeader(frame)
	require.NoError(t, h.Check())
	require.Equal(t, len(frame), h.FrameLen())
	method, section, payload, err := wire.SplitMeta(frame, h)
	require.NoError(t, err)
	v := vector2{
		Cmd: h.Cmd, Reserved: h.Reserved, Flag: h.Flag, Method: string(method), Seq: h.Seq,
		BodyHex: hex.EncodeToString(payload),
	}
	if section != nil {
		m, err := wire.ParseMeta(section)
		require.NoError(t, err)
		v.Meta = fieldsOf(&m)
	}
	switch {
	case h.Command() == wire.CmdWindow:
		credit, err := wire.ParseUvarint(payload)
		require.NoError(t, err)
		v.Credit = &credit
	case isPingOrPong(h) && wire.IsHello(payload):
		hello, err := wire.ParseHello(payload)
		require.NoError(t, err)
		v.Hello = helloOf(hello, bytes.HasSuffix(payload, []byte(lineEndField)))
	}
	return v
}

func isPingOrPong(h wire.Header) bool {
	return h.Command() == wire.CmdPing || h.Command() == wire.CmdPong
}

func checkMalformed2(t *testing.T, v vector2) {
	frame := unhex(t, v.FrameHex)
	h := wire.ParseHeader(frame)
	require.NoError(t, h.Check())
	require.Equal(t, len(frame), h.FrameLen())
	method, section, payload, err := wire.SplitMeta(frame, h)
	require.Equal(t, []any{v.Cmd, v.Reserved, v.Flag, v.Method, v.Seq}, []any{h.Cmd, h.Reserved, h.Flag, string(method), h.Seq})
	switch v.Malformed {
	case "metadata":
		if err == nil {
			_, err = wire.ParseMeta(section)
		}
		require.ErrorIs(t, err, wire.ErrMeta)
		return
	case "hello":
		_, err = wire.ParseHello(payload)
		require.ErrorIs(t, err, wire.ErrHello)
	case "window":
		_, err = wire.ParseUvarint(payload)
		require.Error(t, err)
	default:
		require.Fail(t, "unknown kind", v.Malformed)
	}
	require.Equal(t, v.BodyHex, hex.EncodeToString(payload))
}

// frame makes the frame from the fields.
func (v vector2) frame(tb testing.TB) []byte {
	h := wire.Header{Reserved: v.Reserved, Cmd: v.Cmd, Flag: v.Flag, Seq: v.Seq}
	if v.Meta == nil {
		return wire.AppendFrame(nil, h, v.Method, v.payload(tb))
	}
	return wire.AppendFrameMeta(nil, h, v.Method, v.Meta.section(tb), v.payload(tb))
}

func (v vector2) payload(tb testing.TB) []byte {
	switch {
	case v.Hello != nil:
		return v.Hello.record(tb)
	case v.Credit != nil:
		return wire.AppendUvarintBody(nil, *v.Credit)
	}
	return unhex(tb, v.BodyHex)
}

func (h *hello2) record(tb testing.TB) []byte {
	hello := wire.Hello{
		Features: h.Features, MaxBody: h.MaxBody, MaxInflight: h.MaxInflight, MaxStreams: h.MaxStreams,
		Window: h.Window, MaxMetadata: h.MaxMetadata, Codec: h.Codec, Compat: h.Compat,
		Credentials: unhex(tb, h.CredentialsHex), Session: unhex(tb, h.SessionHex),
		Name: h.Name, Software: h.Software, Code: h.Code, Message: h.Message, Coders: h.Coders,
	}
	return hello.Append(nil, h.LineEnd)
}

func helloOf(h wire.Hello, lineEnd bool) *hello2 {
	return &hello2{
		Features: h.Features, MaxBody: h.MaxBody, MaxInflight: h.MaxInflight, MaxStreams: h.MaxStreams,
		Window: h.Window, MaxMetadata: h.MaxMetadata, Codec: h.Codec, Compat: h.Compat,
		CredentialsHex: hex.EncodeToString(h.Credentials), SessionHex: hex.EncodeToString(h.Session),
		Name: h.Name, Software: h.Software, Code: h.Code, Message: h.Message, Coders: h.Coders, LineEnd: lineEnd,
	}
}

func (f *fields2) section(tb testing.TB) (section []byte) {
	if f.TimeoutUS != nil {
		section = wire.AppendTimeout(section, *f.TimeoutUS)
	}
	if f.Code != nil {
		section = wire.AppendCode(section, *f.Code)
	}
	for _, d := range f.Details {
		section = wire.AppendDetail(section, d.Name, unhex(tb, d.DataHex))
	}
	for _, p := range f.Pairs {
		section = wire.AppendPair(section, p.Key, string(unhex(tb, p.ValueHex)))
	}
	if f.TraceParent != "" {
		section = wire.AppendTraceParent(section, f.TraceParent)
	}
	if f.TraceState != "" {
		section = wire.AppendTraceState(section, f.TraceState)
	}
	if f.ComeBackUS != nil {
		section = wire.AppendComeBack(section, *f.ComeBackUS)
	}
	return section
}

func fieldsOf(m *wire.Meta) *fields2 {
	f := &fields2{TraceParent: string(m.TraceParent), TraceState: string(m.TraceState)}
	if m.HasTimeout {
		f.TimeoutUS = &m.Timeout
	}
	if m.HasCode {
		f.Code = &m.Code
	}
	if m.HasComeBack {
		f.ComeBackUS = &m.ComeBack
	}
	for name, data := range m.Details() {
		f.Details = append(f.Details, detail2{string(name), hex.EncodeToString(data)})
	}
	for key, value := range m.Pairs() {
		f.Pairs = append(f.Pairs, pair2{string(key), hex.EncodeToString(value)})
	}
	return f
}
