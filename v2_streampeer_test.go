package arpc_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"io"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/arpc-go/arpc"
	"github.com/arpc-go/arpc/internal/wire"
	"github.com/stretchr/testify/require"
)

// engOn is a frame of the stream with id 1 that its opener sends.
func engOn(cmd, flag byte, payload string) []byte {
	method := "/x"
	if cmd&wire.CmdMask != wire.CmdStream {
		method = ""
	}
	return wire.AppendFrame(nil, wire.Header{Cmd: cmd | wire.StreamOpener, Flag: flag, Seq: 1}, method, payload)
}

var (
	engOpens  = engOn(wire.CmdStream, wire.FlagOpen, "")
	engResets = engOn(wire.CmdCancel|wire.StreamEnd, 0, "")
)

// engGrant is a Window of the stream's opener.
func engGrant(n uint64) []byte {
	return engOn(wire.CmdWindow, 0, string(binary.AppendUvarint(nil, n)))
}

// requireGrant requires that the next frame is a Window for the stream's opener.
func (p *engPeer) requireGrant(n uint64) {
	p.t.Helper()
	f := p.next()
	require.Equal(p.t, wire.Header{BodyLen: f.BodyLen, Cmd: wire.CmdWindow, Seq: 1}, f.Header)
	got, err := wire.ParseUvarint([]byte(f.payload))
	require.NoError(p.t, err)
	require.Equal(p.t, n, got)
}

// A peer that sends more than it may loses that stream, and nothing else.
func TestV2OverrunResetsTheStreamAlone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, p := engCaller(t, arpc.WithStreamWindow(1024))
		served := engServed(t, s.Handler, "/x")
		p.write(engOpens)
		far := suiteNext(t, served)
		for range 3 { // 512 bytes each with their cost; the third is one too many
			p.write(engOn(wire.CmdStream, 0, strings.Repeat("x", 512-engCost)))
		}
		f := p.next()
		require.Equal(t, wire.CmdCancel|wire.StreamEnd, f.Cmd)
		require.Equal(t, uint64(1), f.Seq)
		require.Equal(t, arpc.CodeResourceExhausted, arpc.Code(f.meta.Code))
		require.NotEmpty(t, f.payload)
		suiteNext(t, far.Context().Done())
		require.ErrorIs(t, context.Cause(far.Context()), arpc.ErrStreamOverrun)
		require.NoError(t, far.Recv(nil))
		require.NoError(t, far.Recv(nil))
		require.ErrorIs(t, far.Recv(nil), arpc.ErrStreamOverrun)
		p.write(engOn(wire.CmdStream, 0, "x"), engOn(wire.CmdStream|wire.StreamEnd, 0, ""))
		p.requireAlive()
	})
}

// A window is granted in portions of half of it, of what was received, and not
// any more when nothing more comes.
func TestV2WindowsAreGrantedByHalves(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, p := engCaller(t, arpc.WithStreamWindow(1024))
		served := engServed(t, s.Handler, "/x")
		p.write(engOpens)
		far := suiteNext(t, served)
		message := engOn(wire.CmdStream, 0, strings.Repeat("x", 256-engCost))
		for range 10 {
			p.write(message)
			require.NoError(t, far.Recv(nil))
			p.write(message)
			require.NoError(t, far.Recv(nil))
			p.requireGrant(512)
		}
		p.write(engOn(wire.CmdStream, 0, strings.Repeat("x", 5000)))
		require.NoError(t, far.Recv(nil))
		p.requireGrant(5000 + engCost)
		p.write(message, message, engOn(wire.CmdStream|wire.StreamEnd, 0, ""))
		synctest.Wait()
		require.NoError(t, far.Recv(nil))
		require.NoError(t, far.Recv(nil))
		require.ErrorIs(t, far.Recv(nil), io.EOF)
		p.requireAlive()
	})
}

