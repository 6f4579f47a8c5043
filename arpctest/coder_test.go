package arpctest

import (
	"bytes"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/arpc-go/arpc"
)

// TestCoder has the kit pass coders that are right.
func TestCoder(t *testing.T) {
	t.Run("one that does nothing", func(t *testing.T) {
		Coder(t, func() arpc.MessageCoder { return broken{} }, CoderSpec{})
	})
	t.Run("one with a checksum", func(t *testing.T) {
		Coder(t, func() arpc.MessageCoder { return checksum() }, CoderSpec{Checked: true})
	})
	t.Run("one with a name", func(t *testing.T) {
		Coder(t, func() arpc.MessageCoder { return named{checksum(), func() string { return "sum" }} }, CoderSpec{Checked: true})
	})
	t.Run("one that refuses replays", func(t *testing.T) {
		Coder(t, func() arpc.MessageCoder { return new(numbered) }, CoderSpec{Authentic: true})
	})
}

// broken is a coder made of functions, which do nothing where they are nil.
type broken struct {
	encode, decode func(*arpc.Message) *arpc.Message
}

func (b broken) Encode(_ *arpc.Client, m *arpc.Message) *arpc.Message {
	if b.encode == nil {
		return m
	}
	return b.encode(m)
}

func (b broken) Decode(_ *arpc.Client, m *arpc.Message) *arpc.Message {
	if b.decode == nil {
		return m
	}
	return b.decode(m)
}

// checked is broken with a DecodeChecked.
type checked struct {
	broken
	decodeChecked func(*arpc.Message) (*arpc.Message, error)
}

func (c checked) DecodeChecked(_ *arpc.Client, m *arpc.Message) (*arpc.Message, error) {
	return c.decodeChecked(m)
}

const testBit = 3

// sum returns the checksum of all of a message but the length.
func sum(m *arpc.Message) []byte {
	digest := sha256.Sum256(m.Buffer[4:])
	return digest[:8]
}

// refit sets the length of a message.
func refit(m *arpc.Message) *arpc.Message {
	m.Buffer = fitted(m.Buffer)
	return m
}

// checksum is a coder that appends one to all messages.
func checksum() broken {
	return broken{
		encode: func(m *arpc.Message) *arpc.Message {
			m.SetFlagBit(testBit, true)
			m.Buffer = append(m.Buffer, sum(m)...)
			return refit(m)
		},
		decode: func(m *arpc.Message) *arpc.Message {
			n := m.Len() - 8
			switch {
			case m.Len() < arpc.HeadLen, !m.IsFlagBitSet(testBit):
				return m
			case n < arpc.HeadLen:
				return nil
			}
			want := bytes.Clone(m.Buffer[n:])
			m.Buffer = m.Buffer[:n]
			if !bytes.Equal(sum(m), want) {
				return nil
			}
			m.SetFlagBit(testBit, false)
			return refit(m)
		},
	}
}

// numbered is checksum that refuses what has none, and what came before.
type numbered struct {
	mu   sync.Mutex
	sent uint64
	came map[uint64]bool
}

func (n *numbered) Encode(c *arpc.Client, m *arpc.Message) *arpc.Message {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.sent++
	m.Buffer = binary.BigEndian.AppendUint64(m.Buffer, n.sent)
	return checksum().Encode(c, m)
}

// PerSend has pushed messages numbered each time.
func (n *numbered) PerSend() bool { return true }

func (n *numbered) Decode(c *arpc.Client, m *arpc.Message) *arpc.Message {
	if m.Len() < arpc.HeadLen+16 || !m.IsFlagBitSet(testBit) {
		return nil
	}
	if m = checksum().Decode(c, m); m == nil {
		return nil
	}
	at := m.Len() - 8
	number := binary.BigEndian.Uint64(m.Buffer[at:])
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.came == nil {
		n.came = make(map[uint64]bool)
	}
	if n.came[number] {
		return nil
	}
	n.came[number] = true
	m.Buffer = m.Buffer[:at]
	return refit(m)
}

// named is broken with a name.
type named struct {
	broken
	name func() string
}

