package arpc_test

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/arpc-go/arpc"
	"github.com/arpc-go/arpc/internal/memconn"
	"github.com/arpc-go/arpc/internal/wire"
)

// At predecessors a cancelled call was reported as timed out, and a stop as a
// reconnect.
func TestRow34_CancelDeadlineAndStopAreToldApart(t *testing.T) {
	errWhy := errors.New("the user went away")
	for name, c := range map[string]struct {
		end  func(cancel context.CancelCauseFunc, c *arpc.Client)
		code arpc.Code
		is   error
		text string
	}{
		"cancel":            {func(cancel context.CancelCauseFunc, _ *arpc.Client) { cancel(nil) }, arpc.CodeCanceled, context.Canceled, ""},
		"cancel with cause": {func(cancel context.CancelCauseFunc, _ *arpc.Client) { cancel(errWhy) }, arpc.CodeCanceled, errWhy, "the user went away"},
		"deadline":          {func(context.CancelCauseFunc, *arpc.Client) { time.Sleep(time.Hour) }, arpc.CodeDeadlineExceeded, context.DeadlineExceeded, ""},
		"stop":              {func(_ context.CancelCauseFunc, c *arpc.Client) { c.Stop() }, arpc.CodeUnavailable, arpc.ErrClosed, ""},
		"lost":              {func(_ context.CancelCauseFunc, c *arpc.Client) { rowCut(c.Conn()) }, arpc.CodeUnavailable, syscall.ECONNRESET, ""},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ln := memconn.Listen()
				s := rowServe(t, ln)
				s.Handler.Handle("/never", func(ctx *arpc.Context) { <-ctx.Done() })
				s.Handler.HandleStream("/never", func(st *arpc.Stream) { <-st.Context().Done() })
				client := rowDial(t, ln.Dial, arpc.WithKeepalive(0, 0), arpc.WithReconnect(rowNever, rowNever, 1))
				ctx, cancel := context.WithCancelCause(t.Context())
				ctx, release := context.WithTimeout(ctx, time.Minute)
				defer release()
				waits := rowWaiters(t, ctx, client)
				if name == "deadline" { // those have deadlines and no context
					waits["Call"] = func() error { return client.Call("/never", nil, nil, time.Minute) }
					waits["CallAsync"] = func() error {
						done := make(chan error, 1)
						assert.NoError(t, client.CallAsync("/never", nil, func(ctx *arpc.Context) { done <- ctx.Bind(nil) }, time.Minute))
						return <-done
					}
				}
				errs := make(map[string]chan error)
				for what, wait := range waits {
					done := make(chan error, 1)
					errs[what] = done
					go func() { done <- wait() }()
				}
				synctest.Wait()
				c.end(cancel, client)
				for what, ch := range errs {
					err := rowNext(t, what, ch)
					require.ErrorIs(t, err, c.is, what)
					require.Equal(t, c.code, arpc.CodeOf(err), "%s: %v", what, err)
					require.ErrorContains(t, err, c.text, what)
					require.Equal(t, c.code == arpc.CodeCanceled, errors.Is(err, context.Canceled), what)
					require.Equal(t, c.code == arpc.CodeDeadlineExceeded, errors.Is(err, context.DeadlineExceeded), what)
					require.Equal(t, c.is == arpc.ErrClosed, errors.Is(err, arpc.ErrClosed), what)
					require.False(t, arpc.IsRemote(err), what)
					require.False(t, arpc.SafeToRetry(err), what)
				}
				connected := c.code != arpc.CodeUnavailable
				require.Equal(t, connected, client.State() == arpc.StateConnected, "ending a call ends no connection")
				client.Stop()
				s.Stop()
			})
		})
	}
}

