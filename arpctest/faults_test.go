package arpctest_test

import (
	"context"
	"io"
	"net"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/arpc-go/arpc/arpctest"
	"github.com/stretchr/testify/require"
)

// writeAndClose has the peer of the returned end write text and close.
func writeAndClose(text string, faults ...func(arpctest.Faults)) net.Conn {
	a, b := arpctest.Pipe(faults...)
	go func() {
		io.WriteString(a, text)
		a.Close()
	}()
	return b
}

func TestFaultsOfAPipe(t *testing.T) {
	tests := map[string]struct {
		fault    func(arpctest.Faults)
		want     string
		wantErr  error
		wantTime time.Duration
	}{
		"none":        {fault: func(arpctest.Faults) {}, want: "abcdef"},
		"delay":       {fault: func(f arpctest.Faults) { f.Delay(time.Second) }, want: "abcdef", wantTime: time.Second},
		"split":       {fault: func(f arpctest.Faults) { f.Split(1) }, want: "abcdef"},
		"shortWrites": {fault: func(f arpctest.Faults) { f.ShortWrites(1) }, want: "abcdef"},
		"cutAfter":    {fault: func(f arpctest.Faults) { f.CutAfter(2) }, want: "ab", wantErr: syscall.ECONNRESET},
		"cut":         {fault: arpctest.Faults.Cut, wantErr: syscall.ECONNRESET},
		"corrupt":     {fault: func(f arpctest.Faults) { f.Corrupt(1) }, want: "accdef"},
		"stall": {fault: func(f arpctest.Faults) {
			f.Stall()
			time.AfterFunc(time.Hour, f.Resume)
		}, want: "abcdef", wantTime: time.Hour},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				start := time.Now()
				got, err := io.ReadAll(writeAndClose("abcdef", test.fault))
				require.ErrorIs(t, err, test.wantErr)
				require.Equal(t, test.want, string(got))
				require.Equal(t, test.wantTime, time.Since(start))
			})
		})
	}
}

func TestSplitBoundsReads(t *testing.T) {
	nc := writeAndClose("abcdef", func(f arpctest.Faults) { f.Split(2) })
	n, err := nc.Read(make([]byte, 10))
	require.NoError(t, err)
	require.LessOrEqual(t, n, 2)
}

func TestMemoryListenerSpoilsBothEnds(t *testing.T) {
	ln := arpctest.ListenMemory(func(f arpctest.Faults) { f.CutAfter(3) })
	defer ln.Close()
	for _, dialledWrites := range []bool{true, false} {
		client, err := ln.Dial()
		require.NoError(t, err)
		server, err := ln.Accept()
		require.NoError(t, err)
		if dialledWrites {
			client, server = server, client
		}
		n, err := io.Copy(server, strings.NewReader("abcdef"))
		require.EqualValues(t, 3, n)
		require.ErrorIs(t, err, syscall.ECONNRESET)
		got, err := io.ReadAll(client)
		require.Equal(t, "abc", string(got))
		require.ErrorIs(t, err, syscall.ECONNRESET)
	}
}

func TestMemoryListenerEnds(t *testing.T) {
	ln := arpctest.ListenMemory()
	require.Equal(t, "mem", ln.Addr().Network())
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := ln.DialContext(ctx)
	require.ErrorIs(t, err, context.Canceled)

	require.NoError(t, ln.Close())
	require.ErrorIs(t, ln.Close(), net.ErrClosed)
	_, err = ln.Accept()
	require.ErrorIs(t, err, net.ErrClosed)
	_, err = ln.Dial()
	require.ErrorIs(t, err, syscall.ECONNREFUSED)
}

func TestFaultsOfAnotherConn(t *testing.T) {
	require.PanicsWithValue(t, "arpctest: FaultsOf(<nil>): not an in-memory connection", func() { arpctest.FaultsOf(nil) })
}
