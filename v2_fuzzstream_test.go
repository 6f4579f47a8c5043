package arpc_test

import (
	"context"
	"encoding/binary"
	"io"
	"math/rand/v2"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/arpc-go/arpc"
	"github.com/arpc-go/arpc/arpctest"
	"github.com/arpc-go/arpc/internal/wire"
	"github.com/stretchr/testify/require"
)

const (
	engFuzzWindow   = 1024
	engFuzzStreams  = 40 // that may be open
	engFuzzActs     = 400
	engFuzzHandlers = 8 // that may run for a raw peer
)

// engProgram is a random program: both ends of a connection open streams, talk on
// them and end them, one act after the other. It knows what must come of it.
type engProgram struct {
	t       *testing.T
	pair    *arpctest.Pair
	served  [2]chan *engFuzzEnd
	streams []*[2]*engFuzzEnd // that were opened, by whom they were at index 0
}

// engFuzzEnd is one end of a stream.
type engFuzzEnd struct {
	*arpc.Stream
	other  *engFuzzEnd
	cancel context.CancelFunc // of the opener's context
	leave  chan struct{}      // closed to end the handler

	sent, received         int // messages
	sentCost, receivedCost int
	closed                 bool      // no more sends
	over                   bool      // ended both ways by this end or the other
	last                   arpc.Code // what Recv ends with behind the messages, CodeOK for io.EOF
	ended                  bool      // last is set
	own                    bool      // this end was the one to end it: it receives no more
}

// Random programs of two honest ends: no message is lost, repeated or reordered, a
// sender never has more on its way than the window, nor less than half of it when it
// is held up, every end comes through with its code, and nothing is left.
func FuzzStreams(f *testing.F) {
	for _, seed := range []string{
		"\x00\x01\x11\x02\x12\x03\x13", "\x00\x81\x81\x81\x81\x81\x12\x12\x12\x81", "\x00\x10\x20\x30\x40\x50\x60\x70\x80\x90",
		"\x00\x01\x04\x12\x12", "\x10\x01\x15\x12\x02", "\x00\x01\x06\x12", "\x00\xa1\xb1\xa2\xb2\xa3\xb3\x02\x12", "\x00\x07\x17\x03\x13\x08\x18",
	} {
		f.Add([]byte(seed))
	}
	engAddRandom(f)
	f.Fuzz(func(t *testing.T, acts []byte) {
		synctest.Test(t, func(t *testing.T) {
			p := engNewProgram(t)
			for _, act := range acts[:min(len(acts), engFuzzActs)] {
				p.do(act)
				synctest.Wait()
			}
			p.finish()
		})
	})
}

// engAddRandom adds seeds that a fuzzer would come to, for runs without one.
func engAddRandom(f *testing.F) {
	random := rand.New(rand.NewPCG(1, 2))
	for range 100 {
		acts := make([]byte, random.IntN(engFuzzActs))
		for i := range acts {
			acts[i] = byte(random.Uint32())
		}
		f.Add(acts)
	}
}

func engNewProgram(t *testing.T) *engProgram {
	opts := []arpc.Option{arpc.WithStreamWindow(engFuzzWindow), arpc.WithMaxStreams(engFuzzStreams), arpc.WithKeepalive(0, 0)}
	p := &engProgram{t: t}
	p.pair = arpctest.New(t, arpctest.Memory(), arpctest.ServerOptions(opts...), arpctest.ClientOptions(opts...), arpctest.Setup(suiteWithEcho))
	for i, h := range []*arpc.Handler{p.pair.Server.Handler, p.pair.Client.Handler} {
		served := make(chan *engFuzzEnd, engFuzzStreams)
		h.HandleStream("/x", func(s *arpc.Stream) {
			leave := make(chan struct{})
			served <- &engFuzzEnd{Stream: s, leave: leave}
			<-leave
		})
		p.served[i] = served
	}
	return p
}