// Credit counts whatever it is, and a nonsense of it does nothing.
func TestV2CreditOfAnOddPeer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := engNewServer(t)
		p := s.dial()
		hello := engAllFeatures
		hello.Window = 100
		p.hello(hello)
		served := engServed(t, s.Handler, "/x")
		p.write(engOpens)
		far := suiteNext(t, served)
		require.Equal(t, 1, engFill(t, far, 100))
		p.write(engGrant(0), engOn(wire.CmdWindow, 0, ""), engOn(wire.CmdWindow, 0, "\xff"))
		require.Zero(t, engFill(t, far, 0))
		p.write(engGrant(16))
		require.Zero(t, engFill(t, far, 0), "it was 16 below zero")
		p.write(engGrant(1))
		require.Equal(t, 1, engFill(t, far, 0))
		p.write(engGrant(1<<64-1), engGrant(1<<64-1), engGrant(1<<63))
		for range 1000 {
			require.NoError(t, far.Send("x"))
		}
		for range 1002 {
			require.Equal(t, wire.CmdStream, p.next().Cmd)
		}
		p.requireAlive()
	})
}

// Frames about streams that are not there, or not any more, do nothing: nothing
// is answered, and no handler runs.
func TestV2FramesOfNoStream(t *testing.T) {
	frames := map[string][][]byte{
		"never opened":      nil,
		"reset":             {engOpens, engResets},
		"ended both ways":   {engOpens, engOn(wire.CmdStream|wire.StreamEnd, 0, "done")},
		"opened with a end": {engOn(wire.CmdStream|wire.StreamEnd, wire.FlagOpen, "")},
	}
	for name, before := range frames {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s, p := engCaller(t)
				s.Handler.HandleStream("/x", engEchoStream)
				p.write(before...)
				synctest.Wait()
				p.isAlive()
				for _, frame := range [][]byte{
					engOn(wire.CmdStream, 0, "data"), engOn(wire.CmdStream, 0, ""), engOn(wire.CmdStream|wire.StreamEnd, 0, "data"),
					engGrant(1000), engResets, engOn(wire.CmdCancel|wire.StreamEnd, wire.FlagError, "why"),
				} {
					p.write(frame)
					p.requireAlive()
				}
			})
		})
	}
}

// A second opening of a stream that is open does nothing to it.
func TestV2StreamOpenedTwice(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, p := engCaller(t)
		served := engServed(t, s.Handler, "/x")
		p.write(engOpens, engOn(wire.CmdStream, 0, "1"), engOpens, engOn(wire.CmdStream|wire.StreamEnd, wire.FlagOpen, ""), engOn(wire.CmdStream, 0, "2"))
		far := suiteNext(t, served)
		engRecvAll(t, far, 1, 3)
		p.requireAlive()
		require.Empty(t, served)
		require.NoError(t, far.Context().Err())
	})
}

// A peer that opens streams and is rid of them at once does not get more handlers
// than streams, however it does that.
func TestV2OpenAndCancelIsBounded(t *testing.T) {
	ends := engOn(wire.CmdStream|wire.StreamEnd, 0, "")
	malformed := engOn(wire.CmdStream, wire.FlagMeta, "\xff")
	large := engOn(wire.CmdStream, 0, strings.Repeat("x", 2000))
	for name, rid := range map[string][][]byte{
		"cancel":                 {engResets},
		"cancel behind an end":   {ends, engResets},
		"end":                    {ends},
		"nonsense":               {malformed},
		"nonsense behind an end": {ends, malformed},
		"overrun":                {large, large},
		"overrun and end":        {large, large, ends},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s, p := engCaller(t, arpc.WithMaxStreams(10), arpc.WithStreamWindow(1024))
				served := engServed(t, s.Handler, "/x") // these run on
				for id := range 200 {
					for _, shared := range append([][]byte{engOpens}, rid...) {
						frame := bytes.Clone(shared)
						binary.LittleEndian.PutUint64(frame[8:], uint64(id))
						p.write(frame)
					}
					p.isAlive()
				}
				require.Len(t, served, 10)
			})
		})
	}
}

