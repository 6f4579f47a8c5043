package command_test

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"runtime"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/arpc-go/arpc"
	"github.com/arpc-go/arpc/arpctest"
	"github.com/arpc-go/arpc/extension/command"
)

// A predecessor's Close did nothing behind its Shutdown.
func TestRow20_StopEndsCommandsBehindAShutdown(t *testing.T) {
	for name, ends := range map[string]func(p *arpctest.Pair) (shutdown func(context.Context) error, stop func()){
		"of the server": func(p *arpctest.Pair) (func(context.Context) error, func()) { return p.Server.Shutdown, p.Server.Stop },
		"of the client": func(p *arpctest.Pair) (func(context.Context) error, func()) { return p.Client.Shutdown, p.Client.Stop },
	} {
		t.Run(name, func(t *testing.T) {
			d := newPatientDesk()
			p, s := pair(t, arpctest.Memory(), d.do)
			shutdown, stop := ends(p)
			pending, err := command.Start(t.Context(), s, order{})
			require.NoError(t, err)
			next(t, "Exec begins", d.began)
			ended := make(chan error, 1)
			go func() { ended <- shutdown(context.Background()) }()
			require.Eventually(t, func() bool {
				_, err := command.Send(patient(t), s, order{1})
				return err != nil // it begins nothing new
			}, guard, time.Millisecond)
			require.True(t, pending.Has(), "what has begun goes on")
			stop()
			next(t, "Shutdown returns", ended)
			next(t, "the command ends", pending.Done())
			require.Equal(t, arpc.CodeUnavailable, arpc.CodeOf(pending.Err()))
			<-d.ended
		})
	}
}

// Eight idle connections locked a predecessor's server out: it had eight workers.
func TestRow21_IdleConnectionsLockNobodyOut(t *testing.T) {
	p, _ := pair(t, arpctest.TCP(), double)
	for range 100 {
		nc, err := p.Dialer()()
		require.NoError(t, err)
		defer nc.Close()
	}
	for range 20 {
		p.Dial()
	}
	s := orders().Sender(p.Dial())
	for _, send := range ways {
		values, err := send(patient(t), s, order{1})
		require.NoError(t, err)
		require.Equal(t, []int{2}, values)
	}
}

// A predecessor allocated the length that a message announced.
func TestRow22_AnnouncedLengthOfACommandAllocatesNothing(t *testing.T) {
	const conns, announced = 50, 60 << 20
	p, s := pair(t, arpctest.TCP(), double)
	header := binary.LittleEndian.AppendUint32(nil, announced)
	header = append(header, 0, arpc.CmdRequest, 0, byte(len(orderMethod)))
	header = append(binary.LittleEndian.AppendUint64(header, 2), orderMethod...)
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	for range conns {
		nc, err := p.Dialer()()
		require.NoError(t, err)
		defer nc.Close()
		_, err = nc.Write(header)
		require.NoError(t, err)
	}
	require.Eventually(t, func() bool { return len(p.Server.Clients()) == conns+1 }, guard, time.Millisecond)
	for _, send := range ways {
		_, err := send(patient(t), s, order{1})
		require.NoError(t, err)
	}
	runtime.ReadMemStats(&after)
	require.Less(t, after.TotalAlloc-before.TotalAlloc, uint64(announced), "of all connections together")
}

// A result over the limit of its receiver is not sent, and both ends hear of it.
func TestRow22_LargeResultIsRefused(t *testing.T) {
	reg := command.NewRegistry[int]()
	command.Register[int, repeat](reg)
	p := arpctest.New(t, arpctest.Memory(), arpctest.ClientOptions(arpc.WithMaxBodyLen(1000)),
		arpctest.Setup(func(s *arpc.Server, _ *arpc.Handler) { reg.Handle(s.Handler, 2000) }))
	_, err := command.Send(patient(t), reg.Sender(p.Client), repeat{})
	require.Equal(t, arpc.CodeResourceExhausted, arpc.CodeOf(err))
	for _, err = range command.SendMulti(patient(t), reg.Sender(p.Client), repeat{}) {
	}
	require.Equal(t, arpc.CodeResourceExhausted, arpc.CodeOf(err))
	require.ErrorContains(t, err, "WithMaxBodyLen")
}

// repeat answers with so many bytes as the receiver says.
type repeat struct{}

func (repeat) Exec(_ context.Context, n int, reply *command.Reply[string]) error {
	reply.Last(string(make([]byte, n)))
	return nil
}