// do is one act: four bits say what, one which side, the others which stream.
func (p *engProgram) do(act byte) {
	side := int(act >> 4 & 1)
	if act&7 == 0 || len(p.streams) == 0 {
		p.open(side)
		return
	}
	e := p.streams[len(p.streams)-1-int(act>>5)%len(p.streams)][side]
	switch act & 7 {
	case 1:
		e.send(p.t, 0)
	case 2:
		e.recv(p.t)
	case 3:
		e.closeSend(p.t)
	case 4:
		e.end(arpc.CodeOK, func() { require.NoError(p.t, e.Close()) })
	case 5:
		e.end(arpc.CodeAborted, func() { e.Fail(arpc.NewError(arpc.CodeAborted, "")) })
	case 6:
		e.giveUp()
	case 7:
		e.send(p.t, 300*int(act>>3&1)+2000*int(act>>4&1))
	}
}

func (p *engProgram) open(side int) {
	if len(p.streams) == engFuzzStreams {
		return
	}
	ctx, cancel := context.WithCancel(p.t.Context())
	s, err := []*arpc.Client{p.pair.Client, p.pair.Peer()}[side].OpenStream(ctx, "/x")
	require.NoError(p.t, err)
	near := &engFuzzEnd{Stream: s, cancel: cancel, other: suiteNext(p.t, p.served[side])}
	near.other.other = near
	p.streams = append(p.streams, &[2]*engFuzzEnd{near, near.other})
}

// close ends all streams and their handlers.
func (p *engProgram) close() {
	for _, s := range p.streams {
		require.NoError(p.t, s[0].Close())
		close(s[1].leave)
		s[0].cancel()
	}
	p.streams = nil
	synctest.Wait()
}

func (e *engFuzzEnd) send(t *testing.T, size int) {
	b := make([]byte, 4+size)
	binary.LittleEndian.PutUint32(b, uint32(e.sent))
	ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
	defer cancel()
	err := e.SendContext(ctx, b)
	onTheWay := e.sentCost - e.other.receivedCost
	switch {
	case err == nil:
		require.False(t, e.closed)
		require.Less(t, onTheWay, engFuzzWindow)
		e.sent++
		e.sentCost += engCost + len(b)
	case e.closed:
		require.NotErrorIs(t, err, context.DeadlineExceeded)
	default:
		require.ErrorIs(t, err, context.DeadlineExceeded)
		require.Greater(t, onTheWay, engFuzzWindow/2, "there is room")
	}
}

func (e *engFuzzEnd) recv(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
	defer cancel()
	var b []byte
	err := e.RecvContext(ctx, &b)
	switch {
	case e.own:
		require.Error(t, err)
	case e.received < e.other.sent:
		require.NoError(t, err)
		require.Equal(t, uint32(e.received), binary.LittleEndian.Uint32(b))
		e.received++
		e.receivedCost += engCost + len(b)
	case e.ended && e.last == arpc.CodeOK:
		require.Equal(t, io.EOF, err)
	case e.ended:
		require.Equal(t, e.last, arpc.CodeOf(err), "%v", err)
	default:
		require.ErrorIs(t, err, context.DeadlineExceeded)
	}
}

func (e *engFuzzEnd) closeSend(t *testing.T) {
	require.NoError(t, e.CloseSend())
	e.closed = true
	e.other.gets(arpc.CodeOK)
	e.settle()
}

// gets notes what the end receives last, unless that is known.
func (e *engFuzzEnd) gets(code arpc.Code) {
	if !e.ended {
		e.ended, e.last = true, code
	}
}

// settle notes that a stream of which both halves are closed is over.
func (e *engFuzzEnd) settle() {
	if e.closed && e.other.closed {
		e.over, e.other.over = true, true
	}
}

// end ends the stream both ways.
func (e *engFuzzEnd) end(code arpc.Code, end func()) {
	end()
	e.own = true
	if e.over {
		return
	}
	e.over, e.other.over = true, true
	e.closed, e.other.closed = true, true
	e.other.gets(code)
}

// giveUp ends the opener's context.
func (e *engFuzzEnd) giveUp() {
	if e.cancel == nil {
		e = e.other
	}
	e.end(arpc.CodeCanceled, e.cancel)
}

