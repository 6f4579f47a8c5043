package zstd_test

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"io"
	"slices"
	"strings"
	"testing"

	reference "github.com/klauspost/compress/zstd"
	"github.com/stretchr/testify/require"

	"github.com/arpc-go/arpc"
	"github.com/arpc-go/arpc/middleware/coder/internal/codertest"
	"github.com/arpc-go/arpc/middleware/coder/zstd"
)

const mib = 1 << 20

// Whatever is compressed, a plain zstd stream decoder reads it, and so do we.
func TestEncodeDecode(t *testing.T) {
	frameOf := func(n int) []byte { return make([]byte, n-codertest.Head) } // its payload
	for name, c := range map[string]struct {
		payload    []byte
		opts       []zstd.Option
		compressed bool
	}{
		"empty":              {nil, nil, false},
		"small":              {[]byte("hello"), nil, false},
		"at the threshold":   {frameOf(1024), nil, false},
		"over the threshold": {frameOf(1025), nil, true},
		"own threshold":      {make([]byte, 100), []zstd.Option{zstd.WithThreshold(50)}, true},
		"no threshold":       {make([]byte, 80), []zstd.Option{zstd.WithThreshold(0)}, true},
		"JSON":               {codertest.Orders(100 << 10), nil, true},
		"JSON, best":         {codertest.Orders(100 << 10), []zstd.Option{zstd.WithLevel(22)}, true},
		"larger than window": {codertest.Orders(3 * mib), nil, true},
		"noise":              {codertest.Noise(300 << 10), nil, false},
		"noise, then zeros":  {append(codertest.Noise(100<<10), make([]byte, 100<<10)...), nil, true},
		"over the maximum":   {make([]byte, 8192), []zstd.Option{zstd.WithMaxDecoded(4096)}, false},
		"at the maximum":     {frameOf(4096), []zstd.Option{zstd.WithMaxDecoded(4096)}, true},
	} {
		t.Run(name, func(t *testing.T) {
			coder := zstd.New(c.opts...)
			frame := codertest.Frame(c.payload)
			m := coder.Encode(nil, codertest.Message(frame))
			require.Equal(t, c.compressed, m.IsFlagBitSet(6))
			require.Equal(t, m.Len()-arpc.HeadLen, m.BodyLen())
			if !c.compressed {
				require.Equal(t, frame, m.Buffer)
			} else {
				require.Less(t, m.Len(), len(frame))
				require.Equal(t, frame[5:codertest.Head], m.Buffer[5:codertest.Head], "header and method are readable")
				require.True(t, bytes.Equal(c.payload, unpack(t, m.Buffer)))
			}
			m, err := coder.DecodeChecked(nil, m)
			require.NoError(t, err)
			require.True(t, bytes.Equal(frame, m.Buffer))
		})
	}
}

// unpack decompresses a payload with the stream decoder.
func unpack(tb testing.TB, frame []byte, opts ...reference.DOption) []byte {
	tb.Helper()
	plain, err := naive(frame[codertest.Head:], 1<<30, opts...)
	require.NoError(tb, err)
	return plain
}

// naive reads up to limit bytes with the stream decoder.
func naive(data []byte, limit int64, opts ...reference.DOption) ([]byte, error) {
	opts = append([]reference.DOption{reference.WithDecoderConcurrency(1)}, opts...)
	r, err := reference.NewReader(bytes.NewReader(data), opts...)
	if err != nil {
		return nil, err
	}
	defer r.Close()
	return io.ReadAll(io.LimitReader(r, limit))
}

// What another coder has compressed is not compressed again, whatever is in it.
func TestLeavesAlone(t *testing.T) {
	coder := zstd.New(zstd.WithThreshold(0))
	frame := codertest.Frame(make([]byte, 5000))
	for _, bit := range []int{5, 6, 7} {
		m := codertest.Message(frame)
		require.NoError(t, m.SetFlagBit(bit, true))
		before := bytes.Clone(m.Buffer)
		require.Equal(t, before, coder.Encode(nil, m).Buffer, "bit %d", bit)
	}
	cut := bytes.Clone(frame[:20]) // within the method
	require.Equal(t, frame[:20], coder.Encode(nil, codertest.Message(cut)).Buffer)
	for _, n := range []int{0, 4, 15} {
		m := codertest.Message(bytes.Repeat([]byte{0xff}, n))
		require.Equal(t, n, coder.Encode(nil, m).Len())
		m, err := coder.DecodeChecked(nil, m)
		require.NoError(t, err)
		require.Equal(t, n, m.Len())
	}
}

