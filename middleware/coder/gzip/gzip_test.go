package gzip_test

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/arpc-go/arpc"
	"github.com/arpc-go/arpc/middleware/coder/gzip"
)

// Whatever is compressed, the standard library reads it, and so do we.
func TestEncodeDecode(t *testing.T) {
	for name, c := range map[string]struct {
		payload    []byte
		opts       []gzip.Option
		compressed bool
	}{
		"empty":              {nil, nil, false},
		"small":              {[]byte("hello"), nil, false},
		"at the threshold":   {make([]byte, 1024-arpc.HeadLen-len("/m")), nil, false},
		"over the threshold": {make([]byte, 1025-arpc.HeadLen-len("/m")), nil, true},
		"own threshold":      {make([]byte, 100), []gzip.Option{gzip.WithThreshold(50)}, true},
		"no threshold":       {make([]byte, 80), []gzip.Option{gzip.WithThreshold(0)}, true},
		"JSON":               {orders(100 << 10), nil, true},
		"JSON, best":         {orders(100 << 10), []gzip.Option{gzip.WithLevel(9)}, true},
		"large":              {orders(3 << 20), nil, true},
		"noise":              {noise(300 << 10), nil, false},
		"noise, short":       {noise(40), []gzip.Option{gzip.WithThreshold(0)}, false},
		"noise, then zeros":  {append(noise(100<<10), make([]byte, 100<<10)...), nil, true},
		"over the maximum":   {make([]byte, 8192), []gzip.Option{gzip.WithMaxDecoded(4096)}, false},
		"at the maximum":     {make([]byte, 4096-arpc.HeadLen-len("/m")), []gzip.Option{gzip.WithMaxDecoded(4096)}, true},
	} {
		t.Run(name, func(t *testing.T) {
			coder := gzip.New(c.opts...)
			frame := frameOf(c.payload)
			m := coder.Encode(nil, messageOf(frame))
			require.Equal(t, c.compressed, m.IsFlagBitSet(7))
			require.Equal(t, m.Len()-arpc.HeadLen, m.BodyLen())
			if !c.compressed {
				require.Equal(t, frame, m.Buffer)
			} else {
				require.Less(t, m.Len(), len(frame))
				plain, err := unseal(m.Buffer, len(frame)+1)
				require.NoError(t, err)
				require.True(t, bytes.Equal(frame, plain))
			}
			m, err := coder.DecodeChecked(nil, m)
			require.NoError(t, err)
			require.True(t, bytes.Equal(frame, m.Buffer))
		})
	}
}

// What was attached to a message stays attached, and the reserved bits of other
// coders stay as they are.
func TestKeepsTheRest(t *testing.T) {
	coder := gzip.New()
	m := messageOf(frameOf(make([]byte, 2000)))
	m.Set("key", "value")
	require.NoError(t, m.SetFlagBit(3, true))
	before := bytes.Clone(m.Buffer)

	m = coder.Encode(nil, m)
	require.True(t, m.IsFlagBitSet(7))
	require.True(t, m.IsFlagBitSet(3))
	m = coder.Decode(nil, m)
	require.Equal(t, before, m.Buffer)
	v, _ := m.Get("key")
	require.Equal(t, "value", v)
}

func TestLeavesAlone(t *testing.T) {
	short := func(n int) []byte { return bytes.Repeat([]byte{marked}, n) }
	for name, frame := range map[string][]byte{
		"nothing":             {},
		"up to the mark":      short(5),
		"less than a header":  short(15),
		"a header":            make([]byte, 16),
		"the mark of another": fixed(frameOf(make([]byte, 5000))),
	} {
		t.Run(name, func(t *testing.T) {
			coder := gzip.New(gzip.WithThreshold(0))
			require.Equal(t, frame, coder.Encode(nil, messageOf(frame)).Buffer[:len(frame):len(frame)])
		})
	}
	for _, n := range []int{0, 4, 5, 15} {
		m, err := gzip.New().DecodeChecked(nil, messageOf(short(n)))
		require.NoError(t, err)
		require.Equal(t, n, m.Len())
	}
}

