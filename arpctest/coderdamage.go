package arpctest

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"

	"github.com/arpc-go/arpc"
)

// checkNoise decodes what no coder has made.
func (k *coderKit) checkNoise() error {
	rng := rand.NewChaCha8([32]byte{6})
	for n := range 2000 {
		b := make([]byte, arpc.HeadLen+n%200)
		rng.Read(b)
		if n%2 == 0 { // a header that makes sense, but for the mark
			mark := b[4]
			copy(b, frame(arpc.CmdRequest, 0, "/e", "", nil)[:arpc.HeadLen])
			b[4] = mark
		}
		if _, err := k.hostile(fitted(b), k.small, smallLimit); err != nil {
			return err
		}
	}
	for n := range arpc.HeadLen { // what is no frame never gets to a coder, unless it follows another
		if _, err := k.hostile(bytes.Repeat([]byte{0xff}, n), k.small, smallLimit); err != nil {
			return err
		}
	}
	return nil
}

// hostile decodes what a peer may send. The error says what the coder must not do;
// a message that it refuses is nil.
func (k *coderKit) hostile(b []byte, c *arpc.Client, limit int) (*arpc.Message, error) {
	m, err := decode(k.to, c, b)
	switch {
	case errors.Is(err, errCoder):
		return nil, err
	case err != nil:
		if k.to.Decode(c, &arpc.Message{Buffer: bytes.Clone(b)}) != nil {
			return nil, fmt.Errorf("a message from Decode where DecodeChecked refuses it with %q: %s", err, excerpt(b))
		}
		return nil, nil
	case len(b) >= arpc.HeadLen && !sound(m.Buffer):
		return nil, fmt.Errorf("decode %s: got a message of %d bytes whose length is said to be %d", excerpt(b), m.Len(), m.BodyLen())
	case m.Len() > max(len(b), limit+metadataRoom):
		return nil, fmt.Errorf("decode %s: got a message of %d bytes, more than the limit of %d on bodies", excerpt(b), m.Len(), limit)
	}
	return m, nil
}

// metadataRoom is by how many bytes a message may exceed the limit on bodies.
const metadataRoom = arpc.HeadLen + 64<<10

// checkDamaged cuts coded frames, and flips their bits.
func (k *coderKit) checkDamaged() error {
	for _, payload := range coderPayloads(2000) {
		plain := frame(arpc.CmdRequest, 0, "/echo", "", payload.bytes)
		coded, err := k.encode(k.from, k.sender, plain)
		if err != nil {
			return err
		}
		for n := range steps(len(coded)) {
			if err := k.damaged(plain, coded, fitted(bytes.Clone(coded[:n])), n); err != nil {
				return fmt.Errorf("%s, cut at %d: %w", payload.name, n, err)
			}
		}
		for at := range steps(len(coded) - 4) {
			b := bytes.Clone(coded)
			b[4+at] ^= 1 << (at % 8)
			if err := k.damaged(plain, coded, b, 4+at); err != nil {
				return fmt.Errorf("%s, bit %d of byte %d flipped: %w", payload.name, at%8, 4+at, err)
			}
		}
	}
	return nil
}

// damaged decodes a frame that differs from what was sent from a byte on.
func (k *coderKit) damaged(plain, coded, b []byte, from int) error {
	var m *arpc.Message
	err := k.bounded(len(b), smallLimit, func() (err error) {
		m, err = k.hostile(b, k.small, smallLimit)
		return err
	})
	switch rewritten := coded[4] != plain[4] && from >= arpc.HeadLen+len("/echo"); {
	case err != nil || m == nil || bytes.Equal(m.Buffer, plain) && !k.spec.Authentic:
		return err
	case k.spec.Authentic:
		return errors.New("it was not refused")
	case k.spec.Checked && rewritten:
		return fmt.Errorf("it was neither refused nor as it was: %s", excerpt(m.Buffer))
	}
	return nil
}

// bounded runs fn, which decodes a copy of a frame of n bytes once or twice, within
// the bounds of memory.
func (k *coderKit) bounded(n, limit int, fn func() error) error {
	most, least := 2*(uint64(n)+k.spec.MaxAlloc(n, limit)), uint64(math.MaxUint64)
	for range 3 { // what other goroutines allocate meanwhile is counted, too
		before := allocated()
		if err := caught(fn); err != nil {
			return err
		}
		if least = min(least, allocated()-before); least <= most {
			return nil
		}
	}
	return fmt.Errorf("decoding %d bytes allocated %d, more than %d", n, least, most)
}