// rowWaiters are calls that wait for a peer that never answers.
func rowWaiters(t *testing.T, ctx context.Context, c *arpc.Client) map[string]func() error {
	open := func() *arpc.Stream {
		st, err := c.OpenStream(ctx, "/never")
		require.NoError(t, err)
		require.NoError(t, st.Send("x"))
		return st
	}
	own, st := open(), open()
	return map[string]func() error{
		"CallWith":    func() error { return c.CallWith(ctx, "/never", nil, nil) },
		"Recv":        func() error { return own.Recv(nil) },
		"RecvContext": func() error { return st.RecvContext(ctx, nil) },
		"RecvSeq": func() error {
			for _, err := range own.RecvSeq() {
				return err
			}
			return nil
		},
	}
}

// The same for calls that have not left yet: those may be repeated.
func TestRow34_CallsThatHaveNotLeftSaySo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ln := memconn.Listen(memconn.WithBuffer(512))
		silent := rowSilent(t, ln)
		c := rowDial(t, ln.Dial, arpc.WithSendQueue(1, 512), arpc.WithWriteTimeout(0), arpc.WithKeepalive(0, 0))
		rowNext(t, "accepted", silent)
		for c.Notify("/fill", make([]byte, 400), arpc.TimeZero) == nil {
			synctest.Wait()
		}
		for name, wait := range map[string]func(context.Context) error{
			"CallWith":   func(ctx context.Context) error { return c.CallWith(ctx, "/x", nil, nil) },
			"NotifyWith": func(ctx context.Context) error { return c.NotifyWith(ctx, "/x", nil) },
		} {
			ctx, cancel := context.WithCancel(t.Context())
			done := make(chan error, 1)
			go func() { done <- wait(ctx) }()
			synctest.Wait()
			require.Empty(t, done, name)
			cancel()
			err := rowNext(t, name, done)
			require.ErrorIs(t, err, context.Canceled, name)
			require.True(t, arpc.SafeToRetry(err), name)

			err = wait(ctx) // with a context that has ended
			require.ErrorIs(t, err, context.Canceled, name)
			require.True(t, arpc.SafeToRetry(err), name)
		}
		for name, err := range map[string]error{
			"Call":      c.Call("/x", nil, nil, time.Second),
			"CallAsync": c.CallAsync("/x", nil, func(*arpc.Context) { assert.Fail(t, "a callback beside an error") }, time.Second),
			"Notify":    c.Notify("/x", nil, time.Second),
		} {
			require.ErrorIs(t, err, context.DeadlineExceeded, name)
			require.NotErrorIs(t, err, context.Canceled, name)
			require.True(t, arpc.SafeToRetry(err), name)
		}
		done := make(chan error, 1)
		go func() { done <- c.NotifyWith(context.Background(), "/x", nil) }()
		synctest.Wait()
		c.Stop()
		err := rowNext(t, "the send ends", done)
		require.ErrorIs(t, err, arpc.ErrClosed)
		require.True(t, arpc.SafeToRetry(err))
	})
}

// A client that is stopped, or does not reconnect, never says that it does.
func TestRow34_StopIsNotReportedAsReconnecting(t *testing.T) {
	for name, c := range map[string]struct {
		end  func(*arpc.Client)
		opts []arpc.Option
	}{
		"Stop":            {(*arpc.Client).Stop, nil},
		"Shutdown":        {func(c *arpc.Client) { c.Shutdown(context.Background()) }, nil},
		"lost, no redial": {func(c *arpc.Client) { rowCut(c.Conn()) }, []arpc.Option{arpc.WithReconnect(0, 0, 0)}},
	} {
		t.Run(name, func(t *testing.T) {
			client := rowDial(t, rowNewEcho(t).Dial, c.opts...)
			states := make(chan arpc.State, 2)
			client.OnDisconnected(func(c *arpc.Client) { states <- c.State() })
			client.Handler.HandleReconnect(func(*arpc.Client, int, error) { assert.Fail(t, "it reconnects") })
			c.end(client)
			require.Equal(t, arpc.StateClosed, rowNext(t, "the hook runs", states))
			rowNext(t, "it is closed", client.Done())
			require.Equal(t, arpc.StateClosed, client.State())
			err := client.Call("/echo", nil, nil, rowPatience)
			require.ErrorIs(t, err, arpc.ErrClosed)
			require.NotErrorIs(t, err, arpc.ErrDisconnected)
		})
	}
}