func TestRefuses(t *testing.T) {
	payload := codertest.Orders(5000)
	coder := zstd.New()
	sealed := coder.Encode(nil, codertest.Message(codertest.Frame(payload))).Buffer[codertest.Head:]
	other, err := reference.NewWriter(nil, reference.WithEncoderDictRaw(77, payload[:1000]))
	require.NoError(t, err)
	var stream bytes.Buffer
	unsized, err := reference.NewWriter(&stream, reference.WithEncoderConcurrency(1))
	require.NoError(t, err)
	_, err = unsized.Write(payload)
	require.NoError(t, err)
	require.NoError(t, unsized.Flush())
	require.NoError(t, unsized.Close())
	large := bomb(128<<10, 128<<10+1) // one block of more than it may have
	large[13] = 0x0b
	for name, c := range map[string]struct {
		data []byte
		says string
	}{
		"nothing":             {nil, "unexpected EOF"},
		"no zstd":             {payload, "magic"},
		"cut in the header":   {sealed[:6], "unexpected EOF"},
		"cut in the middle":   {sealed[:len(sealed)/2], "unexpected EOF"},
		"cut in the checksum": {sealed[:len(sealed)-1], "unexpected EOF"},
		"wrong checksum":      {append(bytes.Clone(sealed[:len(sealed)-1]), sealed[len(sealed)-1]^1), "CRC"},
		"trailing bytes":      {append(bytes.Clone(sealed), 1, 2, 3, 4, 5), "bytes follow"},
		"two frames":          {slices.Concat(sealed, sealed), "bytes follow"},
		"a frame to skip":     {[]byte{0x50, 0x2a, 0x4d, 0x18, 1, 0, 0, 0, 9}, "does not tell its decoded size"},
		"no size":             {stream.Bytes(), "does not tell its decoded size"},
		"another dictionary":  {other.EncodeAll(payload, nil), "dictionary"},
		"a size too large":    {bomb(5000, 10*mib), "its blocks have 5000 to 5000"},
		"a size too small":    {bomb(200<<10, 1000), "the frame says 1000 bytes, its blocks have"},
		"a block too large":   {large, "size exceeded"},
		"a block of no type":  {append(bomb(0, 0), 0x07, 0, 0), "no type"},
	} {
		t.Run(name, func(t *testing.T) {
			frame := codertest.Rewritten(6, c.data)
			m, err := coder.DecodeChecked(nil, codertest.Message(frame))
			require.ErrorContains(t, err, c.says)
			require.ErrorContains(t, err, "zstd: ")
			require.Equal(t, frame[:codertest.Head], m.Buffer[:codertest.Head], "for whoever is to be told")
			require.Nil(t, coder.Decode(nil, codertest.Message(frame)))

			m, err = coder.DecodeChecked(nil, codertest.Message(codertest.Rewritten(6, sealed))) // nothing of it sticks
			require.NoError(t, err)
			require.True(t, bytes.Equal(payload, m.Data()))
		})
	}
	cut := codertest.Rewritten(6, nil)[:20]
	_, err = coder.DecodeChecked(nil, codertest.Message(cut))
	require.ErrorContains(t, err, "within its method")
}

