package arpctest

import (
	"bytes"
	"errors"
	"fmt"
	"reflect"
	"strings"
	"sync"

	"github.com/arpc-go/arpc"
)

// errCoder is in the chain of errors that are the coder's own fault.
var errCoder = errors.New("the coder is at fault")

// checkName looks at what both ends have to say alike.
func (k *coderKit) checkName() error {
	const most = 64
	name, other := k.from.(arpc.NamedCoder).CoderName(), k.to.(arpc.NamedCoder).CoderName()
	switch {
	case name == "" || len(name) > most || strings.Contains(name, ","):
		return fmt.Errorf("a name has 1 to %d bytes and no comma, not %q", most, name)
	case name != other:
		return fmt.Errorf("two ends that are set up alike say %q and %q", name, other)
	}
	return nil
}

func (k *coderKit) checkRoundTrip() error {
	var own byte // bits of the reserved byte
	frames := coderFrames(128 << 10)
	for _, f := range frames {
		coded, err := k.encode(k.from, k.sender, f.bytes)
		if err == nil {
			own |= coded[4]
			err = k.decodesTo(k.to, k.peer, coded, f.bytes)
		}
		if err != nil {
			return fmt.Errorf("%s: %w", f.name, err)
		}
	}
	for i, f := range frames {
		others := byte(i) &^ own
		f.bytes[4] = others
		if err := k.same(k.from, k.to, k.sender, k.peer, f.bytes); err != nil {
			return fmt.Errorf("%s with the bits %#02x of other coders: %w", f.name, others, err)
		}
	}
	return nil
}

// same has a frame go from one coder to the other, and says how it differs.
func (k *coderKit) same(from, to arpc.MessageCoder, sender, peer *arpc.Client, plain []byte) error {
	coded, err := k.encode(from, sender, plain)
	if err != nil {
		return err
	}
	return k.decodesTo(to, peer, coded, plain)
}

func (k *coderKit) decodesTo(to arpc.MessageCoder, peer *arpc.Client, coded, plain []byte) error {
	m, err := decode(to, peer, coded)
	if err != nil {
		return fmt.Errorf("decode %s: %w", excerpt(coded), err)
	}
	if !bytes.Equal(m.Buffer, plain) {
		return fmt.Errorf("want %s, got %s from %s", excerpt(plain), excerpt(m.Buffer), excerpt(coded))
	}
	for key, want := range k.spec.Values {
		if got, _ := m.Get(key); !reflect.DeepEqual(want, got) {
			return fmt.Errorf("the value of %v: want %#v, got %#v", key, want, got)
		}
	}
	return nil
}

// checkNoClient has the coder do without the argument, as tests of programs do.
func (k *coderKit) checkNoClient() error {
	from, to := k.newCoder(), k.newCoder()
	for _, payload := range coderPayloads(8 << 10) {
		if err := k.same(from, to, nil, nil, frame(arpc.CmdRequest, 0, "/echo", "", payload.bytes)); err != nil {
			return fmt.Errorf("%s: %w", payload.name, err)
		}
	}
	return nil
}

// checkReturned keeps what was returned while the coder goes on working, and
// overwrites it then.
func (k *coderKit) checkReturned() error {
	type kept struct{ m, copied *arpc.Message }
	var all []kept
	for _, f := range coderFrames(8 << 10) {
		encoded, err := encode(k.from, k.sender, k.message(f.bytes))
		if err != nil {
			return fmt.Errorf("%s: %w", f.name, err)
		}
		decoded, err := decode(k.to, k.peer, encoded.Buffer)
		if err != nil {
			return fmt.Errorf("%s: %w", f.name, err)
		}
		for _, m := range []*arpc.Message{encoded, decoded} {
			all = append(all, kept{m, &arpc.Message{Buffer: bytes.Clone(m.Buffer)}})
		}
		if old := len(all) - 20; old >= 0 {
			if !bytes.Equal(all[old].m.Buffer, all[old].copied.Buffer) {
				return fmt.Errorf("a message that was returned has changed since from %s to %s", excerpt(all[old].copied.Buffer), excerpt(all[old].m.Buffer))
			}
			overwrite(all[old].m.Buffer)
		}
	}
	return nil
}

func (k *coderKit) checkConcurrent() error {
	const goroutines = 8
	frames := coderFrames(16 << 10)
	errs := make([]error, goroutines)
	var wg sync.WaitGroup
	for i := range goroutines {
		wg.Go(func() {
			errs[i] = caught(func() error {
				for n := range frames {
					if err := k.same(k.from, k.to, k.sender, k.peer, frames[(n*7+i*50)%len(frames)].bytes); err != nil {
						return err
					}
				}
				return nil
			})
		})
	}
	wg.Wait()
	return errors.Join(errs...)
}
