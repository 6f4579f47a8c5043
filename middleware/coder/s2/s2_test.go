package s2_test

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/arpc-go/arpc"
	"github.com/arpc-go/arpc/arpctest"
	"github.com/arpc-go/arpc/middleware/coder/internal/codertest"
	"github.com/arpc-go/arpc/middleware/coder/s2"
)

const mib = 1 << 20

func TestEncodeDecode(t *testing.T) {
	frameOf := func(n int) []byte { return make([]byte, n-codertest.Head) } // its payload
	for name, c := range map[string]struct {
		payload    []byte
		opts       []s2.Option
		compressed bool
	}{
		"empty":              {nil, nil, false},
		"small":              {[]byte("hello"), nil, false},
		"at the threshold":   {frameOf(1024), nil, false},
		"over the threshold": {frameOf(1025), nil, true},
		"own threshold":      {make([]byte, 100), []s2.Option{s2.WithThreshold(50)}, true},
		"JSON":               {codertest.Orders(100 << 10), nil, true},
		"JSON, better":       {codertest.Orders(100 << 10), []s2.Option{s2.WithLevel(2)}, true},
		"JSON, best":         {codertest.Orders(100 << 10), []s2.Option{s2.WithLevel(3)}, true},
		"large":              {codertest.Orders(9 * mib), nil, true},
		"zeros":              {make([]byte, mib), []s2.Option{s2.WithLevel(3)}, true},
		"noise":              {codertest.Noise(300 << 10), nil, false},
		"noise, short":       {codertest.Noise(40), []s2.Option{s2.WithThreshold(0)}, false},
		"over the maximum":   {make([]byte, 8192), []s2.Option{s2.WithMaxDecoded(4096)}, false},
		"at the maximum":     {frameOf(4096), []s2.Option{s2.WithMaxDecoded(4096)}, true},
	} {
		t.Run(name, func(t *testing.T) {
			coder := s2.New(c.opts...)
			frame := codertest.Frame(c.payload)
			m := coder.Encode(nil, codertest.Message(frame))
			require.Equal(t, c.compressed, m.IsFlagBitSet(5))
			require.Equal(t, m.Len()-arpc.HeadLen, m.BodyLen())
			if !c.compressed {
				require.Equal(t, frame, m.Buffer)
			} else {
				require.Less(t, m.Len(), len(frame))
				require.Equal(t, frame[5:codertest.Head], m.Buffer[5:codertest.Head], "header and method are readable")
				plain, ok := naive(m.Data(), len(c.payload))
				require.True(t, ok)
				require.True(t, bytes.Equal(c.payload, plain))
			}
			m, err := coder.DecodeChecked(nil, m)
			require.NoError(t, err)
			require.True(t, bytes.Equal(frame, m.Buffer))
		})
	}
}

func TestLeavesAlone(t *testing.T) {
	coder := s2.New(s2.WithThreshold(0))
	for _, bit := range []int{5, 6, 7} {
		m := codertest.Message(codertest.Frame(make([]byte, 5000)))
		require.NoError(t, m.SetFlagBit(bit, true))
		before := bytes.Clone(m.Buffer)
		require.Equal(t, before, coder.Encode(nil, m).Buffer, "bit %d", bit)
	}
}

// bomb returns a checksum and a block that decodes to n zeros, with a length that
// claims another one.
func bomb(n, claims int64) []byte {
	b := binary.AppendUvarint([]byte{0, 0, 0, 0}, uint64(claims))
	b = append(b, 0, 0)       // one zero
	b = append(b, 0x02, 1, 0) // one more of one byte before
	for n -= 2; n > 0; {
		repeat := min(n, 4+1<<16+1<<24-1)
		if repeat < 4+1<<16 {
			break // as near as it gets
		}
		length := repeat - 4 - 1<<16
		b = append(b, 7<<2|1, 0, byte(length), byte(length>>8), byte(length>>16))
		n -= repeat
	}
	return b
}

