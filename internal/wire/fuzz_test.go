package wire_test

import (
	"bytes"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/arpc-go/arpc/internal/wire"
)

// FuzzHeader reads arbitrary bytes as a header, writes it back, and takes the
// frame apart if the bytes hold one.
func FuzzHeader(f *testing.F) {
	for _, s := range loadVectors(f) {
		for _, v := range s.Frames {
			f.Add(unhex(f, v.FrameHex))
		}
	}
	f.Add(bytes.Repeat([]byte{0xff}, wire.HeaderLen))

	f.Fuzz(func(t *testing.T, b []byte) {
		if len(b) < wire.HeaderLen {
			t.Skip()
		}
		h := wire.ParseHeader(b)
		require.Equal(t, b[:wire.HeaderLen], wire.AppendHeader(nil, h))
		put := make([]byte, wire.HeaderLen)
		wire.PutHeader(put, h)
		require.Equal(t, b[:wire.HeaderLen], put)
		require.Equal(t, h, wire.ParseHeader(put))

		if h.Check() != nil || int64(h.BodyLen) > int64(len(b)-wire.HeaderLen) {
			return
		}
		frame := b[:h.FrameLen()]
		method, payload := wire.Split(frame, h)
		require.Len(t, payload, int(h.BodyLen)-len(method))
		require.Equal(t, frame, wire.AppendFrame(nil, h, string(method), payload))
	})
}

// FuzzFrame writes a frame of arbitrary parts between other bytes and reads it
// back.
func FuzzFrame(f *testing.F) {
	for _, s := range loadVectors(f) {
		for _, v := range s.Frames {
			f.Add(v.Reserved, v.Cmd, v.Flag, v.Seq, v.Method, unhex(f, v.BodyHex))
		}
	}

	f.Fuzz(func(t *testing.T, reserved, cmd, flag byte, seq uint64, method string, payload []byte) {
		if len(method) > wire.MaxMethodLen {
			t.Skip()
		}
		h := wire.Header{Reserved: reserved, Cmd: cmd, Flag: flag, Seq: seq}
		buf := wire.AppendFrame([]byte("before"), h, method, payload)
		require.Equal(t, buf, wire.AppendFrame([]byte("before"), h, method, string(payload)))
		end := len(buf)
		buf = append(buf, "after"...)
		require.Equal(t, "before", string(buf[:len("before")]))
		frame := buf[len("before"):end]

		h.BodyLen = uint32(len(method) + len(payload))
		h.MethodLen = byte(len(method))
		require.Equal(t, h, wire.ParseHeader(frame))
		require.Equal(t, len(frame), h.FrameLen())
		checkMethodRule(t, h)

		gotMethod, gotPayload := wire.Split(frame, h)
		require.Equal(t, method, string(gotMethod))
		require.Equal(t, string(payload), string(gotPayload))

		whole := slices.Clone(buf)
		_ = append(gotMethod, "overwritten"...)
		_ = append(gotPayload, "overwritten"...)
		require.Equal(t, whole, buf)
	})
}

// checkMethodRule holds for a frame with sound lengths: only Ping and Pong do
// without a method.
func checkMethodRule(t *testing.T, h wire.Header) {
	var want error
	if h.MethodLen == 0 && h.Command() != wire.CmdPing && h.Command() != wire.CmdPong {
		want = wire.ErrMethodEmpty
	}
	require.ErrorIs(t, h.Check(), want)
}