// A command that returned context.Canceled stopped a predecessor's server.
func TestRow24_NoErrorOfExecStopsAnything(t *testing.T) {
	sorts := []error{
		context.Canceled, context.DeadlineExceeded, fmt.Errorf("wrapped: %w", context.Canceled),
		io.EOF, io.ErrUnexpectedEOF, net.ErrClosed, syscall.ECONNRESET, &net.OpError{Op: "read", Err: errPlain},
		arpc.ErrServerClosed, arpc.ErrClosed, arpc.ErrDisconnected, arpc.ErrGoingAway, arpc.ErrKeepalive, arpc.ErrStreamClosed,
		errors.Join(context.Canceled, errPlain), arpc.NewError(arpc.CodeCanceled, "no"), arpc.NewError(arpc.CodeOK, "well"),
	}
	do := func(_ context.Context, o order, reply *command.Reply[int]) error {
		if o.N < 0 {
			return reply.Last(o.N)
		}
		return sorts[o.N]
	}
	each(t, do, func(t *testing.T, p *arpctest.Pair, s *command.Sender[*desk]) {
		d := p.Dial()
		for i, sort := range sorts {
			for name, send := range ways {
				values, err := send(t.Context(), s, order{i})
				require.Error(t, err, "%v by %s", sort, name)
				require.Empty(t, values)
				require.NotErrorIs(t, err, context.Canceled, "nothing of the caller's has ended")
				for _, other := range []*command.Sender[*desk]{s, orders().Sender(d)} {
					values, err = send(t.Context(), other, order{-1})
					require.NoError(t, err, "behind %v by %s", sort, name)
					require.Equal(t, []int{-1}, values)
				}
			}
		}
	})
}

// A panic took a predecessor's process down.
func TestRow25_PanicOfExecIsTheCallersError(t *testing.T) {
	panics := []func(*command.Reply[int]){
		func(*command.Reply[int]) { panic("on purpose") },
		func(*command.Reply[int]) { var none *order; none.N++ },
		func(*command.Reply[int]) { panic(errPlain) },
		func(*command.Reply[int]) { panic(nil) },
		func(*command.Reply[int]) { runtime.Goexit() },
		func(reply *command.Reply[int]) { reply.Send(1); panic("behind a result") },
	}
	do := func(_ context.Context, o order, reply *command.Reply[int]) error {
		if o.N >= 0 {
			panics[o.N](reply)
		}
		return reply.Last(o.N)
	}
	each(t, do, func(t *testing.T, p *arpctest.Pair, s *command.Sender[*desk]) {
		for i := range panics {
			for name, send := range ways {
				_, err := send(t.Context(), s, order{i})
				require.Error(t, err, "%d by %s", i, name)
				if p.Version == 2 {
					require.Equal(t, arpc.CodeInternal, arpc.CodeOf(err))
					require.NotContains(t, err.Error(), "on purpose", "what a panic says is not the peer's business")
				}
				values, err := send(t.Context(), s, order{-1})
				require.NoError(t, err)
				require.Equal(t, []int{-1}, values)
			}
		}
	})
}

// An invoker is the server's own code, and its panic no other.
func TestRow25_PanicOfAnInvokerIsTheCallersError(t *testing.T) {
	p := arpctest.New(t, arpctest.Memory(), arpctest.Setup(func(s *arpc.Server, _ *arpc.Handler) {
		orders().Handle(s.Handler, &desk{double}, func(context.Context, *command.Invocation, func(context.Context) error) error { panic("on purpose") })
	}))
	for _, send := range ways {
		_, err := send(t.Context(), orders().Sender(p.Client), order{})
		require.Equal(t, arpc.CodeInternal, arpc.CodeOf(err))
		require.Equal(t, arpc.StateConnected, p.Client.State())
	}
}

// A predecessor dialled 10,000 times in 100 ms when its server was away.
func TestRow28_CommandsDuringAnOutageDoNotDial(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ln := arpctest.ListenMemory()
		server := arpc.NewServer()
		orders().Handle(server.Handler, &desk{double})
		go server.Serve(ln)
		var dials atomic.Int64
		client, err := arpc.NewClient(func() (net.Conn, error) {
			dials.Add(1)
			return ln.Dial()
		})
		require.NoError(t, err)
		defer client.Stop()
		server.Stop()
		synctest.Wait() // the client knows
		s := orders().Sender(client)
		for range 1000 {
			for _, send := range ways {
				_, err := send(t.Context(), s, order{})
				require.True(t, arpc.SafeToRetry(err))
			}
			time.Sleep(10 * time.Millisecond)
		}
		require.Less(t, dials.Load(), int64(60), "in ten seconds")
	})
}

