package wire_test

import (
	"bytes"
	"compress/gzip"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/arpc-go/arpc/internal/wire"
)

// reservedGzip marks a frame whose bytes from offset 5 on are gzip data.
const reservedGzip = 0x80

// scenario is one exchange captured between two version 1 peers.
type scenario struct {
	Name   string   `json:"name"`
	Note   string   `json:"note"`
	Frames []vector `json:"frames"`
}

// vector is one captured frame and what it decodes to. Body is the payload.
type vector struct {
	Dir      string `json:"dir"`
	Cmd      byte   `json:"cmd"`
	Reserved byte   `json:"reserved"`
	Flag     byte   `json:"flag"`
	Method   string `json:"method"`
	Seq      uint64 `json:"seq"`
	BodyHex  string `json:"body_hex"`
	FrameHex string `json:"frame_hex"`
}

// sealed says whether the frame was captured before its coder decoded it: the
// fields after the reserved byte are then gzip data recorded as if they were a
// header, with an empty method.
func (v vector) sealed() bool { return v.Reserved&reservedGzip != 0 }

func (v vector) header() wire.Header {
	return wire.Header{Reserved: v.Reserved, Cmd: v.Cmd, Flag: v.Flag, Seq: v.Seq}
}

func loadVectors(tb testing.TB) []scenario {
	tb.Helper()
	data, err := os.ReadFile(filepath.Join("..", "..", "docs", "vectors", "arpc-v1.json"))
	require.NoError(tb, err)

	dec := json.NewDecoder(bytes.NewReader(data))
	dec.DisallowUnknownFields()
	var scenarios []scenario
	require.NoError(tb, dec.Decode(&scenarios))
	require.NotEmpty(tb, scenarios)
	return scenarios
}

func unhex(tb testing.TB, s string) []byte {
	tb.Helper()
	b, err := hex.DecodeString(s)
	require.NoError(tb, err)
	return b
}

func TestVectors(t *testing.T) {
	for _, s := range loadVectors(t) {
		require.NotEmpty(t, s.Frames, s.Name)
		for i, v := range s.Frames {
			t.Run(fmt.Sprintf("%s/%d", s.Name, i), func(t *testing.T) {
				checkHeader(t, v)
				if v.sealed() {
					checkSealed(t, v)
					return
				}
				checkFrame(t, v)
			})
		}
	}
}

// checkHeader holds for every frame: the recorded fields are read, and the
// header is written back bit for bit.
func checkHeader(t *testing.T, v vector) {
	frame := unhex(t, v.FrameHex)
	h := wire.ParseHeader(frame)
	require.Equal(t, len(frame), h.FrameLen())
	require.Equal(t, v.Cmd, h.Cmd)
	require.Equal(t, v.Reserved, h.Reserved)
	require.Equal(t, v.Flag, h.Flag)
	require.Equal(t, v.Seq, h.Seq)
	require.Equal(t, frame[7], h.MethodLen)

	require.Equal(t, frame[:wire.HeaderLen], wire.AppendHeader(nil, h))
	put := make([]byte, wire.HeaderLen)
	wire.PutHeader(put, h)
	require.Equal(t, frame[:wire.HeaderLen], put)
}

// checkFrame holds for a readable frame: it splits into the recorded method and
// payload, and they make the frame again.
func checkFrame(t *testing.T, v vector) {
	frame := unhex(t, v.FrameHex)
	h := wire.ParseHeader(frame)
	require.NoError(t, h.Check())
	method, payload := wire.Split(frame, h)
	require.Equal(t, v.Method, string(method))
	require.Equal(t, v.BodyHex, hex.EncodeToString(payload))

	body := unhex(t, v.BodyHex)
	require.Equal(t, v.FrameHex, hex.EncodeToString(wire.AppendFrame(nil, v.header(), v.Method, body)))
	require.Equal(t, v.FrameHex, hex.EncodeToString(wire.AppendFrame(nil, v.header(), v.Method, string(body))))
}

// checkSealed holds for a frame that a coder still has to decode: what was
// recorded as its payload is all that follows the header, and once decoded by
// hand it is a sound frame.
func checkSealed(t *testing.T, v vector) {
	require.Empty(t, v.Method)
	require.Equal(t, v.BodyHex, v.FrameHex[2*wire.HeaderLen:])

	frame := gunzip(t, unhex(t, v.FrameHex))
	h := wire.ParseHeader(frame)
	require.NoError(t, h.Check())
	require.Equal(t, len(frame), h.FrameLen())
	require.Contains(t, []byte{wire.CmdRequest, wire.CmdResponse}, h.Command())
	method, payload := wire.Split(frame, h)
	require.Equal(t, "/echo", string(method))
	require.Equal(t, frame, wire.AppendFrame(nil, h, "/echo", payload))
}

// gunzip decodes a gzip frame as docs/PROTOCOL.md says.
func gunzip(t *testing.T, frame []byte) []byte {
	r, err := gzip.NewReader(bytes.NewReader(frame[5:]))
	require.NoError(t, err)
	plain, err := io.ReadAll(r)
	require.NoError(t, err)

	out := append(frame[:5:5], plain...)
	out[4] &^= reservedGzip
	binary.LittleEndian.PutUint32(out, uint32(len(out)-wire.HeaderLen))
	return out
}
