package gzip_test

import (
	"bytes"
	stdgzip "compress/gzip"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"runtime"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/arpc-go/arpc"
)

// marked is bit 7 of the reserved byte.
const marked = 0x80

func serve(tb testing.TB, opts ...arpc.Option) (*arpc.Server, string) {
	tb.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(tb, err)
	s := arpc.NewServer(opts...)
	go s.Serve(ln)
	tb.Cleanup(s.Stop)
	return s, ln.Addr().String()
}

func dial(tb testing.TB, addr string, opts ...arpc.Option) *arpc.Client {
	tb.Helper()
	c, err := arpc.NewClient(func() (net.Conn, error) { return net.Dial("tcp", addr) }, opts...)
	require.NoError(tb, err)
	tb.Cleanup(c.Stop)
	return c
}

// frameOf returns the frame of a request with a payload.
func frameOf(payload []byte) []byte {
	return arpc.NewServer().NewMessage(arpc.CmdRequest, "/m", payload).Buffer
}

func messageOf(frame []byte) *arpc.Message {
	return &arpc.Message{Buffer: bytes.Clone(frame)}
}

// orders returns a JSON payload of about n bytes, of the kind that calls carry.
func orders(n int) []byte {
	rng := rand.New(rand.NewPCG(1, 2))
	out := []byte{'['}
	for len(out) < n {
		out = fmt.Appendf(out, `{"id":%d,"customer":"customer-%d","state":%q,"total":%.2f},`,
			rng.Uint32(), rng.IntN(500), []string{"open", "paid", "sent"}[rng.IntN(3)], rng.Float64()*1e4)
	}
	out[len(out)-1] = ']'
	return out
}

// noise returns n bytes that do not get shorter.
func noise(n int) []byte {
	b := make([]byte, n)
	rand.NewChaCha8([32]byte{1}).Read(b)
	return b
}

// seal compresses a frame with the standard library.
func seal(tb testing.TB, frame []byte) []byte {
	tb.Helper()
	buf := bytes.NewBuffer(bytes.Clone(frame[:5]))
	zw := stdgzip.NewWriter(buf)
	_, err := zw.Write(frame[5:])
	require.NoError(tb, err)
	require.NoError(tb, zw.Close())
	return fixed(buf.Bytes())
}

// fixed marks a frame as compressed and sets its length.
func fixed(sealed []byte) []byte {
	binary.LittleEndian.PutUint32(sealed, uint32(len(sealed)-arpc.HeadLen))
	sealed[4] |= marked
	return sealed
}

// unseal decodes a compressed frame with the standard library. It reads no
// more than limit bytes.
func unseal(sealed []byte, limit int) ([]byte, error) {
	src := bytes.NewReader(sealed[5:])
	zr, err := stdgzip.NewReader(src)
	if err != nil {
		return nil, err
	}
	zr.Multistream(false)
	plain, err := io.ReadAll(io.LimitReader(zr, int64(limit)))
	switch {
	case err != nil:
		return nil, err
	case src.Len() > 0:
		return nil, errors.New("not all was read")
	case len(plain)+5 > limit || len(plain)+5 < arpc.HeadLen:
		return nil, errors.New("not a frame, or over the limit")
	}
	frame := append(bytes.Clone(sealed[:5]), plain...)
	binary.LittleEndian.PutUint32(frame, uint32(len(frame)-arpc.HeadLen))
	frame[4] &^= marked
	return frame, nil
}

// allocated returns how many bytes f allocates, or anybody else meanwhile.
func allocated(f func()) uint64 {
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	f()
	runtime.ReadMemStats(&after)
	return after.TotalAlloc - before.TotalAlloc
}