func TestVectors(t *testing.T) {
	frames := captured(t)
	require.Len(t, frames, 2)
	coder := gzip.New(gzip.WithThreshold(100))
	for i, sealed := range frames {
		want, err := unseal(sealed, 1<<20)
		require.NoError(t, err)
		m, err := coder.DecodeChecked(nil, messageOf(sealed))
		require.NoError(t, err)
		require.Equal(t, want, m.Buffer)
		require.False(t, m.IsFlagBitSet(7))
		require.Equal(t, []byte{arpc.CmdRequest, arpc.CmdResponse}[i], m.Cmd())
		require.Equal(t, "/echo", m.Method())
		require.True(t, strings.HasPrefix(string(m.Data()), "compress me please "))

		again := coder.Encode(nil, m)
		require.True(t, again.IsFlagBitSet(7))
		plain, err := unseal(again.Buffer, 1<<20)
		require.NoError(t, err)
		require.Equal(t, want, plain)
	}
}

// captured returns the frames that deployed peers have compressed.
func captured(tb testing.TB) (frames [][]byte) {
	tb.Helper()
	data, err := os.ReadFile("../../../docs/vectors/arpc-v1.json")
	require.NoError(tb, err)
	var scenarios []struct {
		Name   string
		Frames []struct {
			Hex string `json:"frame_hex"`
		}
	}
	require.NoError(tb, json.Unmarshal(data, &scenarios))
	for _, s := range scenarios {
		for _, f := range s.Frames {
			if b, err := hex.DecodeString(f.Hex); s.Name == "coder-gzip" {
				require.NoError(tb, err)
				frames = append(frames, b)
			}
		}
	}
	return frames
}

func TestRefuses(t *testing.T) {
	frame := frameOf(orders(5000))
	sealed := seal(t, frame)
	trailer := func(n uint32) []byte {
		b := bytes.Clone(sealed)
		binary.LittleEndian.PutUint32(b[len(b)-4:], n)
		return b
	}
	flipped := func(at int) []byte {
		b := bytes.Clone(sealed)
		b[at] ^= 0x55
		return b
	}
	for name, c := range map[string]struct {
		sealed []byte
		says   string
	}{
		"no gzip at all":           {fixed(frameOf(make([]byte, 100))), "less than a message header"},
		"no gzip data":             {fixed(append(bytes.Clone(sealed[:5]), make([]byte, 11)...)), "less than a gzip header"},
		"cut in the gzip header":   {fixed(append(bytes.Clone(sealed[:5]), 0x1f, 0x8b, 8, 4, 0, 0, 0, 0, 0, 255, 0xff, 0xff, 0, 0, 0, 0, 0, 8, 0, 0)), "unexpected EOF"},
		"cut in the trailer":       {fixed(bytes.Clone(sealed[:len(sealed)-3])), "cannot hold"},
		"cut in the middle":        {fixed(append(bytes.Clone(sealed[:500]), 0, 8, 0, 0)), "unexpected EOF"},
		"wrong magic":              {flipped(5), "invalid header"},
		"wrong data":               {flipped(200), "corrupt"},
		"wrong checksum":           {flipped(len(sealed) - 8), "checksum"},
		"trailer says less":        {trailer(100), "more bytes than its trailer says"},
		"trailer says more":        {trailer(uint32(len(frame))), "checksum"},
		"trailer says too much":    {trailer(1 << 31), "cannot hold"},
		"trailing zeros":           {fixed(append(bytes.Clone(sealed), make([]byte, 8)...)), "less than a message header"},
		"trailing bytes":           {fixed(append(bytes.Clone(sealed), sealed[len(sealed)-4:]...)), "bytes follow"},
		"trailing bytes, too long": {fixed(append(bytes.Clone(sealed), 0, 0x20, 0, 0)), "bytes follow"},
		"two streams":              {fixed(append(bytes.Clone(sealed), sealed[5:]...)), "bytes follow"},
		"an empty stream":          {seal(t, frame[:5]), "less than a message header"},
		"half a header":            {seal(t, frame[:15]), "less than a message header"},
	} {
		t.Run(name, func(t *testing.T) {
			coder := gzip.New()
			m, err := coder.DecodeChecked(nil, messageOf(c.sealed))
			require.ErrorContains(t, err, c.says)
			require.ErrorContains(t, err, "gzip: ")
			require.Nil(t, m)
			require.Nil(t, coder.Decode(nil, messageOf(c.sealed)))

			m, err = coder.DecodeChecked(nil, messageOf(sealed)) // nothing of it sticks
			require.NoError(t, err)
			require.Equal(t, frame, m.Buffer)
		})
	}
}

