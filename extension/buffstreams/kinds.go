package buffstreams

import (
	"context"
	"encoding/binary"
	"fmt"
	"maps"
	"sync"
	"sync/atomic"
)

// Kinds tells messages of several kinds on one connection apart, and gives each to
// the handler for its kind: ListenerConfig.Handler is its Dispatch. A message begins
// with its kind as a uvarint of encoding/binary, one byte below 128, which is how
// Conn.SendKind sends it; any other peer can do the same. The zero value is ready.
// Its methods may be called from any goroutine at any time.
type Kinds struct {
	mu       sync.Mutex // held to replace handlers
	handlers atomic.Pointer[map[uint64]Handler]
}

// Handle sets what handles messages of a kind, which it gets without the kind. nil
// takes it away.
func (k *Kinds) Handle(kind uint64, handler Handler) {
	k.mu.Lock()
	defer k.mu.Unlock()
	handlers := make(map[uint64]Handler)
	if old := k.handlers.Load(); old != nil {
		maps.Copy(handlers, *old)
	}
	handlers[kind] = handler
	k.handlers.Store(&handlers)
}

// Dispatch is a Handler. It returns ErrUnknownKind for a message that there is no
// handler for.
func (k *Kinds) Dispatch(ctx context.Context, c *Conn, message []byte) error {
	kind, rest, err := CutKind(message)
	if err != nil {
		return err
	}
	if handlers := k.handlers.Load(); handlers != nil {
		if handler := (*handlers)[kind]; handler != nil {
			return handler(ctx, c, rest)
		}
	}
	return fmt.Errorf("%w: %d", ErrUnknownKind, kind)
}

// CutKind returns the kind of a message and the rest of it. It returns
// ErrUnknownKind for a message that does not begin with one.
func CutKind(message []byte) (kind uint64, rest []byte, err error) {
	kind, n := binary.Uvarint(message)
	if n <= 0 {
		return 0, nil, fmt.Errorf("%w: a message of %d bytes has none", ErrUnknownKind, len(message))
	}
	return kind, message[n:], nil
}

// SendKind is Send of a message with a kind before it, which counts for
// MaxMessageSize.
func (c *Conn) SendKind(ctx context.Context, kind uint64, message []byte) error {
	var prefix [binary.MaxVarintLen64]byte
	return c.send(ctx, 0, binary.AppendUvarint(prefix[:0], kind), message)
}
