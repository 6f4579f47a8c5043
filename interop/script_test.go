package interop

import (
	"bytes"
	"compress/gzip"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"os"
	"testing"
	"time"

	"github.com/arpc-go/arpc"
	"github.com/stretchr/testify/require"
)

// capture is one scenario of docs/vectors/arpc-v1.json: frames between two
// peers of the old library.
type capture struct {
	Name   string
	Frames []frame
}

type frame struct {
	Dir string
	Hex string `json:"frame_hex"`
}

const fromClient = "client->server"

func (f frame) bytes(t testing.TB) []byte {
	b, err := hex.DecodeString(f.Hex)
	require.NoError(t, err)
	return b
}

// captures returns the scenarios by name.
func captures(t testing.TB) map[string]capture {
	text, err := os.ReadFile("../docs/vectors/arpc-v1.json")
	require.NoError(t, err)
	var list []capture
	require.NoError(t, json.Unmarshal(text, &list))
	byName := make(map[string]capture)
	for _, c := range list {
		byName[c.Name] = c
	}
	return byName
}

// player plays the frames of one side of a capture over a plain connection, and
// expects those of the other side, which is ours.
type player struct {
	net.Conn
	// ids are the numbers that our side gave to calls and streams, by those
	// it has in the capture.
	ids map[uint64]uint64
	// compressed counts the frames that came as gzip data.
	compressed int
}

func newPlayer(nc net.Conn) *player {
	nc.SetDeadline(time.Now().Add(patience))
	return &player{Conn: nc, ids: make(map[uint64]uint64)}
}

// play plays the side that sends in the direction dir. It returns an error when
// ours sends something else; the numbers that ours chooses may differ.
func (p *player) play(t testing.TB, c capture, dir string) error {
	for i, f := range c.Frames {
		step := p.expect
		if f.Dir == dir {
			step = p.send
		}
		if err := step(f.bytes(t)); err != nil {
			return fmt.Errorf("frame %d of %s: %w", i, c.Name, err)
		}
	}
	return nil
}

func (p *player) send(f []byte) error {
	if !begins(f) {
		setSeq(f, p.ids[seq(f)])
	}
	_, err := p.Write(f)
	return err
}

func (p *player) expect(want []byte) error {
	got, err := p.read()
	if err != nil {
		return err
	}
	if begins(want) {
		p.ids[seq(want)] = seq(got)
		setSeq(want, seq(got))
	}
	if string(got) != string(want) {
		return fmt.Errorf("got %x, want %x", got, want)
	}
	return nil
}

// read returns the next frame, decompressed. A Ping with a body, a hello, is
// answered as old peers do, with an empty Pong.
func (p *player) read() ([]byte, error) {
	f := make([]byte, arpc.HeadLen)
	if _, err := io.ReadFull(p, f); err != nil {
		return nil, err
	}
	f = append(f, make([]byte, frameLen(f)-arpc.HeadLen)...)
	if _, err := io.ReadFull(p, f[arpc.HeadLen:]); err != nil {
		return nil, err
	}
	switch {
	case f[4]&gzipBit != 0:
		p.compressed++
		return inflate(f)
	case f[5] == arpc.CmdPing && len(f) > arpc.HeadLen:
		p.Write(pong)
		return p.read()
	}
	return f, nil
}

const gzipBit = 0x80

// inflate decodes a frame that the gzip coder has rewritten.
func inflate(f []byte) ([]byte, error) {
	r, err := gzip.NewReader(bytes.NewReader(f[5:]))
	if err != nil {
		return nil, err
	}
	rest, err := io.ReadAll(r)
	return coded(f[4]&^gzipBit, rest), err
}

// deflate is the reverse.
func deflate(f []byte) []byte {
	var b bytes.Buffer
	w := gzip.NewWriter(&b)
	w.Write(f[5:])
	w.Close()
	return coded(f[4]|gzipBit, b.Bytes())
}

// coded returns the frame with these bytes from offset 4 on.
func coded(reserved byte, rest []byte) []byte {
	f := binary.LittleEndian.AppendUint32(nil, uint32(5+len(rest)-arpc.HeadLen))
	return append(append(f, reserved), rest...)
}

// begins reports whether the sender of the frame has chosen its number.
func begins(f []byte) bool {
	switch f[5] & 0x3f {
	case arpc.CmdRequest, arpc.CmdNotify:
		return true
	case arpc.CmdStream:
		return f[5]&0x80 != 0
	}
	return false
}

func seq(f []byte) uint64       { return binary.LittleEndian.Uint64(f[8:]) }
func setSeq(f []byte, n uint64) { binary.LittleEndian.PutUint64(f[8:], n) }