// What keeps a connection in order passes what waits to be sent, though 16 MiB do.
func TestV2ControlFramesOvertakeWhatWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, p := engCaller(t, arpc.WithStreamWindow(1024), arpc.WithSendQueue(16384, 32<<20), arpc.WithWriteTimeout(time.Hour))
		served := engServed(t, s.Handler, "/x")
		p.write(engOpens)
		far := suiteNext(t, served)
		client := far.Client()
		for range 16 << 20 / 10000 {
			require.NoError(t, client.Notify("/n", make([]byte, 10000), arpc.TimeZero))
		}
		p.write(engOn(wire.CmdStream, 0, strings.Repeat("x", 1024)))
		p.write(wire.AppendFrame(nil, wire.Header{Cmd: wire.CmdPing}, "", ""))
		require.NoError(t, far.Recv(nil))
		synctest.Wait()
		before := map[byte]int{}
		for bytes, grant := 0, false; !grant || before[wire.CmdPong] == 0; {
			f, err := engReadFrame(p.r)
			require.NoError(t, err)
			before[f.Command()]++
			grant = grant || f.Command() == wire.CmdWindow
			bytes += f.FrameLen()
			require.Less(t, bytes, 1<<20, "of 16 MiB")
		}
	})
}

// A sender that waits for room in the queue, rather than for credit, hears too why
// the stream is over.
func TestV2SendThatWaitsForRoomSaysWhyTheStreamEnded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, p := engCaller(t, arpc.WithSendQueue(10, 64<<10), arpc.WithWriteTimeout(time.Hour))
		served := engServed(t, s.Handler, "/x")
		p.write(engOpens, engGrant(1<<30))
		far := suiteNext(t, served)
		failed := make(chan error, 1)
		go func() {
			for {
				if err := far.Send(make([]byte, 10000)); err != nil {
					failed <- err
					return
				}
			}
		}()
		synctest.Wait()
		section := wire.AppendCode(nil, uint32(arpc.CodeAborted))
		p.write(wire.AppendFrameMeta(nil, wire.Header{Cmd: wire.CmdCancel | wire.StreamEnd | wire.StreamOpener, Flag: wire.FlagError, Seq: 1}, "", section, "enough"))
		err := suiteNext(t, failed)
		require.EqualError(t, err, "enough")
		require.Equal(t, arpc.CodeAborted, arpc.CodeOf(err))
		require.True(t, arpc.IsRemote(err))
	})
}

// A peer is sent nothing that it did not say it understands, whichever features
// those are, and the rest works.
func TestV2FeaturesBitByBit(t *testing.T) {
	for features := range wire.FeatureGoAway << 1 {
		synctest.Test(t, func(t *testing.T) {
			s := engNewServer(t, arpc.WithHelloTimeout(time.Second), arpc.WithStreamWindow(1024))
			s.Handler.HandleStream("/x", engEchoStream)
			p := s.dial()
			p.hello(wire.Hello{Features: features})
			p.write(engOn(wire.CmdStream, wire.FlagOpen, "1")) // opens, and is a message without windows
			p.isAlive()
			peer := s.Clients()[0]
			ctx, cancel := context.WithTimeout(arpc.ContextWithMetadata(t.Context(), arpc.Metadata{"a": "1"}), time.Minute)
			go func() {
				time.Sleep(time.Second)
				cancel()
			}()
			require.ErrorIs(t, peer.CallWith(ctx, "/x", nil, nil), context.Canceled)
			st := engOpen(t, t.Context(), peer, "/x")
			require.NoError(t, st.Send(make([]byte, 1024)))
			st.Fail(arpc.NewError(arpc.CodeAborted, "no"))
			down := engShutdown(s)
			windows := features&wire.FeatureWindows != 0 && features&wire.FeatureCancel != 0
			seen := map[byte]bool{}
			for {
				f, err := p.receive()
				if err != nil {
					break
				}
				seen[f.Command()] = true
				require.True(t, f.Flag&wire.FlagMeta == 0 || features&wire.FeatureMetadata != 0)
				require.True(t, f.Flag&wire.FlagOpen == 0 || windows)
			}
			p.nc.Close()
			require.NoError(t, suiteNext(t, down))
			require.Equal(t, features&wire.FeatureCancel != 0, seen[wire.CmdCancel], "features %b", features)
			require.Equal(t, features&wire.FeatureGoAway != 0, seen[wire.CmdGoAway], "features %b", features)
			require.False(t, seen[wire.CmdWindow])
			require.True(t, seen[wire.CmdRequest])
			require.True(t, seen[wire.CmdStream])
		})
	}
}
