package arpc_test

import (
	"context"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/arpc-go/arpc"
	"github.com/arpc-go/arpc/internal/memconn"
	"github.com/arpc-go/arpc/internal/wire"
)

// v2AllowedFor requires that a frame is one that a peer with these features knows.
func v2AllowedFor(t *testing.T, features uint64, f rowFrame) {
	t.Helper()
	allowed := map[byte]bool{
		wire.CmdRequest: true, wire.CmdResponse: true, wire.CmdNotify: true, wire.CmdPing: true, wire.CmdPong: true, wire.CmdStream: true,
		wire.CmdCancel: features&wire.FeatureCancel != 0,
		wire.CmdWindow: features&wire.FeatureWindows != 0,
		wire.CmdGoAway: features&wire.FeatureGoAway != 0,
	}
	require.True(t, allowed[f.Command()], "command %d", f.Command())
	require.False(t, f.Flag&wire.FlagMeta != 0 && features&wire.FeatureMetadata == 0, "metadata in command %d", f.Command())
	require.False(t, f.Flag&wire.FlagOpen != 0 && features&wire.FeatureWindows == 0, "an open flag in command %d", f.Command())
}

// v2EachFeatures runs a test for every set of features that a peer may have.
func v2EachFeatures(t *testing.T, test func(t *testing.T, features uint64)) {
	t.Helper()
	for features := range uint64(16) {
		t.Run(fmt.Sprintf("%04b", features), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { test(t, features) })
		})
	}
}

// v2Received returns all that a scripted peer is sent, until the connection ends.
func v2Received(p *v2Peer) (frames []rowFrame) {
	p.nc.SetReadDeadline(time.Now().Add(v2Patience))
	for {
		f, err := rowReadFrame(p.nc)
		if err != nil {
			return frames
		}
		frames = append(frames, f)
		switch {
		case f.Command() == wire.CmdPing:
			p.nc.Write(wire.AppendFrame(nil, wire.Header{Cmd: wire.CmdPong}, "", ""))
		case f.Command() == wire.CmdGoAway && f.Cmd&wire.StreamEnd == 0:
			p.nc.Write(wire.AppendFrame(nil, wire.Header{Cmd: wire.CmdGoAway | wire.StreamEnd}, "", ""))
		}
	}
}

// v2CountOf returns how many frames have a command.
func v2CountOf(frames []rowFrame, cmd byte) (n int) {
	for _, f := range frames {
		if f.Command() == cmd {
			n++
		}
	}
	return n
}

func TestV2DialledPeerGetsOnlyWhatItAnnounced(t *testing.T) {
	v2EachFeatures(t, func(t *testing.T, features uint64) {
		d := v2Dial(t)
		p := <-d.peers
		p.hello(wire.CmdPing)
		p.sayHello(wire.CmdPong, wire.Hello{Features: features})
		c := d.connected()
		received := make(chan []rowFrame, 1)
		go func() { received <- v2Received(p) }()
		v2UseAll(t, c)
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		c.Shutdown(ctx)
		frames := <-received
		for _, f := range frames {
			v2AllowedFor(t, features, f)
		}
		require.Equal(t, features&wire.FeatureCancel != 0, v2CountOf(frames, wire.CmdCancel) > 0)
		require.Equal(t, features&wire.FeatureGoAway != 0, v2CountOf(frames, wire.CmdGoAway) > 0)
	})
}

// v2UseAll does what a peer of version 2 may hear of.
func v2UseAll(t *testing.T, c *arpc.Client) {
	ctx := arpc.ContextWithTrace(arpc.ContextWithMetadata(t.Context(), arpc.Metadata{"a": "b"}), arpc.Trace{Parent: "00-0-0-01"})
	timed, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	require.Error(t, c.CallWith(timed, "/m", "x", nil))
	given, giveUp := context.WithCancel(ctx)
	time.AfterFunc(time.Second, giveUp)
	require.ErrorIs(t, c.CallWith(given, "/m", "x", nil), context.Canceled)
	require.NoError(t, c.NotifyWith(ctx, "/m", "x"))
	ends := []func(*arpc.Stream){
		func(st *arpc.Stream) { st.Close() },
		func(st *arpc.Stream) { st.Fail(arpc.NewError(arpc.CodeAborted, "no more")) },
		func(st *arpc.Stream) { st.CloseSend(); st.Close() },
		func(*arpc.Stream) { giveUp() },
	}
	for _, end := range ends {
		for _, sends := range []int{0, 2} {
			given, giveUp = context.WithCancel(ctx)
			st, err := c.OpenStream(given, "/m")
			require.NoError(t, err)
			for range sends {
				require.NoError(t, st.Send("x"))
			}
			end(st)
			synctest.Wait()
			giveUp()
		}
	}
	_, err := c.Ping(ctx)
	require.NoError(t, err)
}