// A predecessor's errors had neither a code nor an origin.
func TestRow35_ErrorsHaveACodeAndAnOrigin(t *testing.T) {
	rowVersions(t, "errors", func(t *testing.T, version arpc.Option) {
		ln := memconn.Listen()
		s := rowServe(t, ln)
		s.Handler.Handle("/echo", rowEcho)
		c := rowDial(t, ln.Dial, version, arpc.WithMaxBodyLen(1<<20))
		stopped := rowDial(t, ln.Dial)
		stopped.Stop()
		_, dialErr := arpc.NewClient(func() (net.Conn, error) { return nil, errRowDown })
		var number int
		for name, want := range map[string]struct {
			err    error
			remote bool
			code   arpc.Code
			is     error
		}{
			"no route":    {c.Call("/missing", nil, nil, rowPatience), true, arpc.CodeUnimplemented, arpc.ErrMethodNotFound},
			"empty name":  {c.Call("", nil, nil, rowPatience), false, arpc.CodeInvalidArgument, nil},
			"long name":   {c.Call("/"+strings.Repeat("x", 200), nil, nil, rowPatience), false, arpc.CodeInvalidArgument, nil},
			"no timeout":  {c.Call("/echo", nil, nil, 0), false, arpc.CodeInvalidArgument, nil},
			"no callback": {c.CallAsync("/echo", nil, nil, rowPatience), false, arpc.CodeInvalidArgument, nil},
			"too large":   {c.Call("/echo", make([]byte, 2<<20), nil, rowPatience), false, arpc.CodeResourceExhausted, nil},
			"unencodable": {c.Call("/echo", rowUnencodable{}, nil, rowPatience), false, arpc.CodeInternal, nil},
			"undecodable": {c.Call("/echo", "text", &number, rowPatience), false, arpc.CodeInternal, nil},
			"closed":      {stopped.Call("/echo", nil, nil, rowPatience), false, arpc.CodeUnavailable, arpc.ErrClosed},
			"no dialling": {dialErr, false, arpc.CodeUnavailable, errRowDown},
		} {
			require.Error(t, want.err, name)
			require.Equal(t, want.remote, arpc.IsRemote(want.err), "%s: %v", name, want.err)
			require.Equal(t, want.code, arpc.CodeOf(want.err), "%s: %v", name, want.err)
			if want.is != nil {
				require.ErrorIs(t, want.err, want.is, name)
			}
			var e *arpc.Error
			require.ErrorAs(t, want.err, &e, name)
			require.Equal(t, want.code, e.Code())
		}
	})
}

// The codes of a peer's errors come with version 2 of the wire; version 1 carries
// their text alone.
func TestRow35_ErrorsOfThePeerHaveTheCodeThatItGaveThem(t *testing.T) {
	rowVersions(t, "errors", func(t *testing.T, version arpc.Option) {
		ln := memconn.Listen()
		s := rowServe(t, ln)
		c := rowDial(t, ln.Dial, version)
		for name, sent := range map[string]struct {
			answer any
			code   arpc.Code
			text   string
		}{
			"text":     {"plain text", arpc.CodeUnknown, "plain text"},
			"error":    {errors.New("plain error"), arpc.CodeUnknown, "plain error"},
			"canceled": {context.Canceled, arpc.CodeCanceled, "canceled"},
			"deadline": {context.DeadlineExceeded, arpc.CodeDeadlineExceeded, "deadline"},
			"coded":    {arpc.NewError(arpc.CodeNotFound, "no such user"), arpc.CodeNotFound, "no such user"},
			"wrapped":  {arpc.Errorf(arpc.CodeAborted, "busy: %w", io.EOF), arpc.CodeAborted, "busy: EOF"},
			"closed":   {arpc.ErrClosed, arpc.CodeUnavailable, "closed"},
		} {
			s.Handler.Handle(name, func(ctx *arpc.Context) { ctx.Error(sent.answer) })
			err := c.Call(name, nil, nil, rowPatience)
			require.True(t, arpc.IsRemote(err), name)
			require.ErrorContains(t, err, sent.text)
			if c.Peer().Version == 1 {
				sent.code = arpc.CodeUnknown
			}
			require.Equal(t, sent.code, arpc.CodeOf(err), name)
			for _, own := range []error{context.Canceled, context.DeadlineExceeded, arpc.ErrClosed, io.EOF} {
				require.NotErrorIs(t, err, own, "what the peer says of itself is not said of us")
			}
		}
	})
}

