package arpctest

import (
	"fmt"
	"testing"

	"github.com/arpc-go/arpc"
)

// CoderSpec says what a coder promises beside bringing messages back as they were.
// The zero CoderSpec is that of one which promises nothing more.
type CoderSpec struct {
	// Checked says that a message with damage in what the coder has rewritten is
	// refused, or comes out as it was all the same. It has rewritten what follows
	// header and method of messages of which it sets a bit of the reserved byte.
	Checked bool
	// Authentic says that a message is refused if any bit of it differs from what
	// was sent, but for those of the length, and if it was received before.
	Authentic bool
	// Values are set on messages, and must arrive with them. Default: none.
	Values map[any]any
	// Bomb returns a frame that says it has n bytes after decoding, or has. Default:
	// none. The kit tries others that it makes with the coder.
	Bomb func(n int64) []byte
	// MaxGrowth is how many bytes a message gets longer at most. Default: 256.
	MaxGrowth int
	// MaxAlloc is how many bytes of memory Decode may allocate for a frame of n
	// bytes when the body limit is limit. Default: 1 MiB, the limit, and n.
	MaxAlloc func(n, limit int) uint64
}

// Coder tests what arpc.MessageCoder asks of a coder, each in a subtest. newCoder
// returns one for each end, set up alike.
//
//   - Messages of all kinds and sizes come back as they were, with and without
//     metadata, and with bits of other coders in the reserved byte.
//   - What Encode and Decode have returned is not touched later. They may be called
//     from several goroutines at the same time.
//   - Frames that are cut off, have bits flipped or are noise neither panic nor
//     allocate more than MaxAlloc, and where CoderSpec says so they are refused.
//   - Nothing longer than the limit on bodies comes out of decoding, nor is memory
//     allocated for it.
//   - Calls, notifications, streams, errors, and messages pushed to many clients pass
//     the coder over all worlds of Each; with an arpc.NamedCoder also where only one
//     end has it.
//
// Coder must not run beside other tests, whose allocations it would count.
func Coder(t *testing.T, newCoder func() arpc.MessageCoder, spec CoderSpec) {
	t.Helper()
	k := newCoderKit(newCoder, spec)
	for _, check := range k.checks() {
		t.Run(check.name, func(t *testing.T) {
			if check.skip != "" {
				t.Skip(check.skip)
			}
			if err := caught(check.run); err != nil {
				t.Error(err)
			}
		})
	}
	wire := func(t *testing.T, p *Pair) {
		if err := overTheWire(p); err != nil {
			t.Error(err)
		}
	}
	t.Run("over the wire", func(t *testing.T) { Each(t, wire, k.setup(true)) })
	if _, named := k.from.(arpc.NamedCoder); named {
		t.Run("with a peer that has it not", func(t *testing.T) {
			Each(t, wire, k.setup(false), Over(Memory(), OldClient(Memory()), OldServer(Memory())))
		})
	}
}

// FuzzCoder fuzzes a coder with frames that a hostile peer may send, with payloads,
// and with frames damaged on the way. See Coder.
func FuzzCoder(f *testing.F, newCoder func() arpc.MessageCoder, spec CoderSpec) {
	f.Helper()
	k := newCoderKit(newCoder, spec)
	for _, seed := range k.seeds() {
		for act := range fuzzActs {
			f.Add(seed, byte(act))
		}
	}
	f.Fuzz(func(t *testing.T, data []byte, act byte) {
		if err := caught(func() error { return fuzzActs[int(act)%len(fuzzActs)](k, data) }); err != nil {
			t.Error(err)
		}
	})
}

// coderKit is one run of Coder. The coders are those of two ends.
type coderKit struct {
	newCoder     func() arpc.MessageCoder
	spec         CoderSpec
	from, to     arpc.MessageCoder
	sender, peer *arpc.Client // connected to nothing
	small        *arpc.Client // with smallLimit
}

// smallLimit is a limit on bodies in bytes, for frames that may say anything.
const smallLimit = 64 << 10

type coderCheck struct {
	name string
	skip string // why it is not run, if it is not
	run  func() error
}

func newCoderKit(newCoder func() arpc.MessageCoder, spec CoderSpec) *coderKit {
	if spec.MaxGrowth == 0 {
		spec.MaxGrowth = 256
	}
	if spec.MaxAlloc == nil {
		spec.MaxAlloc = func(n, limit int) uint64 { return 1<<20 + uint64(limit+n) }
	}
	return &coderKit{
		newCoder: newCoder, spec: spec, from: newCoder(), to: newCoder(),
		sender: unconnected(arpc.DefaultMaxBodyLen), peer: unconnected(arpc.DefaultMaxBodyLen),
		small: unconnected(smallLimit),
	}
}

// unconnected returns a client with nothing but a limit.
func unconnected(maxBody int) *arpc.Client {
	return &arpc.Client{Handler: arpc.NewHandler(arpc.WithMaxBodyLen(maxBody))}
}

func (k *coderKit) checks() []coderCheck {
	checks := []coderCheck{
		{name: "name", run: k.checkName},
		{name: "round trip", run: k.checkRoundTrip},
		{name: "without a client", run: k.checkNoClient},
		{name: "leave alone what was returned", run: k.checkReturned},
		{name: "concurrent use", run: k.checkConcurrent},
		{name: "noise", run: k.checkNoise},
		{name: "damaged frames", run: k.checkDamaged},
		{name: "replay", run: k.checkReplay},
		{name: "limit", run: k.checkLimit},
		{name: "bombs", run: k.checkBombs},
	}
	_, named := k.from.(arpc.NamedCoder)
	for i := range checks {
		switch {
		case checks[i].name == "name" && !named:
			checks[i].skip = "the coder is no arpc.NamedCoder"
		case checks[i].name == "replay" && !k.spec.Authentic:
			checks[i].skip = "the coder is not declared as Authentic"
		case checks[i].name == "bombs" && k.spec.Bomb == nil:
			checks[i].skip = "the coder is declared without Bomb"
		}
	}
	return checks
}

// caught makes an error of a panic.
func caught(fn func() error) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("panic: %v", p)
		}
	}()
	return fn()
}
