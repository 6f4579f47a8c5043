package coder_test

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/arpc-go/arpc"
	"github.com/arpc-go/arpc/internal/wire"
	"github.com/arpc-go/arpc/middleware/coder/aead"
	"github.com/arpc-go/arpc/middleware/coder/gzip"
	"github.com/arpc-go/arpc/middleware/coder/msgpack"
	"github.com/arpc-go/arpc/middleware/coder/s2"
	"github.com/arpc-go/arpc/middleware/coder/tracing"
	"github.com/arpc-go/arpc/middleware/coder/zstd"
)

const vectorsPath = "../../docs/vectors/coders.json"

// scenario is a chain of coders and what passes it.
type scenario struct {
	Name   string        `json:"name"`
	Note   string        `json:"note"`
	Coders []vectorCoder `json:"coders"` // in the order of UseCoder
	Frames []vector      `json:"frames"` // in the order of their receiver
}

// vectorCoder is a coder and what is set of it.
type vectorCoder struct {
	Coder         string `json:"coder"`
	Name          string `json:"name,omitempty"` // told in the hello
	Threshold     *int   `json:"threshold,omitempty"`
	DictionaryHex string `json:"dictionary_hex,omitempty"`
	Key           string `json:"key,omitempty"` // of a trailer
	Algorithm     string `json:"algorithm,omitempty"`
	KeyID         uint32 `json:"key_id,omitempty"`
	SecretHex     string `json:"secret_hex,omitempty"`
}

// vector is a frame. Its fields are those of the message before it is encoded, or of
// the frame itself where it is to be refused.
type vector struct {
	Note       string               `json:"note,omitempty"`
	Dir        string               `json:"dir"`
	Now        int64                `json:"now,omitempty"` // on the receiver's clock, in seconds since 1970
	Cmd        byte                 `json:"cmd"`
	Reserved   byte                 `json:"reserved"`
	Flag       byte                 `json:"flag"`
	Method     string               `json:"method"`
	Seq        uint64               `json:"seq"`
	Pairs      []vectorPair         `json:"pairs,omitempty"` // metadata
	Values     [][2]json.RawMessage `json:"values,omitempty"`
	SessionHex string               `json:"session_hex,omitempty"`
	Number     uint64               `json:"number,omitempty"`
	BodyHex    string               `json:"body_hex"`
	ReadOnly   bool                 `json:"read_only,omitempty"` // sound, but others may write it in another way
	Refused    string               `json:"refused,omitempty"`   // why it cannot be decoded
	FrameHex   string               `json:"frame_hex"`
}

type vectorPair struct {
	Key      string `json:"key"`
	ValueHex string `json:"value_hex"`
}

func loadVectors(t *testing.T) []scenario {
	t.Helper()
	data, err := os.ReadFile(vectorsPath)
	require.NoError(t, err)
	dec := json.NewDecoder(bytes.NewReader(data))
	dec.DisallowUnknownFields()
	var scenarios []scenario
	require.NoError(t, dec.Decode(&scenarios))
	require.NotEmpty(t, scenarios)
	return scenarios
}

// Every frame is read as recorded, or refused, and every one that can be written in
// one way only is written so.
func TestVectors(t *testing.T) {
	used := make(map[string]bool)
	for _, s := range loadVectors(t) {
		require.NotEmpty(t, s.Note, s.Name)
		require.NotEmpty(t, s.Frames, s.Name)
		for _, c := range s.Coders {
			used[c.Coder] = true
		}
		t.Run(s.Name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { checkScenario(t, s) })
		})
	}
	for name := range makers {
		require.True(t, used[name], "no vector of %s", name)
	}
}

func checkScenario(t *testing.T, s scenario) {
	chain := vectorChain(t, s)
	for i, v := range s.Frames {
		if wait := time.Until(time.Unix(v.Now, 0)); v.Now != 0 && wait > 0 {
			time.Sleep(wait)
		}
		where := fmt.Sprintf("frame %d %s", i, v.Note)
		require.Contains(t, []string{"client->server", "server->client"}, v.Dir, where)
		got, err := decodeVector(chain, unhex(t, v.FrameHex))
		if v.Refused != "" {
			require.Error(t, err, where)
			checkRefused(t, v)
			continue
		}
		require.NoError(t, err, where)
		require.Equal(t, v.plain(t).Buffer, got.Buffer, where)
		require.Equal(t, v.plain(t).Values(), got.Values(), where)
		if !v.ReadOnly {
			require.Equal(t, v.FrameHex, hex.EncodeToString(encodeVector(t, s, v)), where)
		}
	}
}

// checkRefused compares the fields of a frame that is refused with its bytes.
func checkRefused(t *testing.T, v vector) {
	t.Helper()
	frame := unhex(t, v.FrameHex)
	h := wire.ParseHeader(frame)
	require.Equal(t, len(frame), h.FrameLen())
	require.Equal(t, []any{v.Cmd, v.Reserved, v.Flag, v.Seq}, []any{h.Cmd, h.Reserved, h.Flag, h.Seq}, v.Note)
	if h.Check() != nil { // the coder has hidden the header
		require.Equal(t, v.BodyHex, hex.EncodeToString(frame[wire.HeaderLen:]), v.Note)
		return
	}
	method, body := wire.Split(frame, h)
	require.Equal(t, v.Method, string(method), v.Note)
	require.Equal(t, v.BodyHex, hex.EncodeToString(body), v.Note)
}