// A predecessor's handlers did not learn that nobody waits any more. They do with
// version 2 of the wire; with version 1 they work on for nobody.
func TestRow36_HandlersLearnThatNobodyWaits(t *testing.T) {
	for name, c := range map[string]struct {
		giveUp func(cancel func())
		want   error
		code   arpc.Code
	}{
		"the caller cancels":  {func(cancel func()) { cancel() }, context.Canceled, arpc.CodeCanceled},
		"the deadline passes": {func(func()) { time.Sleep(2 * time.Minute) }, context.DeadlineExceeded, arpc.CodeDeadlineExceeded},
	} {
		rowVersions(t, name, func(t *testing.T, version arpc.Option) {
			synctest.Test(t, func(t *testing.T) {
				s, client := rowPair(t, memconn.Listen(), version)
				ended := make(chan arpc.Code, 2)
				wait := func(ctx context.Context) {
					select {
					case <-ctx.Done():
						ended <- arpc.CodeOf(context.Cause(ctx))
					case <-time.After(time.Hour):
						ended <- arpc.CodeOK
					}
				}
				s.Handler.Handle("/wait", func(ctx *arpc.Context) { wait(ctx) })
				s.Handler.HandleStream("/wait", func(st *arpc.Stream) { wait(st.Context()) })
				ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
				defer cancel()
				st, err := client.OpenStream(ctx, "/wait")
				require.NoError(t, err)
				require.NoError(t, st.Send("x"))
				called := make(chan error, 1)
				go func() { called <- client.CallWith(ctx, "/wait", nil, nil) }()
				synctest.Wait()
				c.giveUp(cancel)
				require.ErrorIs(t, <-called, c.want)
				want := c.code
				if client.Peer().Version == 1 {
					want = arpc.CodeOK
				}
				require.Equal(t, want, <-ended)
				require.Equal(t, want, <-ended)
				client.Stop()
				s.Stop()
			})
		})
	}
}

// Nor that the connection has ended, which needs no help of the peer.
func TestRow36_HandlersLearnThatTheConnectionHasEnded(t *testing.T) {
	for name, end := range map[string]func(*arpc.Server, *arpc.Client){
		"the client is cut":     func(_ *arpc.Server, c *arpc.Client) { rowCut(c.Conn()) },
		"the client stops":      func(_ *arpc.Server, c *arpc.Client) { c.Stop() },
		"the server stops":      func(s *arpc.Server, _ *arpc.Client) { s.Stop() },
		"the server's end does": func(s *arpc.Server, _ *arpc.Client) { s.Clients()[0].Stop() },
	} {
		t.Run(name, func(t *testing.T) {
			rowEach(t, func(t *testing.T, ln rowNet) {
				s, c := rowPair(t, ln)
				began, ended := make(chan string, 20), make(chan error, 20)
				wait := func(who string, ctx context.Context) {
					assert.NoError(t, ctx.Err())
					began <- who
					<-ctx.Done()
					ended <- ctx.Err()
				}
				h := s.Handler
				h.Handle("/request", func(ctx *arpc.Context) { wait("request", ctx) })
				h.Handle("/ordered", func(ctx *arpc.Context) { wait("ordered", ctx) }, false)
				h.Handle("/notify", func(ctx *arpc.Context) { wait("notify", ctx) }, true)
				h.Handle("/detach", func(ctx *arpc.Context) { d := ctx.Detach(); go wait("detached", d) })
				h.Handle("/derived", func(ctx *arpc.Context) {
					derived, cancel := context.WithTimeout(ctx, rowPatience)
					defer cancel()
					wait("derived", derived)
				})
				h.HandleStream("/stream", func(st *arpc.Stream) { wait("stream", st.Context()) })
				require.NoError(t, h.Register("svc", rowService{wait}))
				for _, method := range []string{"/request", "/ordered", "/detach", "/derived", "svc.Wait"} {
					require.NoError(t, c.CallAsync(method, "{}", func(*arpc.Context) {}, rowPatience))
				}
				require.NoError(t, c.Notify("/notify", nil, rowPatience))
				st, err := c.OpenStream(t.Context(), "/stream")
				require.NoError(t, err)
				require.NoError(t, st.Send("x"))
				const n = 7
				for range n {
					rowNext(t, "all begin", began)
				}
				require.Empty(t, ended)
				end(s, c)
				for range n {
					require.ErrorIs(t, rowNext(t, "all end", ended), context.Canceled)
				}
			})
		})
	}
}

