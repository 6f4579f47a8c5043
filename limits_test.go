package arpc

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/arpc-go/arpc/internal/memconn"
	"github.com/arpc-go/arpc/internal/wire"
)

// limitDefaults are the limits of docs/LIMITS.md as the code has them.
func limitDefaults() map[string]string {
	s := defaultSettings()
	return map[string]string{
		"WithMaxConns":           limitOrNone(s.maxConns),
		"WithMaxConnsPerAddress": limitOrNone(s.maxConnsPerAddr),
		"WithHelloTimeout":       s.helloTimeout.String(),
		"WithMaxInflight":        fmt.Sprint(s.maxInflight),
		"WithMaxInflightBytes":   limitBytes(s.maxInflightBytes),
		"WithMaxStreams":         fmt.Sprint(s.maxStreams),
		"WithStreamWindow":       limitBytes(s.streamWindow),
		"WithStreamQueue":        fmt.Sprintf("%d, %s", s.streamMessages, limitBytes(s.streamBytes)),
		"WithMaxBodyLen":         limitBytes(s.maxBody),
		"WithMaxMetadata":        limitBytes(s.maxMetadata),
		"WithSendQueue":          fmt.Sprintf("%d, %s", s.sendMessages, limitBytes(s.sendBytes)),
		"WithReadTimeout":        s.readTimeout.String(),
		"WithWriteTimeout":       s.writeTimeout.String(),
		"WithIdleTimeout":        limitOrNone(int(s.idleTimeout)),
		"WithKeepalive":          fmt.Sprintf("30s, %v", s.keepaliveTimeout),
		"WithCallTimeout":        limitOrNone(int(s.callTimeout)),
	}
}

// noLimits are the options that limit nothing.
var noLimits = map[string]bool{
	"WithBusyPoll": true, "WithCodec": true, "WithComeBackAfter": true, "WithCompat": true, "WithCredentials": true, "WithHandler": true,
	"WithLogger": true, "WithPeerName": true, "WithReconnect": true, "WithVersions": true, "WithWaitForReady": true,
}

func limitOrNone(n int) string {
	if n == 0 {
		return "0: none"
	}
	return fmt.Sprint(n)
}

func limitBytes(n int) string {
	switch {
	case n%(1<<20) == 0:
		return fmt.Sprintf("%d MiB", n>>20)
	case n%(1<<10) == 0:
		return fmt.Sprintf("%d KiB", n>>10)
	}
	whole := n>>20 + 1
	return fmt.Sprintf("%d MiB less %d bytes", whole, whole<<20-n)
}

func TestLimitsTableSaysWhatTheCodeDoes(t *testing.T) {
	text, err := os.ReadFile("docs/LIMITS.md")
	require.NoError(t, err)
	table := make(map[string]string)
	for _, row := range regexp.MustCompile("(?m)^\\| `(With\\w+)` \\| ([^|]+) \\|(.*)\\|$").FindAllStringSubmatch(string(text), -1) {
		require.NotContains(t, table, row[1])
		require.Len(t, strings.Split(row[3], "|"), 4, row[1])
		table[row[1]] = row[2]
	}
	require.Equal(t, limitDefaults(), table)
}

func TestLimitsTableHasEveryOption(t *testing.T) {
	source, err := os.ReadFile("settings.go")
	require.NoError(t, err)
	limits := limitDefaults()
	for _, option := range regexp.MustCompile(`(?m)^func (With\w+)\(`).FindAllStringSubmatch(string(source), -1) {
		_, limited := limits[option[1]]
		require.NotEqual(t, limited, noLimits[option[1]], "is %s a limit?", option[1])
	}
}

func TestLimitErrorsNameTheirSettings(t *testing.T) {
	for setting, err := range map[string]error{
		"WithSendQueue": ErrOverstock, "WithStreamQueue": ErrStreamOverrun, "WithStreamWindow": (&Stream{flow: true}).overrun(),
		"WithIdleTimeout": ErrIdle, "WithKeepalive": ErrKeepalive,
	} {
		require.ErrorContains(t, err, "("+setting)
	}
}