// plain returns the message before it is encoded.
func (v vector) plain(t *testing.T) *arpc.Message {
	h := wire.Header{Cmd: v.Cmd, Reserved: v.Reserved, Flag: v.Flag, Seq: v.Seq}
	body := unhex(t, v.BodyHex)
	m := new(arpc.Message)
	if v.Pairs == nil {
		m.Buffer = wire.AppendFrame(nil, h, v.Method, body)
	} else {
		var section []byte
		for _, p := range v.Pairs {
			section = wire.AppendPair(section, p.Key, string(unhex(t, p.ValueHex)))
		}
		m.Buffer = wire.AppendFrameMeta(nil, h, v.Method, section, body)
	}
	for _, pair := range v.Values {
		m.Set(vectorValue(t, pair[0]), vectorValue(t, pair[1]))
	}
	return m
}

func vectorChain(t *testing.T, s scenario) (chain []arpc.MessageCoder) {
	for _, c := range s.Coders {
		coder := c.make(t)
		name := ""
		if named, ok := coder.(arpc.NamedCoder); ok {
			name = named.CoderName()
		}
		require.Equal(t, c.Name, name)
		chain = append(chain, coder)
	}
	return chain
}

func (c vectorCoder) make(t *testing.T) arpc.MessageCoder {
	threshold := 0
	if c.Threshold != nil {
		threshold = *c.Threshold
	}
	switch c.Coder {
	case "gzip":
		return gzip.New(gzip.WithThreshold(threshold))
	case "s2":
		return s2.New(s2.WithThreshold(threshold))
	case "zstd":
		opts := []zstd.Option{zstd.WithThreshold(threshold)}
		if c.DictionaryHex != "" {
			opts = append(opts, zstd.WithDictionary(unhex(t, c.DictionaryHex)))
		}
		return zstd.New(opts...)
	case "msgpack":
		return msgpack.New()
	case "tracing":
		return tracing.New(c.Key)
	}
	require.Equal(t, "aead", c.Coder)
	coder, err := aead.New([]aead.Key{c.aeadKey(t)})
	require.NoError(t, err)
	return coder
}

// decodeVector undoes a chain as the engine does.
func decodeVector(chain []arpc.MessageCoder, frame []byte) (*arpc.Message, error) {
	m, err := &arpc.Message{Buffer: frame}, error(nil)
	for i := len(chain) - 1; i >= 0; i-- {
		if m, err = chain[i].(arpc.CheckedDecoder).DecodeChecked(nil, m); err != nil {
			return nil, err
		}
	}
	if m.Buffer[4] != 0 {
		return nil, errors.New("a bit of the reserved byte is set that no coder has cleared")
	}
	return m, nil
}

// encodeVector passes a message through a chain. What is encrypted has the session
// and the number of the vector.
func encodeVector(t *testing.T, s scenario, v vector) []byte {
	t.Helper()
	m := v.plain(t)
	for _, c := range s.Coders {
		if c.Coder == "aead" {
			m.Buffer = c.seal(t, m.Buffer, unhex(t, v.SessionHex), v.Number)
			continue
		}
		m = c.make(t).Encode(nil, m)
		require.NotNil(t, m)
	}
	return m.Buffer
}

func unhex(t *testing.T, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(s)
	require.NoError(t, err)
	return b
}

// typedValue is a value of msgpack that JSON has no type for.
type typedValue struct {
	Int   *int64
	Uint  *uint64
	Float *float64
	Bytes *string
	Time  *time.Time
	List  []json.RawMessage
	Map   [][2]json.RawMessage
}

// vectorValue returns a value of msgpack: null, booleans and strings as they are, and
// objects of one entry that has the type as its key.
func vectorValue(t *testing.T, text json.RawMessage) any {
	t.Helper()
	var plain any
	require.NoError(t, json.Unmarshal(text, &plain))
	object, ok := plain.(map[string]any)
	if !ok {
		return plain
	}
	require.Len(t, object, 1)
	var v typedValue
	require.NoError(t, json.Unmarshal(text, &v))
	switch {
	case v.Int != nil:
		return *v.Int
	case v.Uint != nil:
		return *v.Uint
	case v.Float != nil:
		return *v.Float
	case v.Bytes != nil:
		return unhex(t, *v.Bytes)
	case v.Time != nil:
		return v.Time.UTC()
	}
	return v.container(t)
}

func (v typedValue) container(t *testing.T) any {
	t.Helper()
	if v.Map != nil {
		m := make(map[string]any)
		for _, pair := range v.Map {
			m[vectorValue(t, pair[0]).(string)] = vectorValue(t, pair[1])
		}
		return m
	}
	require.NotNil(t, v.List)
	list := make([]any, 0, len(v.List))
	for _, e := range v.List {
		list = append(list, vectorValue(t, e))
	}
	return list
}
