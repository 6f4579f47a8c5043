package tracing_test

import (
	"testing"

	"github.com/arpc-go/arpc"
	"github.com/arpc-go/arpc/arpctest"
	"github.com/arpc-go/arpc/middleware/coder/tracing"
)

func newCoder() arpc.MessageCoder { return tracing.New("trace") }

// spec is that of messages with a trace.
var spec = arpctest.CoderSpec{Values: map[any]any{"trace": []byte("0123456789abcdef")}}

func TestConformance(t *testing.T) { arpctest.Coder(t, newCoder, spec) }

// FuzzCoder is the fuzz target of the conformance kit.
func FuzzCoder(f *testing.F) { arpctest.FuzzCoder(f, newCoder, spec) }
