// Package codertest has what the tests of the coders share.
package codertest

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"runtime"

	"github.com/arpc-go/arpc"
)

// Method is the method of Frame.
const Method = "/method"

// Head is the length in bytes of header and method of Frame.
const Head = arpc.HeadLen + len(Method)

// Frame returns the frame of a request with a payload.
func Frame(payload []byte) []byte {
	return arpc.NewServer(arpc.WithHandler(arpc.NewHandler())).NewMessage(arpc.CmdRequest, Method, payload).Buffer
}

// Message returns a message of a copy of a frame.
func Message(frame []byte) *arpc.Message { return &arpc.Message{Buffer: bytes.Clone(frame)} }

// Rewritten returns a frame with a payload behind header and method, with a bit of
// the reserved byte set.
func Rewritten(bit int, data []byte) []byte {
	b := append(Frame(nil), data...)
	binary.LittleEndian.PutUint32(b, uint32(len(b)-arpc.HeadLen))
	b[4] |= 1 << bit
	return b
}

// Client returns a client that is connected to nothing, with a limit on bodies.
func Client(maxBody int) *arpc.Client {
	return &arpc.Client{Handler: arpc.NewHandler(arpc.WithMaxBodyLen(maxBody))}
}

// Orders returns a JSON payload of about n bytes, of the kind that calls carry.
func Orders(n int) []byte {
	rng := rand.New(rand.NewPCG(1, 2))
	out := []byte{'['}
	for len(out) < n {
		out = fmt.Appendf(out, `{"id":%d,"customer":"customer-%d","state":%q,"total":%.2f},`,
			rng.Uint32(), rng.IntN(500), []string{"open", "paid", "sent"}[rng.IntN(3)], rng.Float64()*1e4)
	}
	out[len(out)-1] = ']'
	return out
}

// Noise returns n bytes that do not get shorter.
func Noise(n int) []byte {
	b := make([]byte, n)
	rand.NewChaCha8([32]byte{1}).Read(b)
	return b
}

// Allocated returns how many bytes f allocates, or anybody else meanwhile.
func Allocated(f func()) uint64 {
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	f()
	runtime.ReadMemStats(&after)
	return after.TotalAlloc - before.TotalAlloc
}