// checkReplay receives messages twice: at once, and after others.
func (k *coderKit) checkReplay() error {
	var received [][]byte
	for _, f := range coderFrames(300) {
		coded, err := k.encode(k.from, k.sender, f.bytes)
		if err != nil {
			return err
		}
		received = append(received, coded)
	}
	again := func(b []byte, c *arpc.Client) error {
		if _, err := decode(k.to, c, b); err == nil {
			return fmt.Errorf("%s was received twice", excerpt(b))
		}
		return nil
	}
	for i, b := range received {
		if _, err := decode(k.to, k.peer, b); err != nil {
			return fmt.Errorf("%s: %w", excerpt(b), err)
		}
		if err := errors.Join(again(b, k.peer), again(received[i/2], k.peer)); err != nil {
			return err
		}
	}
	for _, b := range received {
		if err := again(b, unconnected(arpc.DefaultMaxBodyLen)); err != nil {
			return fmt.Errorf("over another connection: %w", err)
		}
	}
	return nil
}

// checkLimit has the sender send more than the receiver takes.
func (k *coderKit) checkLimit() error {
	const limit = 8 << 10
	peer := unconnected(limit)
	for n := limit; n <= 16<<20; n *= 4 {
		coded, err := k.encode(k.from, k.sender, frame(arpc.CmdRequest, 0, "/echo", "", make([]byte, n)))
		if err != nil {
			return err
		}
		err = k.bounded(len(coded), limit, func() error {
			_, err := k.hostile(coded, peer, limit)
			return err
		})
		if err != nil {
			return fmt.Errorf("%d zeros: %w", n, err)
		}
	}
	return nil
}

// checkBombs decodes what the spec makes.
func (k *coderKit) checkBombs() error {
	for _, limit := range []int{4 << 10, 1 << 20, arpc.DefaultMaxBodyLen} {
		peer := unconnected(limit)
		for n := int64(1 << 10); n <= 1<<30; n *= 32 {
			b := k.spec.Bomb(n)
			err := k.bounded(len(b), limit, func() error {
				m, err := k.hostile(b, peer, limit)
				if m != nil && int64(limit) < n-metadataRoom {
					err = errors.New("it was not refused")
				}
				return err
			})
			if err != nil {
				return fmt.Errorf("a bomb of %d bytes that says %d, with a limit of %d: %w", len(b), n, limit, err)
			}
		}
	}
	return nil
}

// fuzzActs are what FuzzCoder does with its input.
var fuzzActs = []func(k *coderKit, data []byte) error{
	(*coderKit).fuzzFrame, (*coderKit).fuzzPayload, (*coderKit).fuzzDamage,
}

// seeds returns payloads, and frames as they travel.
func (k *coderKit) seeds() (seeds [][]byte) {
	for _, payload := range coderPayloads(1500) {
		seeds = append(seeds, payload.bytes)
		if coded, err := k.encode(k.from, k.sender, frame(arpc.CmdRequest, 0, "/echo", "", payload.bytes)); err == nil {
			seeds = append(seeds, coded)
		}
	}
	return seeds
}

// fuzzFrame decodes data.
func (k *coderKit) fuzzFrame(data []byte) error {
	_, err := k.hostile(fitted(bytes.Clone(data)), k.small, smallLimit)
	return err
}

// fuzzPayload sends data, as messages of a kind that it decides.
func (k *coderKit) fuzzPayload(data []byte) error {
	kinds := coderFrames(0)
	n := 0
	for _, b := range data {
		n += int(b)
	}
	kind := kinds[n%len(kinds)]
	return k.same(k.from, k.to, k.sender, k.peer, fitted(append(kind.bytes, data...)))
}

// fuzzDamage sends a message, over which data is written on the way.
func (k *coderKit) fuzzDamage(data []byte) error {
	if len(data) < 2 {
		return nil
	}
	plain := frame(arpc.CmdRequest, 0, "/echo", "", bytes.Repeat([]byte("some text "), 200))
	coded, err := k.encode(k.from, k.sender, plain)
	if err != nil {
		return err
	}
	b := bytes.Clone(coded)
	from := 4 + int(binary.LittleEndian.Uint16(data))%(len(b)-4)
	copy(b[from:], data[2:])
	if bytes.Equal(b, coded) {
		return nil
	}
	return k.damaged(plain, coded, b, from)
}