func TestV2AcceptedPeerGetsOnlyWhatItAnnounced(t *testing.T) {
	v2EachFeatures(t, func(t *testing.T, features uint64) {
		ln := memconn.Listen()
		s := rowServe(t, ln, arpc.WithComeBackAfter(time.Second), arpc.WithMaxStreams(2))
		s.Handler.Handle("/fail", func(ctx *arpc.Context) {
			ctx.SetMetadata("a", "b")
			ctx.Error(arpc.NewError(arpc.CodeAborted, "no"))
		})
		s.Handler.HandleStream("/fail", func(st *arpc.Stream) {
			st.Recv(nil)
			st.Fail(arpc.NewError(arpc.CodeAborted, "no"))
		})
		p := v2Caller(t, ln)
		p.sayHello(wire.CmdPing, wire.Hello{Features: features})
		p.hello(wire.CmdPong)
		received := make(chan []rowFrame, 1)
		go func() { received <- v2Received(p) }()
		for seq, method := range []string{"/fail", "/none"} {
			p.write(wire.Header{Cmd: wire.CmdRequest, Seq: uint64(seq)}, method, "x")
			flag := byte(0)
			if features&wire.FeatureWindows != 0 {
				flag = wire.FlagOpen
			}
			p.write(wire.Header{Cmd: wire.CmdStream | wire.StreamOpener, Flag: flag, Seq: uint64(10 + seq)}, method, "")
			p.write(wire.Header{Cmd: wire.CmdStream | wire.StreamOpener, Seq: uint64(10 + seq)}, method, "x")
		}
		synctest.Wait()
		require.NoError(t, s.Shutdown(t.Context()))
		frames := <-received
		require.Equal(t, 2, v2CountOf(frames, wire.CmdResponse))
		for _, f := range frames {
			v2AllowedFor(t, features, f)
		}
		require.Equal(t, features&wire.FeatureGoAway != 0, v2CountOf(frames, wire.CmdGoAway) > 0)
	})
}

// What a peer did not announce it cannot make us do.
func TestV2CommandsThatWereNotAnnouncedAreIgnored(t *testing.T) {
	v2EachFeatures(t, func(t *testing.T, features uint64) {
		if features&^wire.FeatureWindows == 0 {
			return // windows alone are none: as in version 1 an unknown command ends the connection
		}
		ln := memconn.Listen()
		s := rowServe(t, ln)
		s.Handler.Handle("/echo", rowEcho)
		p := v2Caller(t, ln)
		p.sayHello(wire.CmdPing, wire.Hello{Features: features})
		p.hello(wire.CmdPong)
		for _, cmd := range []byte{wire.CmdCancel, wire.CmdWindow} {
			p.write(wire.Header{Cmd: cmd, Seq: 1}, "", "\x01")
			p.write(wire.Header{Cmd: cmd | wire.StreamEnd, Seq: 1}, "", "\x01")
		}
		p.write(wire.Header{Cmd: 63, Seq: 1}, "", "from the future")
		p.write(wire.Header{Cmd: wire.CmdRequest, Seq: 1}, "/echo", "x")
		require.Equal(t, "/echo x", p.next().String())
		p.write(wire.Header{Cmd: wire.CmdGoAway}, "", "")
		if features&wire.FeatureGoAway != 0 {
			require.Equal(t, wire.CmdGoAway|wire.StreamEnd, p.next().Cmd)
		}
		p.write(wire.Header{Cmd: wire.CmdRequest, Seq: 2}, "/echo", "y")
		require.Equal(t, "/echo y", p.next().String())
		require.Equal(t, features&wire.FeatureGoAway != 0, rowClient(t, s).Notify("/n", nil, arpc.TimeZero) != nil)
	})
}
