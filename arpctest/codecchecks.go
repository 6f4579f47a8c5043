package arpctest

import (
	"bytes"
	"cmp"
	"fmt"
	"reflect"
	"sync"

	"github.com/arpc-go/arpc/codec"
)

func (k *codecKit) checkRoundTrip(v codecValue) error {
	for _, from := range []any{v.v, v.pointer()} {
		data, err := k.c.Marshal(from)
		if err != nil {
			return fmt.Errorf("marshal: %w", err)
		}
		target, got := v.target()
		for _, into := range []string{"a new value", "the same value again"} {
			if err := k.c.Unmarshal(data, target); err != nil {
				return fmt.Errorf("unmarshal %s into %s: %w", excerpt(data), into, err)
			}
			if err := k.compare(v, got(), data); err != nil {
				return fmt.Errorf("unmarshal into %s: %w", into, err)
			}
		}
	}
	return nil
}

func (k *codecKit) checkCannot() error {
	for _, name := range k.spec.Cannot {
		v := k.value(name)
		err := k.guard(func() error {
			data, err := k.c.Marshal(v.v)
			if err != nil {
				return nil
			}
			target, got := v.target()
			if err := k.c.Unmarshal(data, target); err != nil {
				return nil
			}
			return fmt.Errorf("became %s without an error, from %s", shown(got()), excerpt(data))
		})
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
	}
	return nil
}

func (k *codecKit) checkKeepsNothing(v codecValue) error {
	data, err := k.c.Marshal(v.v)
	if err != nil {
		return fmt.Errorf("marshal: %w", err)
	}
	given := bytes.Clone(data)
	target, got := v.target()
	if err := k.c.Unmarshal(given, target); err != nil {
		return fmt.Errorf("unmarshal: %w", err)
	}
	if !bytes.Equal(data, given) {
		return fmt.Errorf("unmarshal changed the payload %s to %s", excerpt(data), excerpt(given))
	}
	overwrite(given)
	if err := k.compare(v, got(), data); err != nil {
		return fmt.Errorf("after the payload was overwritten: %w", err)
	}
	return nil
}

// overwrite changes all bytes, those within the capacity too.
func overwrite(data []byte) {
	data = data[:cap(data)]
	for i := range data {
		data[i] = ^data[i]
	}
}

func (k *codecKit) checkGivesAway(v codecValue) error {
	first, err := k.c.Marshal(v.v)
	if err != nil {
		return fmt.Errorf("marshal: %w", err)
	}
	kept := bytes.Clone(first)
	for _, name := range k.names[:min(5, len(k.names))] {
		k.c.Marshal(k.spec.Values[name])
	}
	if !bytes.Equal(kept, first) {
		return fmt.Errorf("the bytes of Marshal changed from %s to %s when it was called again", excerpt(kept), excerpt(first))
	}
	second, err := k.c.Marshal(v.v)
	if err != nil {
		return fmt.Errorf("marshal: %w", err)
	}
	overwrite(first)
	if err := k.same(second, v); err != nil {
		return fmt.Errorf("after the bytes of another Marshal were overwritten: %w", err)
	}
	return nil
}

func (k *codecKit) checkAppend(v codecValue) error {
	plain, err := k.c.Marshal(v.v)
	if err != nil {
		return fmt.Errorf("marshal: %w", err)
	}
	const prefix = "what is in the buffer"
	for _, room := range []int{0, 1, len(plain), len(plain) + 1000} {
		dst := append(make([]byte, 0, len(prefix)+room), prefix...)
		out, err := k.c.(codec.Appender).MarshalAppend(dst, v.v)
		if err != nil {
			return fmt.Errorf("append: %w", err)
		}
		if string(dst) != prefix || !bytes.HasPrefix(out, dst) {
			return fmt.Errorf("with room for %d bytes, MarshalAppend changed the buffer %q to %s", room, prefix, excerpt(out))
		}
		if appended := out[len(prefix):]; count(appended) != count(plain) {
			return fmt.Errorf("with room for %d bytes, MarshalAppend appended %s, and Marshal returns %s", room, excerpt(appended), excerpt(plain))
		}
		if err := k.same(out[len(prefix):], v); err != nil {
			return err
		}
		overwrite(out)
	}
	return k.same(plain, v)
}

// count returns how often data has each byte: the keys of a map have no order.
func count(data []byte) (n [256]int) {
	for _, b := range data {
		n[b]++
	}
	return n
}

func (k *codecKit) checkConcurrent() error {
	const goroutines = 4
	errs := make([]error, goroutines)
	var wg sync.WaitGroup
	for i := range goroutines {
		wg.Go(func() {
			errs[i] = k.each(k.checkRoundTrip)()
			if _, ok := k.c.(codec.Appender); ok && errs[i] == nil {
				errs[i] = k.each(k.checkAppend)()
			}
		})
	}
	wg.Wait()
	return cmp.Or(errs...)
}

type (
	codecLoop struct {
		Value int
		Next  *codecLoop
	}
	codecMaps   map[string]codecMaps
	codecSlices []codecSlices
)

// unencodable returns values that no codec can encode.
func unencodable() map[string]any {
	loop, dict, list := &codecLoop{Value: 1}, codecMaps{}, codecSlices{nil}
	loop.Next, dict["self"], list[0] = loop, dict, list
	generic, items := map[string]any{}, []any{nil}
	generic["self"], items[0] = generic, items
	var content any
	content = &content
	return map[string]any{
		"channel":             make(chan int),
		"function":            func() {},
		"channel in a struct": struct{ C chan int }{make(chan int)},
		"function in any":     []any{func() {}},
		"function in a map":   map[string]func(){"f": func() {}},
		"cyclic pointers":     loop,
		"cyclic map":          dict,
		"cyclic slice":        list,
		"cyclic generic map":  generic,
		"cyclic generic list": items,
		"cyclic interface":    content,
	}
}

func (k *codecKit) checkRefuses() error {
	for name, v := range unencodable() {
		err := k.guard(func() error {
			if data, err := k.c.Marshal(v); err == nil || data != nil {
				return fmt.Errorf("marshal: got %s and error %v", excerpt(data), err)
			}
			return k.checkAppendRefuses(v)
		})
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
	}
	return nil
}

func (k *codecKit) checkAppendRefuses(v any) error {
	a, ok := k.c.(codec.Appender)
	if !ok {
		return nil
	}
	dst := append(make([]byte, 0, 1000), "what is in the buffer"...)
	want := bytes.Clone(dst)
	out, err := a.MarshalAppend(dst, v)
	if err == nil || !bytes.Equal(out, want) || !bytes.Equal(dst, want) {
		return fmt.Errorf("append to %q: got %s and error %v", want, excerpt(out), err)
	}
	return nil
}

func (k *codecKit) checkTargets(v codecValue) error {
	data, err := k.c.Marshal(v.v)
	if err != nil {
		return fmt.Errorf("marshal: %w", err)
	}
	target, _ := v.target()
	t := reflect.TypeOf(target)
	for what, target := range map[string]any{
		"nil":           nil,
		"a nil pointer": reflect.Zero(t).Interface(),
		"no pointer":    reflect.Zero(t.Elem()).Interface(),
		"a channel":     new(chan int),
		"a function":    new(func()),
	} {
		if isPointer(target) && what == "no pointer" {
			continue // of a value that is one itself
		}
		if err := k.c.Unmarshal(data, target); err == nil {
			return fmt.Errorf("unmarshal %s into %s (%T): want an error", excerpt(data), what, target)
		}
	}
	return nil
}