func TestRefuses(t *testing.T) {
	payload := codertest.Orders(5000)
	coder := s2.New()
	sealed := coder.Encode(nil, codertest.Message(codertest.Frame(payload))).Data()
	flipped := func(at int) []byte {
		b := bytes.Clone(sealed)
		b[at] ^= 1
		return b
	}
	for name, c := range map[string]struct {
		data []byte
		says string
	}{
		"nothing":             {nil, "unexpected EOF"},
		"no length":           {sealed[:4], "corrupt"},
		"no block":            {sealed[:6], "corrupt"},
		"cut in the middle":   {sealed[:len(sealed)/2], "corrupt"},
		"cut at the end":      {sealed[:len(sealed)-1], "corrupt"},
		"wrong checksum":      {flipped(2), "checksum"},
		"wrong bytes":         {flipped(len(sealed) - 1), "corrupt"},
		"wrong text":          {flipped(15), "checksum"},
		"trailing bytes":      {append(bytes.Clone(sealed), 0, 'x'), "corrupt"},
		"two blocks":          {slices.Concat(sealed, sealed[4:]), "corrupt"},
		"a length too large":  {bomb(1<<20, 1<<21), "corrupt"},
		"a length too small":  {bomb(1<<20, 1000), "corrupt"},
		"a length of 1 << 40": {bomb(1<<20, 1<<40), "corrupt"},
	} {
		t.Run(name, func(t *testing.T) {
			frame := codertest.Rewritten(5, c.data)
			m, err := coder.DecodeChecked(nil, codertest.Message(frame))
			require.ErrorContains(t, err, c.says)
			require.ErrorContains(t, err, "s2: ")
			require.Equal(t, frame, m.Buffer, "for whoever is to be told")
			require.Nil(t, coder.Decode(nil, codertest.Message(frame)))
		})
	}
}

func TestRefusesOverTheLimit(t *testing.T) {
	frame := codertest.Frame(make([]byte, 5000))
	sealed := s2.New().Encode(nil, codertest.Message(frame)).Buffer
	for name, c := range map[string]struct {
		client *arpc.Client
		coder  *s2.S2
		says   string // nothing: it is within the limit
	}{
		"own":               {nil, s2.New(s2.WithMaxDecoded(5022)), "a frame of 5023 bytes after decoding is over the limit of 5022 (s2.WithMaxDecoded)"},
		"the client's":      {codertest.Client(5006), s2.New(), "a frame of 5023 bytes after decoding is over the limit of 5022 (arpc.WithMaxBodyLen)"},
		"just own":          {nil, s2.New(s2.WithMaxDecoded(5023)), ""},
		"just the client's": {codertest.Client(5007), s2.New(), ""},
	} {
		t.Run(name, func(t *testing.T) {
			m, err := c.coder.DecodeChecked(c.client, codertest.Message(sealed))
			if c.says == "" {
				require.NoError(t, err)
				require.Equal(t, frame, m.Buffer)
				return
			}
			require.ErrorContains(t, err, c.says)
			require.Equal(t, arpc.CodeResourceExhausted, arpc.CodeOf(err))
			require.Equal(t, codertest.Method, m.Method())
		})
	}
}

// No bomb is decoded beyond the limit, whatever it says.
func TestBomb(t *testing.T) {
	const limit = 8 * mib
	for name, c := range map[string]struct {
		claims int64
		says   string
		most   uint64 // bytes allocated
	}{
		"says what it is": {1 << 30, "over the limit", mib},
		"says less":       {1000, "corrupt", mib},
		"says it fits":    {limit - int64(codertest.Head), "corrupt", limit + mib},
	} {
		t.Run(name, func(t *testing.T) {
			coder := s2.New(s2.WithMaxDecoded(limit))
			frame := codertest.Rewritten(5, bomb(1<<30, c.claims))
			require.Less(t, len(frame), 1000)
			var err error
			n := codertest.Allocated(func() { _, err = coder.DecodeChecked(nil, codertest.Message(frame)) })
			require.ErrorContains(t, err, c.says)
			require.LessOrEqual(t, n, c.most)
		})
	}
}

func TestOptionsThatMakeNoSense(t *testing.T) {
	for name, opt := range map[string]s2.Option{
		"negative threshold": s2.WithThreshold(-1),
		"level 0":            s2.WithLevel(0),
		"level 4":            s2.WithLevel(4),
		"less than a header": s2.WithMaxDecoded(15),
	} {
		t.Run(name, func(t *testing.T) {
			require.Panics(t, func() { s2.New(opt) })
		})
	}
}

func TestConformance(t *testing.T) {
	arpctest.Coder(t, func() arpc.MessageCoder { return s2.New(s2.WithThreshold(0)) }, spec())
}

func spec() arpctest.CoderSpec {
	return arpctest.CoderSpec{
		Checked: true,
		Bomb:    func(n int64) []byte { return codertest.Rewritten(5, bomb(n, n)) },
	}
}

// What was compressed once stays readable: this is the example of docs/CODERS.md.
func TestVector(t *testing.T) {
	b, err := hex.DecodeString("160000002001000701000000000000002f6d6574686f6496889278291468656c6c6f208a0600")
	require.NoError(t, err)
	m, err := s2.New().DecodeChecked(nil, codertest.Message(b))
	require.NoError(t, err)
	require.Equal(t, codertest.Frame([]byte("hello hello hello hello hello hello hello")), m.Buffer)
}