type rowService struct {
	wait func(string, context.Context)
}

func (s rowService) Wait(ctx context.Context, _ *struct{}) (*struct{}, error) {
	s.wait("service", ctx)
	return nil, ctx.Err()
}

// A predecessor told only the accepting side that a connection was lost.
func TestRow37_DialingSideIsToldThatTheConnectionIsLost(t *testing.T) {
	for name, c := range map[string]struct {
		end  func(*rowPeer, *arpc.Client)
		is   error
		text string
	}{
		"the peer closes":         {func(p *rowPeer, _ *arpc.Client) { p.nc.Close() }, nil, "closed"},
		"the connection breaks":   {func(p *rowPeer, _ *arpc.Client) { rowCut(p.nc) }, syscall.ECONNRESET, ""},
		"the peer says nonsense":  {func(p *rowPeer, _ *arpc.Client) { p.writeRaw([]byte("HTTP/1.1 400 Bad Request")) }, nil, "HTTP/1.1 400"},
		"the peer stops midway":   {func(p *rowPeer, _ *arpc.Client) { p.writeRaw(make([]byte, 5)); p.nc.Close() }, io.ErrUnexpectedEOF, ""},
		"the client stops":        {func(_ *rowPeer, c *arpc.Client) { c.Stop() }, arpc.ErrClosed, ""},
		"the client restarts":     {func(_ *rowPeer, c *arpc.Client) { c.Restart() }, nil, "restart"},
		"the peer goes silent":    {func(p *rowPeer, _ *arpc.Client) { p.nc.(*memconn.Conn).Stall() }, arpc.ErrKeepalive, ""},
		"a frame never completes": {rowHalfAFrame, os.ErrDeadlineExceeded, "WithReadTimeout"},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ln, causes := memconn.Listen(), make(chan error, 10)
				peers := rowScript(t, ln)
				h := arpc.NewHandler()
				h.HandleDisconnected(func(c *arpc.Client) { causes <- c.Err() })
				client, err := arpc.NewClient(ln.Dial, arpc.WithHandler(h), arpc.WithReconnect(rowNever, rowNever, 1))
				require.NoError(t, err)
				t.Cleanup(client.Stop)
				client.OnDisconnected(func(c *arpc.Client) { causes <- c.Err() })
				p := rowNext(t, "the client dials", peers)
				require.NoError(t, client.Err())
				go c.end(p, client)
				time.Sleep(time.Hour)
				for range 2 {
					err := rowNext(t, "the hooks run", causes)
					require.Error(t, err)
					if c.is != nil {
						require.ErrorIs(t, err, c.is)
					}
					require.ErrorContains(t, err, c.text)
				}
				require.Error(t, client.Err())
				client.Stop()
				synctest.Wait()
				if name != "the client restarts" { // that has a second connection
					require.Empty(t, causes, "once for each connection")
				}
			})
		})
	}
}

