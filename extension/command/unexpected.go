package command

import (
	"bytes"

	"github.com/arpc-go/arpc"
)

// Unexpected is a result that nobody waits for.
type Unexpected struct {
	Client *arpc.Client // that it came to
	Method string       // the name of the command on the wire
	Result any          // of the type of its results, unless Err is set
	Err    error        // what the command has failed with, or why the result cannot be decoded
}

// HandleUnexpected has fn called with each result that reaches a client of h behind the
// end of its command: after Cancel, the end of its context, or a loop that was left.
// What had come by then and was not taken is dropped without it. fn is called on the
// goroutine that reads the connection and should not wait.
func (reg *Registry[T]) HandleUnexpected(h *arpc.Handler, fn func(Unexpected)) {
	if fn == nil {
		panic("command: HandleUnexpected: the function is nil")
	}
	h.HandleSessionMiss(func(c *arpc.Client, m *arpc.Message) {
		if k := reg.byMethod(m.Method()); k != nil {
			fn(k.unexpected(c, m.Data(), m.Error()))
		}
	})
	h.HandleMessageDropped(func(c *arpc.Client, m *arpc.Message) {
		k := reg.byMethod(m.Method())
		if k == nil || m.Cmd() != arpc.CmdStream || m.IsStreamOpener() {
			return
		}
		if data := m.Data(); len(data) > 0 && (data[0] == kindMore || data[0] == kindLast) {
			fn(k.unexpected(c, data[1:], nil))
		}
	})
}

// unexpected decodes a result, whose bytes are the connection's.
func (k *kind[T]) unexpected(c *arpc.Client, data []byte, err error) Unexpected {
	u := Unexpected{Client: c, Method: k.method, Err: err}
	if err == nil {
		u.Result, u.Err = k.decodeResult(c.Codec, bytes.Clone(data))
	}
	return u
}