// limitTests are tests of what happens at each limit, that its error names it
// included, here and elsewhere.
var limitTests = map[string][]string{
	"WithMaxConns":           {"TestLimitOfConnectionsOfTheServer", "TestSuiteMaxConns"},
	"WithMaxConnsPerAddress": {"TestLimitOfConnectionsOfAnAddress"},
	"WithHelloTimeout":       {"TestLimitOfTheTimeUntilAPeerIsLetIn", "TestBadInputSilentPort", "TestV2PeerThatNeverSaysHelloIsCutInTime"},
	"WithMaxInflight":        {"TestHostileRequestsWhileCalling", "TestSuiteInflightRefused", "TestSuiteInflightWaits"},
	"WithMaxInflightBytes":   {"TestLimitOfBytesInFlight", "TestSuiteInflightWaits", "TestHostileManyStreams"},
	"WithMaxStreams":         {"TestHostileStreamOpenings", "TestV2StreamsOverThePeersLimitAreNotOpened"},
	"WithStreamWindow":       {"TestLimitErrorsNameTheirSettings", "TestV2SenderStopsAtTheWindow"},
	"WithStreamQueue":        {"TestLimitErrorsNameTheirSettings", "TestHostileStreamData"},
	"WithMaxBodyLen":         {"TestBadInputReceiving", "TestBadInputSending", "TestV2MessagesOverThePeersBodyLimitAreNotSent"},
	"WithMaxMetadata":        {"TestLimitOfMetadataAtTheReceiver", "TestV2MetadataOverThePeersLimitIsNotSent"},
	"WithSendQueue":          {"TestLimitErrorsNameTheirSettings", "TestHostileNothingIsRead", "TestLimitOfTheSendQueueIsCounted"},
	"WithReadTimeout":        {"TestHostileSlowFrame", "TestSuiteReadTimeout"},
	"WithWriteTimeout":       {"TestSuiteWriteTimeout", "TestHostileResponsesAreNotRead"},
	"WithIdleTimeout":        {"TestLimitErrorsNameTheirSettings", "TestV2ConnectionThatIsIdleForTooLongIsEnded"},
	"WithKeepalive":          {"TestLimitErrorsNameTheirSettings", "TestSuiteKeepaliveDeadPeer"},
	"WithCallTimeout":        {"TestV2CallTimeoutLimitsCallsWithoutADeadline"},
}

func TestLimitsHaveTests(t *testing.T) {
	files, err := filepath.Glob("*_test.go")
	require.NoError(t, err)
	var all bytes.Buffer
	for _, file := range files {
		source, err := os.ReadFile(file)
		require.NoError(t, err)
		all.Write(source)
	}
	for setting := range limitDefaults() {
		require.NotEmpty(t, limitTests[setting], setting)
		for _, name := range limitTests[setting] {
			require.Contains(t, all.String(), "\nfunc "+name+"(", setting)
		}
	}
}

// limitLog is a logger and what it was told.
type limitLog struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (l *limitLog) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

func (l *limitLog) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

// limitServer serves until the test ends.
func limitServer(t *testing.T, ln net.Listener, opts ...Option) (*Server, *limitLog) {
	log := new(limitLog)
	s := NewServer(append(opts, WithLogger(slog.New(slog.NewTextHandler(log, nil))))...)
	served := make(chan error, 1)
	go func() { served <- s.Serve(ln) }()
	t.Cleanup(func() {
		s.Stop()
		require.ErrorIs(t, <-served, ErrServerClosed)
	})
	return s, log
}

// limitFrom is a listener whose connections come from the addresses given.
type limitFrom struct {
	net.Listener
	addrs []string
}

type limitFromConn struct {
	net.Conn
	addr net.Addr
}

func (c limitFromConn) RemoteAddr() net.Addr { return c.addr }

func (l *limitFrom) Accept() (net.Conn, error) {
	nc, err := l.Listener.Accept()
	if err != nil || len(l.addrs) == 0 {
		return nc, err
	}
	addr := net.TCPAddrFromAddrPort(netip.AddrPortFrom(netip.MustParseAddr(l.addrs[0]), uint16(1000+len(l.addrs))))
	l.addrs = l.addrs[1:]
	return limitFromConn{nc, addr}, nil
}