// A predecessor started a goroutine for each command, however many came.
func TestRow29_CommandsOfAConnectionAreLimited(t *testing.T) {
	const limit, commands = 10, 200
	var running, most atomic.Int64
	release := make(chan struct{})
	do := func(_ context.Context, o order, reply *command.Reply[int]) error {
		n := running.Add(1)
		defer running.Add(-1)
		for m := most.Load(); n > m && !most.CompareAndSwap(m, n); m = most.Load() {
		}
		<-release
		return reply.Last(o.N)
	}
	p, s := pair(t, arpctest.TCP(), do, arpctest.ServerOptions(arpc.WithMaxInflight(limit), arpc.WithMaxStreams(limit)))
	var all sync.WaitGroup
	var refused, answered atomic.Int64
	for n := range commands {
		all.Go(func() {
			if v, err := command.Send(patient(t), s, order{n}); err == nil && v == n {
				answered.Add(1)
			}
		})
		all.Go(func() {
			_, err := ways["Start"](patient(t), s, order{n})
			switch {
			case err == nil:
				answered.Add(1)
			case arpc.CodeOf(err) == arpc.CodeResourceExhausted && arpc.SafeToRetry(err):
				refused.Add(1)
			}
		})
	}
	require.Eventually(t, func() bool { return running.Load() == 2*limit && refused.Load() == commands-limit }, guard, time.Millisecond)
	close(release)
	all.Wait()
	const slack = limit/4 + 16 // for a peer that counts by itself, and may be a moment ahead
	require.LessOrEqual(t, most.Load(), int64(2*limit+slack), "requests and streams")
	require.Equal(t, int64(2*commands), refused.Load()+answered.Load(), "each has ended, by its result or a refusal")
	require.Equal(t, arpc.StateConnected, p.Client.State())
}

// flaky is a listener whose Accept fails now and then.
type flaky struct {
	net.Listener
	n atomic.Int64
}

func (l *flaky) Accept() (net.Conn, error) {
	if l.n.Add(1)%2 == 1 {
		return nil, &net.OpError{Op: "accept", Err: syscall.EMFILE}
	}
	return l.Listener.Accept()
}

// One failed accept stopped a predecessor's server.
func TestRow31_FailedAcceptsStopNobody(t *testing.T) {
	world := arpctest.World{Name: "flaky", Listen: func(t testing.TB) (net.Listener, arpc.DialerFunc) {
		ln, dialer := arpctest.TCP().Listen(t)
		return &flaky{Listener: ln}, dialer
	}}
	p, _ := pair(t, world, double)
	for range 3 {
		n, err := command.Send(patient(t), orders().Sender(p.Dial()), order{1})
		require.NoError(t, err)
		require.Equal(t, 2, n)
	}
}

// A predecessor reported a cancelled command as one that was late.
func TestRow34_CancelDeadlineAndStopAreToldApart(t *testing.T) {
	for name, send := range ways {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				d := newPatientDesk()
				p, s := pair(t, arpctest.Memory(), d.do)
				ends := func(ctx context.Context, end func()) error {
					failed := make(chan error, 1)
					go func() {
						_, err := send(ctx, s, order{})
						failed <- err
					}()
					<-d.began
					end()
					return <-failed
				}
				ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
				canceled := ends(ctx, cancel)
				require.ErrorIs(t, canceled, context.Canceled)
				require.NotErrorIs(t, canceled, context.DeadlineExceeded)
				require.NotErrorIs(t, canceled, arpc.ErrClosed)

				ctx, cancel = context.WithTimeout(t.Context(), time.Second)
				defer cancel()
				late := ends(ctx, func() {})
				require.ErrorIs(t, late, context.DeadlineExceeded)
				require.NotErrorIs(t, late, context.Canceled)
				var timeout net.Error
				require.ErrorAs(t, late, &timeout)
				require.True(t, timeout.Timeout())

				stopped := ends(t.Context(), p.Client.Stop)
				require.ErrorIs(t, stopped, arpc.ErrClosed)
				require.NotErrorIs(t, stopped, context.Canceled)
			})
		})
	}
}

// A predecessor's group sent commands to connections that were lost.
func TestRow45_PoolSendsCommandsToThoseThatAreConnected(t *testing.T) {
	for name, send := range ways {
		t.Run(name, func(t *testing.T) {
			p, _ := pair(t, arpctest.Memory(), double)
			var down atomic.Bool
			dialers := make([]arpc.DialerFunc, 4)
			for i := range dialers {
				dialers[i] = func() (net.Conn, error) {
					if down.Load() && i < 3 {
						return nil, errPlain
					}
					return p.Dialer()()
				}
			}
			pool, err := arpc.NewClientPoolFromDialers(dialers)
			require.NoError(t, err)
			defer pool.Stop()
			down.Store(true)
			for i := range 3 {
				c := pool.Get(i)
				arpctest.FaultsOf(c.Conn()).Cut()
				require.Eventually(t, func() bool { return c.State() != arpc.StateConnected }, guard, time.Millisecond)
			}
			s := orders().Sender(pool)
			for range 40 {
				values, err := send(patient(t), s, order{4})
				require.NoError(t, err)
				require.Equal(t, []int{8}, values)
			}
		})
	}
}