func (n named) CoderName() string { return n.name() }

// The kit finds what is wrong with a coder.
func TestCoderFinds(t *testing.T) {
	var shared []byte
	same := func(m *arpc.Message) *arpc.Message { return m }
	for name, c := range map[string]struct {
		coder arpc.MessageCoder
		spec  CoderSpec
		check string
		says  string
	}{
		"has no name":       {named{broken{}, func() string { return "" }}, CoderSpec{}, "name", "has 1 to 64 bytes"},
		"has two names":     {named{broken{}, func() string { return "a,b" }}, CoderSpec{}, "name", "no comma"},
		"changes names":     {named{broken{}, rand.Text}, CoderSpec{}, "name", "two ends that are set up alike"},
		"refuses":           {broken{encode: func(*arpc.Message) *arpc.Message { return nil }}, CoderSpec{}, "round trip", "it was refused"},
		"refuses to decode": {broken{decode: func(*arpc.Message) *arpc.Message { return nil }}, CoderSpec{}, "round trip", "it was refused"},
		"wrong length": {broken{encode: func(m *arpc.Message) *arpc.Message {
			m.Buffer = append(m.Buffer, 0)
			return m
		}}, CoderSpec{}, "round trip", "whose length is said to be"},
		"taken for a ping": {broken{encode: func(m *arpc.Message) *arpc.Message {
			m.SetCmd(arpc.CmdPong)
			return m
		}}, CoderSpec{}, "round trip", "taken for a ping"},
		"grows": {broken{encode: func(m *arpc.Message) *arpc.Message {
			m.Buffer = append(m.Buffer, make([]byte, 300)...)
			return refit(m)
		}}, CoderSpec{}, "round trip", "MaxGrowth"},
		"changes a byte": {broken{decode: func(m *arpc.Message) *arpc.Message {
			m.Buffer[m.Len()-1] ^= 1
			return m
		}}, CoderSpec{}, "round trip", "want"},
		"takes the bits of others": {broken{decode: func(m *arpc.Message) *arpc.Message {
			m.Buffer[4] = 0
			return m
		}}, CoderSpec{}, "round trip", "of other coders"},
		"loses values":   {broken{}, CoderSpec{Values: map[any]any{"k": "v"}}, "round trip", "the value of k"},
		"needs a client": {broken{encode: func(m *arpc.Message) *arpc.Message { panic("no client") }}, CoderSpec{}, "without a client", "no client"},
		"uses a buffer again": {broken{encode: func(m *arpc.Message) *arpc.Message {
			shared = append(shared[:0], m.Buffer...)
			m.Buffer = shared
			return m
		}}, CoderSpec{}, "leave alone what was returned", "has changed since"},
		"panics": {broken{decode: func(m *arpc.Message) *arpc.Message {
			_ = m.Buffer[m.MethodLen()+100]
			return m
		}}, CoderSpec{}, "noise", "panic"},
		"returns nothing":       {checked{broken{}, func(*arpc.Message) (*arpc.Message, error) { return nil, nil }}, CoderSpec{}, "noise", "neither a message nor an error"},
		"is of two minds":       {checked{broken{}, func(*arpc.Message) (*arpc.Message, error) { return nil, errors.New("no") }}, CoderSpec{}, "noise", "where DecodeChecked refuses"},
		"decodes to nothing":    {broken{decode: func(m *arpc.Message) *arpc.Message { return &arpc.Message{Buffer: make([]byte, 20)} }}, CoderSpec{}, "noise", "whose length is said to be"},
		"notices nothing":       {broken{encode: marked, decode: unmarked}, CoderSpec{Checked: true}, "damaged frames", "neither refused nor as it was"},
		"authenticates nothing": {broken{}, CoderSpec{Authentic: true}, "damaged frames", "not refused"},
		"allocates what is said": {broken{encode: same, decode: func(m *arpc.Message) *arpc.Message {
			if m.Len() > arpc.HeadLen {
				waste = make([]byte, m.Seq()%(1<<27))
			}
			return m
		}}, CoderSpec{}, "damaged frames", "allocated"},
		"allows replays": {checksum(), CoderSpec{Authentic: true}, "replay", "received twice"},
		"has no limit": {broken{encode: func(m *arpc.Message) *arpc.Message {
			n := m.Len()
			m.Buffer = binary.BigEndian.AppendUint32(m.Buffer[:arpc.HeadLen], uint32(n))
			return refit(m)
		}, decode: func(m *arpc.Message) *arpc.Message {
			m.Buffer = append(m.Buffer[:arpc.HeadLen], make([]byte, binary.BigEndian.Uint32(m.Buffer[arpc.HeadLen:])-arpc.HeadLen)...)
			return refit(m)
		}}, CoderSpec{}, "limit", "more than the limit"},
		"takes a bomb": {broken{decode: same}, CoderSpec{Bomb: func(n int64) []byte {
			return frame(arpc.CmdRequest, 0, "/echo", "", nil)
		}}, "bombs", "not refused"},
	} {
		t.Run(name, func(t *testing.T) {
			k := newCoderKit(func() arpc.MessageCoder { return c.coder }, c.spec)
			found := false
			for _, check := range k.checks() {
				if check.name == c.check {
					found = true
					require.Empty(t, check.skip)
					require.ErrorContains(t, caught(check.run), c.says)
				}
			}
			require.True(t, found)
		})
	}
}

