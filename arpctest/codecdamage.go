package arpctest

import (
	"bytes"
	"fmt"
	"iter"
	"math"
	"reflect"
	"runtime/metrics"
	"slices"
)

// checkEnds has structs and maps miss their end, and be followed by more.
func (k *codecKit) checkEnds(v codecValue) error {
	t := reflect.TypeOf(v.v)
	if t == nil || t.Kind() != reflect.Struct && t.Kind() != reflect.Map {
		return nil
	}
	data, err := k.c.Marshal(v.v)
	if err != nil {
		return fmt.Errorf("marshal: %w", err)
	}
	for n := range steps(len(data)) {
		target, _ := v.target()
		if err := k.c.Unmarshal(data[:n:n], target); err == nil {
			return fmt.Errorf("the first %d bytes of %s: want an error", n, excerpt(data))
		}
	}
	for _, more := range [][]byte{{0}, {'x'}, {0xff}, data} {
		target, _ := v.target()
		if err := k.c.Unmarshal(slices.Concat(data, more), target); err == nil {
			return fmt.Errorf("%s behind %s: want an error", excerpt(more), excerpt(data))
		}
	}
	return nil
}

// steps yields numbers from 0 on, below n: all of the first, then fewer and fewer.
func steps(n int) iter.Seq[int] {
	return func(yield func(int) bool) {
		for i := 0; i < n && yield(i); i += 1 + i/8 {
		}
	}
}

// checkDamaged decodes what is left of a payload in several states of decay.
func (k *codecKit) checkDamaged(v codecValue) error {
	data, err := k.c.Marshal(v.v)
	if err != nil {
		return fmt.Errorf("marshal: %w", err)
	}
	for damaged := range damages(data) {
		target, _ := v.target()
		for _, target := range []any{target, new(any)} {
			if err := k.checkBounded(damaged, target); err != nil {
				return err
			}
		}
	}
	return nil
}

// damages yields damaged copies of data.
func damages(data []byte) iter.Seq[[]byte] {
	return func(yield func([]byte) bool) {
		for n := range steps(len(data) + 1) {
			if !yield(slices.Clone(data[:n])) {
				return
			}
		}
		flipped := len(data)
		if flipped > 4096 {
			flipped = 16 // the head: where the length is
		}
		for i := range steps(flipped) {
			for bit := range 8 {
				damaged := bytes.Clone(data)
				damaged[i] ^= 1 << bit
				if !yield(damaged) {
					return
				}
			}
			for _, run := range []string{"\xff\xff\xff\xff\xff\xff\xff\xff", "\x00\x00\x00\x00", "\x7f\xff\xff\xff"} {
				if !yield(slices.Concat(data[:i], []byte(run), data[min(len(data), i+len(run)):])) {
					return
				}
			}
		}
	}
}

// checkBounded decodes data, which may fail, within the bounds of memory.
func (k *codecKit) checkBounded(data []byte, target any) error {
	t := reflect.TypeOf(target).Elem()
	most, least := k.spec.MaxAlloc(len(data)), uint64(math.MaxUint64)
	for range 3 { // what other goroutines allocate meanwhile is counted, too
		into := reflect.New(t).Interface()
		before := allocated()
		err := k.guard(func() error {
			k.c.Unmarshal(data, into)
			return nil
		})
		if err != nil {
			return fmt.Errorf("unmarshal %s into %T: %w", excerpt(data), target, err)
		}
		if least = min(least, allocated()-before); least <= most {
			return nil
		}
	}
	return fmt.Errorf("unmarshal %s into %T allocated %d bytes, more than %d", excerpt(data), target, least, most)
}

// allocated returns how many bytes the process has ever allocated. Small objects
// are counted some time later, many at once.
func allocated() uint64 {
	sample := []metrics.Sample{{Name: "/gc/heap/allocs:bytes"}}
	metrics.Read(sample)
	return sample[0].Value.Uint64()
}

// checkNested decodes payloads that nest far too deep.
func (k *codecKit) checkNested() error {
	into := []codecValue{{}} // any
	if err := k.checkTooDeep(10_000_000, into); err != nil {
		return err
	}
	for _, name := range k.names {
		into = append(into, k.value(name))
	}
	return k.checkTooDeep(1_000_000, into)
}

func (k *codecKit) checkTooDeep(levels int, into []codecValue) error {
	data := k.spec.Nested(levels)
	for _, data := range [][]byte{data, data[:len(data)/2]} {
		for _, v := range into {
			target, _ := v.target()
			if k.c.Unmarshal(data, target) == nil {
				return fmt.Errorf("%d levels into %T: want an error", levels, target)
			}
		}
	}
	return nil
}