func TestLimitOfConnectionsOfTheServer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ln := memconn.Listen()
		s, log := limitServer(t, ln, WithMaxConns(1))
		first := limitDial(t, ln)
		limitDial(t, ln).ends(t)
		stats := s.Statistics()
		require.EqualValues(t, 1, stats.Refused)
		require.Zero(t, stats.RefusedByAddress)
		require.EqualValues(t, 1, stats.Accepted)
		require.Equal(t, 1, stats.Connections)
		require.Contains(t, log.String(), "1 connections, the limit (WithMaxConns)")
		first.Close()
		synctest.Wait()
		limitDial(t, ln)
		synctest.Wait()
		require.EqualValues(t, 2, s.Statistics().Accepted)
	})
}

func TestLimitOfConnectionsOfAnAddress(t *testing.T) {
	tests := map[string]struct {
		addrs   []string
		refused []bool
	}{
		"version 4":                   {[]string{"192.0.2.1", "192.0.2.1", "192.0.2.2", "192.0.2.1"}, []bool{false, false, false, true}},
		"version 4 as version 6":      {[]string{"192.0.2.1", "::ffff:192.0.2.1", "192.0.2.1"}, []bool{false, false, true}},
		"version 6, by its customer":  {[]string{"2001:db8::1", "2001:db8::2:3", "2001:db8::4"}, []bool{false, false, true}},
		"version 6, of two customers": {[]string{"2001:db8::1", "2001:db8::1", "2001:db8:0:1::1"}, []bool{false, false, false}},
		"zones":                       {[]string{"fe80::1%a", "fe80::1%b", "fe80::1%c"}, []bool{false, false, true}},
		"no addresses":                {nil, []bool{false, false, false}},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ln := memconn.Listen()
				s, log := limitServer(t, &limitFrom{ln, test.addrs}, WithMaxConnsPerAddress(2))
				refused := 0
				var first *limitPeer
				for i, want := range test.refused {
					p := limitDial(t, ln)
					if i == 0 {
						first = p
					}
					synctest.Wait()
					if want {
						refused++
						p.ends(t)
						require.Contains(t, log.String(), "the limit (WithMaxConnsPerAddress)")
					}
				}
				require.EqualValues(t, refused, s.Statistics().RefusedByAddress)
				require.EqualValues(t, refused, s.Refused())
				require.Equal(t, len(test.refused)-refused, s.Statistics().Connections)
				first.Close()
				synctest.Wait()
				require.Equal(t, len(test.refused)-refused-1, s.Statistics().Connections)
			})
		})
	}
}

func TestLimitOfAnAddressHasRoomAgainWhenOneIsGone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ln := memconn.Listen()
		s, _ := limitServer(t, &limitFrom{ln, []string{"192.0.2.1", "192.0.2.1", "192.0.2.1"}}, WithMaxConnsPerAddress(1))
		first := limitDial(t, ln)
		limitDial(t, ln).ends(t)
		first.Close()
		synctest.Wait()
		require.Empty(t, s.perAddr)
		limitDial(t, ln)
		synctest.Wait()
		require.Len(t, s.Clients(), 1)
		require.EqualValues(t, 1, s.Refused())
	})
}

func TestLimitsThatMakeNoSenseAreRefused(t *testing.T) {
	err := NewServer(WithMaxConnsPerAddress(-1)).Run("127.0.0.1:0")
	require.Equal(t, CodeInvalidArgument, CodeOf(err))
	require.ErrorContains(t, err, "WithMaxConnsPerAddress")
	require.ErrorContains(t, err, "-1")
}