var waste []byte

func marked(m *arpc.Message) *arpc.Message {
	m.SetFlagBit(testBit, true)
	return m
}

func unmarked(m *arpc.Message) *arpc.Message {
	if m.Len() >= arpc.HeadLen {
		m.SetFlagBit(testBit, false)
	}
	return m
}

// What only goes wrong between two ends is found there.
func TestCoderFindsOverTheWire(t *testing.T) {
	corrupt := func(cmd byte) func(m *arpc.Message) *arpc.Message {
		return func(m *arpc.Message) *arpc.Message {
			if m.Cmd() == cmd && len(m.Data()) > 0 {
				m.Buffer[m.Len()-1]++
			}
			return m
		}
	}
	for name, c := range map[string]struct {
		cmd  byte
		says string
	}{
		"responses":     {arpc.CmdResponse, "call"},
		"streams":       {arpc.CmdStream, "stream: got"},
		"notifications": {arpc.CmdNotify, "pushed message 0"},
	} {
		t.Run(name, func(t *testing.T) {
			coder := broken{decode: corrupt(c.cmd)}
			k := newCoderKit(func() arpc.MessageCoder { return coder }, CoderSpec{})
			require.ErrorContains(t, overTheWire(New(t, Memory(), k.setup(true))), c.says)
		})
	}
}

// The targets of FuzzCoder find what Coder finds.
func TestCoderFuzzFinds(t *testing.T) {
	run := func(coder arpc.MessageCoder, spec CoderSpec, data string) (errs []error) {
		k := newCoderKit(func() arpc.MessageCoder { return coder }, spec)
		for _, act := range fuzzActs {
			errs = append(errs, caught(func() error { return act(k, []byte(data)) }))
		}
		return errs
	}
	const data = "\xff\xff some bytes that are as long as a header"
	require.Equal(t, []error{nil, nil, nil}, run(checksum(), CoderSpec{Checked: true}, data))
	errs := run(broken{decode: func(m *arpc.Message) *arpc.Message {
		m.Buffer = append(m.Buffer, 0)
		return m
	}}, CoderSpec{}, data)
	require.ErrorContains(t, errs[0], "whose length is said to be")
	require.ErrorContains(t, errs[1], "want")
	require.ErrorContains(t, run(broken{encode: marked, decode: unmarked}, CoderSpec{Checked: true}, data)[2], "neither refused nor as it was")
	require.NotEmpty(t, newCoderKit(func() arpc.MessageCoder { return checksum() }, CoderSpec{}).seeds())
}

// FuzzCoderOfTheKit keeps the fuzz target itself at work.
func FuzzCoderOfTheKit(f *testing.F) {
	FuzzCoder(f, func() arpc.MessageCoder { return checksum() }, CoderSpec{Checked: true})
}
