package arpc

import (
	"context"
	"iter"
	"maps"

	"github.com/arpc-go/arpc/internal/wire"
)

// Metadata is what travels beside the payload of a request, a notification, a
// response or the opening of a stream. Keys are 1 to 256 bytes of a to z, 0 to 9,
// "-", "_" and "."; values are any bytes. A peer of version 1 gets none.
//
// WithMaxMetadata limits its size; at most 128 pairs travel.
type Metadata map[string]string

// Trace is a trace context as W3C Trace Context has it. A call made with the
// context of a handler carries the trace of the request that it handles.
type Trace struct {
	Parent string // the traceparent, such as "00-<trace id>-<span id>-01"
	State  string // the tracestate; may be empty
}

// callInfo is what a caller says of its calls through their context.
type callInfo struct {
	metadata   Metadata
	response   *Metadata
	trace      Trace
	values     map[any]any
	wait       waitMode
	idempotent bool
}

// waitMode says whether a call waits for a connection.
type waitMode byte

const (
	waitDefault waitMode = iota // as WithWaitForReady says
	waitAlways
	waitNever
	waitNot // not even for a client that is on its way elsewhere
)

type callInfoKey struct{}

// noInfo is the callInfo of a context that says nothing. Never changed.
var noInfo callInfo

// infoOf returns what ctx says; it is not to be changed.
func infoOf(ctx context.Context) *callInfo {
	if info, ok := ctx.Value(callInfoKey{}).(*callInfo); ok {
		return info
	}
	return &noInfo
}

func withInfo(ctx context.Context, change func(*callInfo)) context.Context {
	info := *infoOf(ctx)
	change(&info)
	return context.WithValue(ctx, callInfoKey{}, &info)
}

// ContextWithMetadata has calls, notifications and streams begun with the
// returned context carry md, beside what the context carries already.
func ContextWithMetadata(ctx context.Context, md Metadata) context.Context {
	return withInfo(ctx, func(info *callInfo) {
		all := make(Metadata, len(info.metadata)+len(md))
		maps.Copy(all, info.metadata)
		maps.Copy(all, md)
		info.metadata = all
	})
}

// ContextWithValues has calls and notifications begun with the returned context
// carry values for coders, as Message.Set does for messages that are pushed. They
// stay in this process unless a coder sends them.
func ContextWithValues(ctx context.Context, values map[any]any) context.Context {
	return withInfo(ctx, func(info *callInfo) {
		all := make(map[any]any, len(info.values)+len(values))
		maps.Copy(all, info.values)
		maps.Copy(all, values)
		info.values = all
	})
}

// ContextWithResponseMetadata has a call made with the returned context store
// the metadata of its response in *md, before the call returns. It is for one
// call at a time.
func ContextWithResponseMetadata(ctx context.Context, md *Metadata) context.Context {
	return withInfo(ctx, func(info *callInfo) { info.response = md })
}

// ContextWithTrace has what is begun with the returned context carry a trace.
func ContextWithTrace(ctx context.Context, trace Trace) context.Context {
	return withInfo(ctx, func(info *callInfo) { info.trace = trace })
}

// TraceOf returns the trace that ctx carries: what ContextWithTrace put there,
// or in the context of a handler what came with the request.
func TraceOf(ctx context.Context) (trace Trace, ok bool) {
	trace = infoOf(ctx).trace
	return trace, trace.Parent != ""
}

// ContextWithWaitForReady says for what is begun with the returned context
// whether it waits for a connection when there is none, whatever
// WithWaitForReady says.
func ContextWithWaitForReady(ctx context.Context, wait bool) context.Context {
	return withInfo(ctx, func(info *callInfo) {
		info.wait = waitNever
		if wait {
			info.wait = waitAlways
		}
	})
}

// ContextWithIdempotent says that running a call twice does no harm: a call made
// with the returned context that loses its connection is sent once more, when
// there is a connection again.
func ContextWithIdempotent(ctx context.Context) context.Context {
	return withInfo(ctx, func(info *callInfo) { info.idempotent = true })
}

// IsIdempotent reports whether calls made with ctx may be run twice, as
// ContextWithIdempotent or the method itself says. It is for interceptors.
func IsIdempotent(ctx context.Context) bool { return infoOf(ctx).idempotent }

// ResponseMetadataOf returns where calls made with ctx store the metadata of their
// responses, as ContextWithResponseMetadata says; nil for nowhere. It is for
// interceptors that call next more than once.
func ResponseMetadataOf(ctx context.Context) *Metadata { return infoOf(ctx).response }

// section encodes what the peer is to read of info, nil for nothing.
func (info *callInfo) section() ([]byte, error) {
	if info.trace.Parent == "" && len(info.metadata) == 0 {
		return nil, nil
	}
	var section []byte
	for key, value := range info.metadata {
		if err := wire.CheckKey(key); err != nil {
			return nil, Errorf(CodeInvalidArgument, "arpc: metadata: %w", err)
		}
		section = wire.AppendPair(section, key, value)
	}
	if len(info.metadata) > wire.MaxPairs {
		return nil, Errorf(CodeInvalidArgument, "arpc: metadata: %d pairs are over the limit of %d", len(info.metadata), wire.MaxPairs)
	}
	if info.trace.Parent != "" {
		section = wire.AppendTraceParent(section, info.trace.Parent)
		if info.trace.State != "" {
			section = wire.AppendTraceState(section, info.trace.State)
		}
	}
	return section, nil
}

func metadataTooLarge(n int, limit int) error {
	return Errorf(CodeResourceExhausted, "arpc: metadata of %d bytes is over the peer's limit of %d (WithMaxMetadata)", n, limit)
}

// metadataOf copies pairs into a map, nil if there are none.
func metadataOf(n int, pairs iter.Seq2[[]byte, []byte]) Metadata {
	if n == 0 {
		return nil
	}
	md := make(Metadata, n)
	for key, value := range pairs {
		md[string(key)] = string(value)
	}
	return md
}
