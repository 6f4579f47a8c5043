package arpc_test

import (
	"bytes"
	"io"
	"testing"
	"testing/synctest"
	"time"

	"github.com/arpc-go/arpc"
	"github.com/arpc-go/arpc/internal/memconn"
	"github.com/stretchr/testify/require"
)

type sameCoder struct{}

func (sameCoder) Encode(_ *arpc.Client, m *arpc.Message) *arpc.Message { return m }
func (sameCoder) Decode(_ *arpc.Client, m *arpc.Message) *arpc.Message { return m }

// A call that passes coders has its number before it waits for room. One whose
// deadline passes meanwhile is safe to retry, so it must not be sent afterwards.
func TestCodedCallThatTimedOutIsNotSent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dialer, far := oldPeer(t, memconn.WithBuffer(1<<10))
		h := arpc.NewHandler(arpc.WithSendQueue(1, 1<<20), arpc.WithKeepalive(0, 0), arpc.WithWriteTimeout(0), arpc.WithReconnect(0, 0, 0))
		h.UseCoder(sameCoder{})
		c, err := arpc.NewClient(dialer, arpc.WithHandler(h))
		require.NoError(t, err)
		require.NoError(t, c.Notify("/fill", make([]byte, 64<<10), time.Minute))
		synctest.Wait() // the write is stuck

		err = c.Call("/late", "x", nil, time.Second)
		require.Equal(t, arpc.CodeDeadlineExceeded, arpc.CodeOf(err))
		require.True(t, arpc.SafeToRetry(err))
		ended := make(chan error, 1)
		err = c.CallAsync("/late", "x", func(ctx *arpc.Context) { ended <- ctx.Bind(nil) }, time.Second)
		if err == nil {
			err = <-ended // the callback is told, or CallAsync says so itself
		}
		require.True(t, arpc.SafeToRetry(err))
		require.Empty(t, ended)

		sent := make(chan []byte, 1)
		go func() {
			all, _ := io.ReadAll(far)
			sent <- all
		}()
		synctest.Wait()
		c.Stop()
		all := <-sent
		require.True(t, bytes.Contains(all, []byte("/fill")))
		require.False(t, bytes.Contains(all, []byte("/late")))
	})
}

// A call whose deadline passes while its frame waits to be written may still be
// sent, so it is not safe to retry.
func TestCallThatTimedOutInTheQueueIsNotSafeToRetry(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dialer, far := oldPeer(t, memconn.WithBuffer(1<<10))
		c, err := arpc.NewClient(dialer, arpc.WithKeepalive(0, 0), arpc.WithWriteTimeout(0), arpc.WithReconnect(0, 0, 0))
		require.NoError(t, err)
		require.NoError(t, c.Notify("/fill", make([]byte, 64<<10), time.Minute))
		synctest.Wait() // the write is stuck
		err = c.Call("/late", "x", nil, time.Second)
		require.Equal(t, arpc.CodeDeadlineExceeded, arpc.CodeOf(err))
		require.False(t, arpc.SafeToRetry(err))
		sent := make(chan []byte, 1)
		go func() {
			all, _ := io.ReadAll(far)
			sent <- all
		}()
		synctest.Wait()
		c.Stop()
		require.True(t, bytes.Contains(<-sent, []byte("/late")))
	})
}