// finish ends all streams and requires that there is room for as many as may be,
// from either side, and that everybody is well.
func (p *engProgram) finish() {
	p.close()
	for side := range 2 {
		for range engFuzzStreams {
			p.open(side)
		}
		for _, s := range p.streams {
			s[0].send(p.t, 0)
			synctest.Wait()
			s[1].recv(p.t)
		}
		p.close()
	}
	suiteAlive(p.t, p.pair)
}

// engHostileActs are the frames that the raw peer of FuzzStreamPeer sends, with an
// id and a body still to be set.
var engHostileActs = []wire.Header{
	{Cmd: wire.CmdStream | wire.StreamOpener, Flag: wire.FlagOpen},
	{Cmd: wire.CmdStream | wire.StreamOpener | wire.StreamEnd, Flag: wire.FlagOpen},
	{Cmd: wire.CmdStream | wire.StreamOpener},
	{Cmd: wire.CmdStream | wire.StreamOpener | wire.StreamEnd},
	{Cmd: wire.CmdStream},
	{Cmd: wire.CmdStream | wire.StreamEnd},
	{Cmd: wire.CmdStream, Flag: wire.FlagOpen},
	{Cmd: wire.CmdWindow | wire.StreamOpener},
	{Cmd: wire.CmdWindow},
	{Cmd: wire.CmdWindow | wire.StreamEnd},
	{Cmd: wire.CmdCancel | wire.StreamOpener | wire.StreamEnd},
	{Cmd: wire.CmdCancel | wire.StreamEnd},
	{Cmd: wire.CmdCancel | wire.StreamOpener},
	{Cmd: wire.CmdCancel | wire.StreamOpener | wire.StreamEnd, Flag: wire.FlagError | wire.FlagMeta},
	{Cmd: wire.CmdStream | wire.StreamOpener, Flag: wire.FlagOpen | wire.FlagMeta},
	{Cmd: wire.CmdGoAway | wire.StreamEnd},
}

// A raw peer plays any game with streams and windows: the server answers requests
// all along, runs no more handlers than streams, and all of them end with the
// connection.
func FuzzStreamPeer(f *testing.F) {
	f.Add([]byte{0, 0, 0, 32, 3, 0, 2, 200, 3, 0})
	f.Add([]byte{0, 8, 255, 7, 8, 255, 10, 0, 0, 0})
	f.Add([]byte{1, 3, 4, 5, 6, 7, 9, 11, 12, 13, 14, 15, 16, 250, 251})
	engAddRandom(f)
	f.Fuzz(func(t *testing.T, acts []byte) {
		synctest.Test(t, func(t *testing.T) {
			var running atomic.Int64
			s, p := engCaller(t, arpc.WithStreamWindow(engFuzzWindow), arpc.WithMaxStreams(engFuzzHandlers), arpc.WithSendQueue(1000, 64<<10))
			s.Handler.HandleStream("/x", func(st *arpc.Stream) {
				defer running.Add(-1)
				require.LessOrEqual(t, running.Add(1), int64(engFuzzHandlers))
				engEchoStream(st)
			})
			mine, err := s.Clients()[0].OpenStream(t.Context(), "/x")
			require.NoError(t, err)
			go func() {
				for mine.Send("x") == nil {
				}
			}()
			for i := 0; i+1 < min(len(acts), engFuzzActs); i += 2 {
				p.write(engHostileFrame(acts[i], acts[i+1]))
			}
			p.isAlive()
			p.nc.Close()
			synctest.Wait()
			require.Zero(t, running.Load())
		})
	})
}

// engHostileFrame is what two bytes of the input stand for.
func engHostileFrame(act, arg byte) []byte {
	h := engHostileActs[int(act)%len(engHostileActs)]
	h.Seq = uint64(act>>4)%3 + 1
	body := make([]byte, int(arg)*4)
	if h.Command() == wire.CmdWindow {
		body = binary.AppendUvarint(nil, 1<<(arg%64)-uint64(arg>>6))
	}
	switch {
	case h.Command() != wire.CmdStream:
		return wire.AppendFrame(nil, h, "", body)
	case h.Flag&wire.FlagMeta != 0 && len(body) > 0:
		body[0] = arg
	}
	return wire.AppendFrame(nil, h, "/x", body)
}