// rowNever is so long that a random part of it is never over within a test.
const rowNever = 2_000_000 * time.Hour

// rowHalfAFrame sends a whole frame and half of another.
func rowHalfAFrame(p *rowPeer, _ *arpc.Client) {
	p.write(wire.Header{Cmd: wire.CmdPong}, "", "")
	p.writeRaw(make([]byte, 5))
}

// At a predecessor a handler ran although middleware had rejected the request.
func TestRow38_HandlerDoesNotRunBehindMiddlewareThatRejects(t *testing.T) {
	for name, reject := range map[string]arpc.HandlerFunc{
		"Error":            func(ctx *arpc.Context) { ctx.Error("no") },
		"Error with error": func(ctx *arpc.Context) { ctx.Error(arpc.NewError(arpc.CodePermissionDenied, "no")) },
		"Write":            func(ctx *arpc.Context) { ctx.Write(errors.New("no")) },
		"Abort":            func(ctx *arpc.Context) { ctx.Error("no"); ctx.Abort() },
		"Abort first":      func(ctx *arpc.Context) { ctx.Abort(); ctx.Error("no") },
		"only Abort":       func(ctx *arpc.Context) { ctx.Abort() },
		"panic":            func(ctx *arpc.Context) { panic("no") },
		"unencodable":      func(ctx *arpc.Context) { ctx.Write(rowUnencodable{}) },
		"later": func(ctx *arpc.Context) {
			d := ctx.Detach()
			go d.Error("no")
		},
		"nested": func(ctx *arpc.Context) { ctx.Error("no"); ctx.Next() },
	} {
		t.Run(name, func(t *testing.T) {
			s, c := rowPair(t, memconn.Listen())
			h := s.Handler
			var ran atomic.Int64
			count := func(ctx *arpc.Context) { ran.Add(1); ctx.Write("secret") }
			h.Use(func(ctx *arpc.Context) { ctx.Next() })
			h.Use(func(ctx *arpc.Context) {
				if strings.HasSuffix(ctx.Message.Method(), "closed") {
					reject(ctx)
				}
			})
			h.Use(func(ctx *arpc.Context) {
				if strings.HasSuffix(ctx.Message.Method(), "closed") && name != "nested" {
					ran.Add(1)
				}
			})
			for _, method := range []string{"/open", "/closed"} {
				h.Handle(method, count)
				h.Handle("/ordered"+method, count, false)
			}
			h.HandleNotFound(count)
			h.Use(func(ctx *arpc.Context) {}) // behind
			for _, method := range []string{"/closed", "/ordered/closed", "/missing closed"} {
				var rsp string
				err := c.Call(method, nil, &rsp, rowPatience)
				require.True(t, arpc.IsRemote(err), "%s: %v", method, err)
				require.Empty(t, rsp)
			}
			require.Zero(t, ran.Load())
			for _, method := range []string{"/open", "/ordered/open", "/missing"} {
				var rsp string
				require.NoError(t, c.Call(method, nil, &rsp, rowPatience))
				require.Equal(t, "secret", rsp)
			}
			require.EqualValues(t, 3, ran.Load())
		})
	}
}

// A notification, which cannot be answered, is rejected with Abort.
func TestRow38_NotificationIsRejectedWithAbort(t *testing.T) {
	s, c := rowPair(t, memconn.Listen())
	var ran atomic.Int64
	s.Handler.Use(func(ctx *arpc.Context) {
		if string(ctx.Body()) == "no" {
			ctx.Abort()
		}
	})
	s.Handler.Handle("/told", func(ctx *arpc.Context) { ran.Add(1) })
	s.Handler.Handle("/echo", rowEcho)
	for _, v := range []string{"no", "yes", "no"} {
		require.NoError(t, c.Notify("/told", v, rowPatience))
	}
	require.NoError(t, c.Call("/echo", nil, nil, rowPatience))
	rowEventually(t, "one is handled", func() bool { return ran.Load() == 1 })
}