func TestLimitOfTheTimeUntilAPeerIsLetIn(t *testing.T) {
	hook := func(h *Handler) { h.HandleAuth(limitNobody) }
	tests := map[string]struct {
		opts []Option
		code Code
		text string
	}{
		"authentication": {[]Option{{apply: hook}}, CodeUnauthenticated, "did not authenticate in 5s (WithHelloTimeout)"},
		"version 2":      {[]Option{WithVersions(2, 2)}, CodeFailedPrecondition, "did not say hello in 5s (WithHelloTimeout"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ln := memconn.Listen()
				s, log := limitServer(t, ln, test.opts...)
				limitDial(t, ln).ends(t)
				synctest.Wait()
				require.Contains(t, log.String(), test.text)
				stats := s.Statistics()
				require.EqualValues(t, 1, stats.NeverOpened)
				require.Equal(t, map[Code]uint64{test.code: 1}, stats.Ended)
				require.Zero(t, stats.Connections)
			})
		})
	}
}

// While a call of ours waits on the same connection.
func TestLimitOfBytesInFlight(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ln := memconn.Listen()
		s, _ := limitServer(t, ln, WithMaxInflightBytes(1000))
		release := make(chan struct{})
		s.Handler.Handle("/held", func(ctx *Context) { <-release; ctx.Write(nil) }, true)
		p := limitDial(t, ln)
		synctest.Wait()
		ctx, cancel := context.WithCancel(t.Context())
		called := make(chan error, 1)
		go func() { called <- s.Clients()[0].CallWith(ctx, "/peer", nil, nil) }()
		p.next(t)
		for seq := range uint64(2) {
			p.write(t, wire.AppendFrame(nil, wire.Header{Cmd: wire.CmdRequest, Seq: seq}, "/held", make([]byte, 800)))
		}
		require.Contains(t, string(p.next(t)), "1000 bytes (WithMaxInflight, WithMaxInflightBytes)")
		require.EqualValues(t, 1, s.Statistics().RequestsRefused)
		close(release)
		cancel()
		require.ErrorIs(t, <-called, context.Canceled)
		p.next(t)
	})
}

// A peer that sends what it was told is too much.
func TestLimitOfMetadataAtTheReceiver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ln := memconn.Listen()
		s, _ := limitServer(t, ln, WithMaxMetadata(100))
		p := limitDial(t, ln)
		p.hello(t, nil)
		require.True(t, wire.IsHello(wire.Payload(p.next(t))))
		section := wire.AppendPair(nil, "key", strings.Repeat("v", 200))
		p.write(t, wire.AppendFrameMeta(nil, wire.Header{Cmd: wire.CmdRequest, Seq: 1}, "/do", section, "x"))
		require.Contains(t, string(p.next(t)), "over the receiver's limit of 100 (WithMaxMetadata)")
		synctest.Wait()
		require.EqualValues(t, 1, s.Statistics().Dropped)
	})
}

// What was counted of a connection is not lost with it.
func TestLimitCountersOutliveConnections(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ln := memconn.Listen()
		s, _ := limitServer(t, ln)
		p := limitDial(t, ln)
		p.write(t, wire.AppendFrame(nil, wire.Header{Cmd: wire.CmdNotify}, "/nobody", "x"))
		synctest.Wait()
		open := s.Statistics()
		require.EqualValues(t, 1, open.Dropped)
		p.Close()
		synctest.Wait()
		ended := s.Statistics()
		require.EqualValues(t, 1, ended.Dropped)
		require.Zero(t, ended.NeverOpened)
		require.Equal(t, map[Code]uint64{CodeOf(ErrPeerClosed): 1}, ended.Ended)
		require.Empty(t, open.Ended, "it is a copy")
		text, err := json.Marshal(ended)
		require.NoError(t, err)
		require.Contains(t, string(text), `"dropped":1`)
	})
}

func TestLimitOfTheSendQueueIsCounted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ln := memconn.Listen()
		s, _ := limitServer(t, ln, WithSendQueue(1, 1), WithWriteTimeout(0))
		limitDial(t, ln)
		synctest.Wait()
		c, left := s.Clients()[0], uint64(0)
		for range 10 {
			if err := c.Notify("/n", make([]byte, 1<<20), TimeZero); err != nil {
				require.ErrorIs(t, err, ErrOverstock)
				left++
			}
			synctest.Wait()
		}
		require.Positive(t, left)
		require.Equal(t, left, s.Statistics().Overstocks)
	})
}

