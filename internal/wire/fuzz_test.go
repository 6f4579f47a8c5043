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
	for _, v := range allVectors2(f) {
		f.Add(unhex(f, v.FrameHex))
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

// checkMethodRule holds for a frame with sound lengths: only commands that carry
// no message do without a method.
func checkMethodRule(t *testing.T, h wire.Header) {
	var want error
	if h.MethodLen == 0 {
		switch h.Command() {
		case wire.CmdPing, wire.CmdPong, wire.CmdCancel, wire.CmdWindow, wire.CmdGoAway:
		default:
			want = wire.ErrMethodEmpty
		}
	}
	require.ErrorIs(t, h.Check(), want)
}

// FuzzHello reads arbitrary bytes as a hello; what was read is written, and read
// again the same.
func FuzzHello(f *testing.F) {
	full := fullHello()
	f.Add(full.Append(nil, true))
	for _, v := range allVectors2(f) {
		if cmd := v.Cmd & wire.CmdMask; cmd == wire.CmdPing || cmd == wire.CmdPong {
			f.Add(unhex(f, v.FrameHex)[wire.HeaderLen:])
		}
	}

	f.Fuzz(func(t *testing.T, body []byte) {
		h, err := wire.ParseHello(body)
		if err != nil {
			require.ErrorIs(t, err, wire.ErrHello)
			require.Zero(t, h)
			return
		}
		require.True(t, wire.IsHello(body))
		for _, lineEnd := range []bool{false, true} {
			again, err := wire.ParseHello(h.Append(nil, lineEnd))
			require.NoError(t, err)
			require.Equal(t, h, again)
		}
		require.LessOrEqual(t, len(h.Append(nil, false)), len(body))
	})
}

// FuzzMeta reads arbitrary bytes as what follows the method in a frame: a section
// with its length, and a payload. What was read is written, and read again the
// same.
func FuzzMeta(f *testing.F) {
	f.Add(wire.AppendFrameMeta(nil, wire.Header{}, "", fullSection(), "payload")[wire.HeaderLen:])
	for _, v := range allVectors2(f) {
		if frame := unhex(f, v.FrameHex); v.Flag&wire.FlagMeta != 0 {
			f.Add(frame[wire.HeaderLen+int(wire.ParseHeader(frame).MethodLen):])
		}
	}

	f.Fuzz(func(t *testing.T, rest []byte) {
		frame := wire.AppendFrame(nil, wire.Header{Cmd: wire.CmdRequest, Flag: wire.FlagMeta}, "m", rest)
		var short wire.Meta
		shortLen := short.ParseTimeout(frame, wire.ParseHeader(frame))
		_, section, payload, err := wire.SplitMeta(frame, wire.ParseHeader(frame))
		if err != nil {
			require.ErrorIs(t, err, wire.ErrMeta)
			require.Zero(t, shortLen)
			return
		}
		m, err := wire.ParseMeta(section)
		if err != nil {
			require.ErrorIs(t, err, wire.ErrMeta)
			require.Zero(t, shortLen)
			return
		}
		if shortLen > 0 {
			require.Equal(t, len(rest)-len(payload), shortLen)
			require.Equal(t, fieldsOf(&m), fieldsOf(&short))
		}
		written := appendMeta(nil, &m)
		require.LessOrEqual(t, len(written), len(section))

		frame = wire.AppendFrameMeta(nil, wire.Header{Cmd: wire.CmdRequest}, "m", written, payload)
		_, section, sent, err := wire.SplitMeta(frame, wire.ParseHeader(frame))
		require.NoError(t, err)
		require.Equal(t, string(payload), string(sent))
		again, err := wire.ParseMeta(section)
		require.NoError(t, err)
		require.Equal(t, fieldsOf(&m), fieldsOf(&again))
		require.Equal(t, written, appendMeta(nil, &again))
	})
}

// appendMeta writes what was read, fields in the order of their tags.
func appendMeta(dst []byte, m *wire.Meta) []byte {
	if m.HasTimeout {
		dst = wire.AppendTimeout(dst, m.Timeout)
	}
	if m.HasCode {
		dst = wire.AppendCode(dst, m.Code)
	}
	for name, data := range m.Details() {
		dst = wire.AppendDetail(dst, string(name), data)
	}
	for key, value := range m.Pairs() {
		dst = wire.AppendPair(dst, string(key), string(value))
	}
	if m.TraceParent != nil {
		dst = wire.AppendTraceParent(dst, string(m.TraceParent))
	}
	if m.TraceState != nil {
		dst = wire.AppendTraceState(dst, string(m.TraceState))
	}
	if m.HasComeBack {
		dst = wire.AppendComeBack(dst, m.ComeBack)
	}
	return dst
}