// Of a message over the limit the header and the method come back, for whoever
// is to be told.
func TestRefusesOverTheLimit(t *testing.T) {
	frame := frameOf(make([]byte, 5000))
	client := func(maxBody int) *arpc.Client {
		return &arpc.Client{Handler: arpc.NewHandler(arpc.WithMaxBodyLen(maxBody))}
	}
	for name, c := range map[string]struct {
		client *arpc.Client
		coder  *gzip.Gzip
		says   string
	}{
		"own":              {nil, gzip.New(gzip.WithMaxDecoded(5017)), "a frame of 5018 bytes after decoding is over the limit of 5017 (gzip.WithMaxDecoded)"},
		"the client's":     {client(5001), gzip.New(), "a frame of 5018 bytes after decoding is over the limit of 5017 (arpc.WithMaxBodyLen)"},
		"own is smaller":   {client(5001), gzip.New(gzip.WithMaxDecoded(5000)), "the limit of 5000 (gzip.WithMaxDecoded)"},
		"own is larger":    {client(5000), gzip.New(gzip.WithMaxDecoded(1 << 20)), "the limit of 5016 (arpc.WithMaxBodyLen)"},
		"less than a head": {client(1), gzip.New(), "the limit of 17 (arpc.WithMaxBodyLen)"},
	} {
		t.Run(name, func(t *testing.T) {
			m, err := c.coder.DecodeChecked(c.client, messageOf(seal(t, frame)))
			require.ErrorContains(t, err, c.says)
			require.Equal(t, arpc.CodeResourceExhausted, arpc.CodeOf(err))
			require.Equal(t, frame[:arpc.HeadLen+len("/m")], m.Buffer)
			require.Nil(t, c.coder.Decode(c.client, messageOf(seal(t, frame))))
		})
	}
	for name, c := range map[string]struct {
		client *arpc.Client
		coder  *gzip.Gzip
	}{
		"own":              {nil, gzip.New(gzip.WithMaxDecoded(5018))},
		"the client's":     {client(5002), gzip.New()},
		"larger than ours": {client(100 << 20), gzip.New()},
	} {
		t.Run("within: "+name, func(t *testing.T) {
			m, err := c.coder.DecodeChecked(c.client, messageOf(seal(t, frame)))
			require.NoError(t, err)
			require.Equal(t, frame, m.Buffer)
		})
	}
}

// No cut of a frame passes, wherever it is.
func TestRefusesEveryCut(t *testing.T) {
	coder := gzip.New()
	sealed := seal(t, frameOf(orders(1500)))
	for n := arpc.HeadLen; n < len(sealed); n++ {
		_, err := coder.DecodeChecked(nil, messageOf(fixed(bytes.Clone(sealed[:n]))))
		require.Error(t, err, n)
	}
}

func TestConcurrentUse(t *testing.T) {
	coder := gzip.New()
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			for n := range 20 {
				frame := frameOf(slices.Concat(orders(1000+500*n), noise(i*300)))
				m := coder.Decode(nil, coder.Encode(nil, messageOf(frame)))
				if !bytes.Equal(frame, m.Buffer) {
					t.Errorf("frame %d of goroutine %d has changed", n, i)
				}
			}
		})
	}
	wg.Wait()
}

func TestOptionsThatMakeNoSense(t *testing.T) {
	for name, opt := range map[string]gzip.Option{
		"negative threshold": gzip.WithThreshold(-1),
		"level 0":            gzip.WithLevel(0),
		"level 10":           gzip.WithLevel(10),
		"less than a header": gzip.WithMaxDecoded(15),
	} {
		t.Run(name, func(t *testing.T) {
			require.Panics(t, func() { gzip.New(opt) })
		})
	}
}