func limitNobody(context.Context, *Client, []byte) error { return errors.New("nobody is let in") }

func TestUnauthenticatedPeersLearnNothingFromIntrospection(t *testing.T) {
	for _, method := range []string{RoutesMethod, StatisticsMethod} {
		for _, hello := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, hello %t", method, hello), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					ln := memconn.Listen()
					s, _ := limitServer(t, ln)
					s.Handler.HandleAuth(limitNobody)
					s.Handler.EnableIntrospection()
					s.Handler.Handle("/hidden", func(*Context) { t.Error("it was handled") })
					p := limitDial(t, ln)
					if hello {
						p.hello(t, []byte("wrong"))
					}
					p.write(t, wire.AppendFrame(nil, wire.Header{Cmd: wire.CmdRequest, Seq: 1}, method, ""))
					said, err := io.ReadAll(p)
					require.NoError(t, err)
					require.NotContains(t, string(said), "hidden")
					require.NotContains(t, string(said), `"connections"`)
					p.Close()
					synctest.Wait()
					require.EqualValues(t, 1, s.Statistics().NeverOpened)
					require.Empty(t, s.Handler.Statistics().Routes, "nothing was counted as handled")
				})
			})
		}
	}
}

// A hello that never ends costs its length, for the hello timeout.
func TestUnauthenticatedPeersTakeLittleMemory(t *testing.T) {
	const peers = 500
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	s, _ := limitServer(t, ln, WithHelloTimeout(time.Hour))
	s.Handler.HandleAuth(limitNobody)
	frame := wire.AppendFrame(nil, wire.Header{Cmd: wire.CmdPing}, "", make([]byte, wire.HelloMax))
	before := limitMemory()
	for range peers {
		nc, err := net.Dial("tcp", ln.Addr().String())
		require.NoError(t, err)
		defer nc.Close()
		_, err = nc.Write(frame[:len(frame)-1])
		require.NoError(t, err)
	}
	require.Eventually(t, func() bool {
		received := 0
		for _, c := range s.Handler.Statistics().Connections {
			received += int(c.Received)
		}
		return received == peers*(len(frame)-1)
	}, time.Minute, 10*time.Millisecond)
	each := (limitMemory() - before) / peers
	t.Logf("%d bytes a peer", each)
	require.Less(t, each, int64(2*wire.HelloMax+20<<10))
	require.Empty(t, s.Clients())
}

func limitMemory() int64 {
	var m runtime.MemStats
	runtime.GC()
	runtime.GC()
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc + m.StackInuse)
}

// limitPeer is a scripted client.
type limitPeer struct{ net.Conn }

func limitDial(t *testing.T, ln *memconn.Listener) *limitPeer {
	t.Helper()
	nc, err := ln.Dial()
	require.NoError(t, err)
	t.Cleanup(func() { nc.Close() })
	return &limitPeer{nc}
}

func (p *limitPeer) write(t *testing.T, frame []byte) {
	t.Helper()
	_, err := p.Write(frame)
	require.NoError(t, err)
}

func (p *limitPeer) hello(t *testing.T, credentials []byte) {
	t.Helper()
	hello := wire.Hello{Features: features, Credentials: credentials}
	p.write(t, wire.AppendFrame(nil, wire.Header{Cmd: wire.CmdPing}, "", hello.Append(nil, true)))
}

// next returns the next frame.
func (p *limitPeer) next(t *testing.T) []byte {
	t.Helper()
	frame := make([]byte, wire.HeaderLen)
	_, err := io.ReadFull(p, frame)
	require.NoError(t, err)
	frame = append(frame, make([]byte, wire.ParseHeader(frame).BodyLen)...)
	_, err = io.ReadFull(p, frame[wire.HeaderLen:])
	require.NoError(t, err)
	return frame
}

// ends requires that nothing comes but the end.
func (p *limitPeer) ends(t *testing.T) {
	t.Helper()
	rest, err := io.ReadAll(p)
	require.NoError(t, err)
	require.Empty(t, rest)
}
