package buffstreams

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"math"
	"os"
	"testing"

	"github.com/stretchr/testify/require"
)

// captured is a frame that BuffStreams 2.0.0 has sent.
type captured struct {
	Max     int    `json:"max_message_size"`
	Payload string `json:"payload_hex"`
	Frame   string `json:"frame_hex"`
}

func readCaptured(t testing.TB) (list []captured) {
	b, err := os.ReadFile("testdata/captured.json")
	require.NoError(t, err)
	require.NoError(t, json.Unmarshal(b, &list))
	require.NotEmpty(t, list)
	return list
}

func (c captured) bytes(t testing.TB) (payload, frame []byte) {
	payload, err := hex.DecodeString(c.Payload)
	require.NoError(t, err)
	frame, err = hex.DecodeString(c.Frame)
	require.NoError(t, err)
	return payload, frame
}

func framingOf(t testing.TB, max int) framing {
	f, err := newFraming(max)
	require.NoError(t, err)
	return f
}

// appendFrame is what output.add makes of a message.
func (f framing) appendFrame(dst, message []byte) []byte {
	return append(f.appendHeader(dst, len(message)), message...)
}

func TestFramesAreThoseThatBuffStreamsSends(t *testing.T) {
	for _, c := range readCaptured(t) {
		payload, frame := c.bytes(t)
		f := framingOf(t, c.Max)
		require.Equal(t, frame, f.appendFrame(nil, payload), "%d", c.Max)

		in := incoming{framing: f}
		in.w += copy(in.space(), frame)
		message, ok, err := in.next()
		require.NoError(t, err)
		require.True(t, ok)
		require.Equal(t, payload, message, "%d", c.Max)
		require.Zero(t, in.held())
	}
}

// formula is the width of a header as BuffStreams computes it.
func formula(max int) int {
	return int(math.Ceil(math.Floor(math.Log2(float64(max))+1)/8.0) + 1)
}

func TestHeadersAreAsWideAsThoseOfBuffStreams(t *testing.T) {
	for max := 1; max <= 1<<17; max++ {
		require.Equal(t, formula(max), headerLen(max), "%d", max)
	}
	for bit := range 31 {
		for _, max := range []int{1<<bit - 1, 1 << bit, 1<<bit + 1} {
			if max > 0 && max <= largestMessage {
				require.Equal(t, formula(max), headerLen(max), "%d", max)
			}
		}
	}
}

func TestZeroIs4096(t *testing.T) {
	require.Equal(t, framing{4096, 3}, framingOf(t, 0))
}

// The largest size of each header fits into it.
func TestEverySizeFitsIntoItsHeader(t *testing.T) {
	for _, max := range []int{1, 127, 128, 255, 256, 8191, 8192, 65535, 65536, 1<<24 - 1, 1 << 24, largestMessage} {
		f := framingOf(t, max)
		for _, size := range []int{0, 1, max / 2, max - 1, max} {
			h := f.appendHeader(nil, size)
			require.Len(t, h, f.header)
			reference := make([]byte, binary.MaxVarintLen64)
			require.LessOrEqual(t, binary.PutVarint(reference, int64(size)), f.header)
			require.Equal(t, reference[:f.header], h)
			got, err := f.parseHeader(h)
			require.NoError(t, err)
			require.Equal(t, size, got)
		}
	}
}

func TestHeadersThatNobodySendsAreRefused(t *testing.T) {
	for name, c := range map[string]struct {
		max    int
		header []byte
		err    error
		text   string
	}{
		"too large":                {100, []byte{0xca, 1}, ErrTooLarge, "101 bytes, at most 100 are allowed (MaxMessageSize)"},
		"too large by far":         {0, []byte{0xfe, 0xff, 0x7f}, ErrTooLarge, "1048575 bytes, at most 4096"},
		"negative":                 {0, []byte{1, 0, 0}, ErrMalformed, "negative"},
		"very negative":            {0, []byte{0xff, 0xff, 0x7f}, ErrMalformed, "negative"},
		"without an end":           {0, []byte{0x80, 0x80, 0x80}, ErrMalformed, "MaxMessageSize"},
		"a byte behind the length": {0, []byte{0x0a, 0, 1}, ErrMalformed, "MaxMessageSize"},
		"longer than it must be":   {0, []byte{0x8a, 0, 0}, ErrMalformed, "MaxMessageSize"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := framingOf(t, c.max).parseHeader(c.header)
			require.ErrorIs(t, err, c.err)
			require.ErrorContains(t, err, c.text)
		})
	}
}

// A peer with headers of another width is noticed with its second message at the
// latest, unless the bytes make sense by chance.
func TestOtherMaxMessageSizeIsNoticed(t *testing.T) {
	for name, c := range map[string]struct{ sender, receiver int }{
		"a narrower sender": {100, 4096},
		"a wider sender":    {4096, 100},
		"by far":            {1 << 20, 100},
	} {
		t.Run(name, func(t *testing.T) {
			in := incoming{framing: framingOf(t, c.receiver)}
			var sent []byte
			for range 3 {
				sent = framingOf(t, c.sender).appendFrame(sent, []byte("some message"))
			}
			in.w += copy(in.space(), sent)
			var err error
			for ok := true; ok && err == nil; {
				_, ok, err = in.next()
			}
			require.Error(t, err)
			require.ErrorContains(t, err, "MaxMessageSize")
		})
	}
}

func TestMaxMessageSizeHasBounds(t *testing.T) {
	for _, max := range []int{-1, largestMessage + 1, math.MinInt, math.MaxInt} {
		_, err := newFraming(max)
		require.ErrorContains(t, err, "MaxMessageSize must be 0 to 1073741824, not ")
	}
}

// What an incomplete message holds follows what came of it, not what it announces.
func TestBufferGrowsWithWhatArrives(t *testing.T) {
	in := incoming{framing: framingOf(t, largestMessage)}
	header := in.appendHeader(nil, largestMessage)
	in.w += copy(in.space(), header)
	_, ok, err := in.next()
	require.NoError(t, err)
	require.False(t, ok)
	in.rest()
	require.Nil(t, in.buf)
	require.LessOrEqual(t, cap(in.stash), 16)
	for arrived := len(header); arrived < 10<<20; {
		space := in.space()
		require.LessOrEqual(t, len(in.buf), 2*max(arrived, readBuffer))
		in.w += len(space)
		arrived += len(space)
		_, ok, err := in.next()
		require.NoError(t, err)
		require.False(t, ok)
	}
}

func TestBufferOfALargeMessageIsNotKept(t *testing.T) {
	f := framingOf(t, 10<<20)
	in := incoming{framing: f}
	message := bytes.Repeat([]byte("x"), 10<<20)
	for rest := f.appendFrame(nil, message); len(rest) > 0; {
		n := copy(in.space(), rest)
		in.w += n
		rest = rest[n:]
	}
	got, ok, err := in.next()
	require.NoError(t, err)
	require.True(t, ok)
	require.Equal(t, message, got)
	in.rest()
	require.Nil(t, in.buf)
	in.space()
	require.Len(t, in.buf, readBuffer)
}