func TestRefusesOverTheLimit(t *testing.T) {
	frame := codertest.Frame(make([]byte, 5000))
	sealed := zstd.New().Encode(nil, codertest.Message(frame)).Buffer
	withMetadata := bytes.Clone(sealed)
	withMetadata[6] |= 0x04
	for name, c := range map[string]struct {
		client *arpc.Client
		coder  *zstd.Zstd
		sealed []byte
		says   string // nothing: it is within the limit
	}{
		"own":                                   {nil, zstd.New(zstd.WithMaxDecoded(5022)), sealed, "a frame of 5023 bytes after decoding is over the limit of 5022 (zstd.WithMaxDecoded)"},
		"the client's":                          {codertest.Client(5006), zstd.New(), sealed, "a frame of 5023 bytes after decoding is over the limit of 5022 (arpc.WithMaxBodyLen)"},
		"own is smaller":                        {codertest.Client(5006), zstd.New(zstd.WithMaxDecoded(5000)), sealed, "the limit of 5000 (zstd.WithMaxDecoded)"},
		"own is larger":                         {codertest.Client(5006), zstd.New(zstd.WithMaxDecoded(mib)), sealed, "the limit of 5022 (arpc.WithMaxBodyLen)"},
		"less than a head":                      {codertest.Client(1), zstd.New(), sealed, "the limit of 17 (arpc.WithMaxBodyLen)"},
		"just own":                              {nil, zstd.New(zstd.WithMaxDecoded(5023)), sealed, ""},
		"just the client's":                     {codertest.Client(5007), zstd.New(), sealed, ""},
		"with metadata, which has other limits": {codertest.Client(4096), zstd.New(), withMetadata, ""},
	} {
		t.Run(name, func(t *testing.T) {
			m, err := c.coder.DecodeChecked(c.client, codertest.Message(c.sealed))
			if c.says == "" {
				require.NoError(t, err)
				require.Len(t, m.Buffer, len(frame))
				return
			}
			require.ErrorContains(t, err, c.says)
			require.Equal(t, arpc.CodeResourceExhausted, arpc.CodeOf(err))
			require.Equal(t, codertest.Method, m.Method())
		})
	}
}

// bomb returns a frame of RLE blocks that decodes to n zeros, with a header that
// claims another size.
func bomb(n, claims int64) []byte {
	b := []byte{0x28, 0xb5, 0x2f, 0xfd, 0b1110_0000} // one segment, a size of eight bytes
	b = binary.LittleEndian.AppendUint64(b, uint64(claims))
	for n > 0 {
		block := min(n, 128<<10)
		n -= block
		header := uint32(block)<<3 | 1<<1 // RLE
		if n == 0 {
			header |= 1 // the last
		}
		b = append(b, byte(header), byte(header>>8), byte(header>>16), 0)
	}
	return b
}

// No bomb is decoded beyond the limit, whatever it says.
func TestBomb(t *testing.T) {
	const limit = 8 * mib
	for name, c := range map[string]struct {
		claims int64
		says   string
		most   uint64 // bytes allocated
	}{
		"says what it is":       {1 << 30, "over the limit", mib},
		"says more than it can": {1 << 40, "its blocks have", mib},
		"says less":             {1000, "its blocks have", mib},
		"says it fits":          {limit - int64(codertest.Head), "its blocks have", mib},
	} {
		t.Run(name, func(t *testing.T) {
			coder := zstd.New(zstd.WithMaxDecoded(limit))
			frame := codertest.Rewritten(6, bomb(1<<30, c.claims))
			require.Less(t, len(frame), 64<<10)
			var err error
			n := codertest.Allocated(func() { _, err = coder.DecodeChecked(nil, codertest.Message(frame)) })
			require.ErrorContains(t, err, c.says)
			require.LessOrEqual(t, n, c.most)
		})
	}
}

func TestOptionsThatMakeNoSense(t *testing.T) {
	for name, opt := range map[string]zstd.Option{
		"negative threshold":   zstd.WithThreshold(-1),
		"level 0":              zstd.WithLevel(0),
		"level 23":             zstd.WithLevel(23),
		"less than a header":   zstd.WithMaxDecoded(15),
		"an empty dictionary":  zstd.WithDictionary(nil),
		"a long dictionary":    zstd.WithDictionary(make([]byte, zstd.MaxDictionary+1)),
		"a corrupt dictionary": zstd.WithDictionary([]byte("\x37\xa4\x30\xec" + strings.Repeat("x", 100))),
	} {
		t.Run(name, func(t *testing.T) {
			require.Panics(t, func() { zstd.New(opt) })
		})
	}
}

// What was compressed once stays readable: this is the example of docs/CODERS.md.
func TestVector(t *testing.T) {
	b, err := hex.DecodeString("210000004001000701000000000000002f6d6574686f6428b52ffd24296d00003068656c6c6f20015406032012ad8a76fa")
	require.NoError(t, err)
	m, err := zstd.New().DecodeChecked(nil, codertest.Message(b))
	require.NoError(t, err)
	require.Equal(t, codertest.Frame([]byte("hello hello hello hello hello hello hello")), m.Buffer)
}
