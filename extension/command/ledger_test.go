package command_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"github.com/arpc-go/arpc"
	"github.com/arpc-go/arpc/extension/command"
)

// task is a command of the stress tests: the N-th of a session.
type task struct {
	Session, N int
	Results    int
	Fate       string
	Takes      time.Duration // before each result
}

// part is a result of a task, which says which one.
type part struct{ Session, N, I int }

// The fates of tasks.
const (
	fateNone     = ""
	fateFails    = "fails"    // Exec returns an error behind its results
	fatePanics   = "panics"   // or panics there
	fateCanceled = "canceled" // its sender cancels it behind the first result
)

var errFate = arpc.NewError(arpc.CodeAborted, "as it was to be")

func (k task) Exec(ctx context.Context, l *ledger, reply *command.Reply[part]) error {
	l.sessions[k.Session].executed(k.N)
	for i := range k.Results {
		if k.Takes > 0 {
			time.Sleep(k.Takes)
		}
		send := reply.Send
		if i == k.Results-1 && k.Fate == fateNone {
			send = reply.Last
		}
		if err := send(part{k.Session, k.N, i}); err != nil {
			return err
		}
	}
	switch k.Fate {
	case fateFails:
		return errFate
	case fatePanics:
		panic(errFate)
	case fateCanceled:
		<-ctx.Done()
		return ctx.Err()
	}
	return nil
}

// ledger is the receiver of tasks, and keeps the accounts of both ends.
type ledger struct {
	sessions []*account
	faults   faults

	sent, complete, asFated, lost, unsent atomic.Int64
}

func newLedger(sessions int) *ledger {
	l := &ledger{}
	for range sessions {
		l.sessions = append(l.sessions, &account{faults: &l.faults})
	}
	return l
}

// ended is how many tasks have ended, each in one of the ways there are.
func (l *ledger) ended() int64 {
	return l.complete.Load() + l.asFated.Load() + l.lost.Load() + l.unsent.Load()
}

func (l *ledger) String() string {
	return fmt.Sprintf("%d commands: %d complete, %d failed as they were to, %d lost with their connection, %d not sent",
		l.sent.Load(), l.complete.Load(), l.asFated.Load(), l.lost.Load(), l.unsent.Load())
}

// faults are what must not happen. The first few are kept.
type faults struct {
	mu   sync.Mutex
	list []string
}

func (f *faults) add(format string, args ...any) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(f.list) < 10 {
		f.list = append(f.list, fmt.Sprintf(format, args...))
	}
}

func (f *faults) all() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.list
}

// account is what is known of the last tasks of a session. It stays small however
// many there are.
type account struct {
	faults *faults

	mu   sync.Mutex
	last [256]struct {
		n        int
		executed bool
		unsent   bool // its sender was told that it was not sent
	}
}

// executed notes that the server executes a task.
func (a *account) executed(n int) {
	a.mu.Lock()
	defer a.mu.Unlock()
	at := &a.last[n%len(a.last)]
	switch {
	case at.n != n:
		a.faults.add("task %d is executed when %d was sent", n, at.n)
	case at.executed:
		a.faults.add("task %d is executed twice", n)
	case at.unsent:
		a.faults.add("task %d is executed, which was said not to be sent", n)
	}
	at.executed = true
}

func (a *account) begin(n int) {
	a.mu.Lock()
	defer a.mu.Unlock()
	at := &a.last[n%len(a.last)]
	at.n, at.executed, at.unsent = n, false, false
}

// notSent notes that a task may be sent again.
func (a *account) notSent(n int) {
	a.mu.Lock()
	defer a.mu.Unlock()
	at := &a.last[n%len(a.last)]
	if at.unsent = true; at.executed {
		a.faults.add("task %d was executed, and is said not to be sent", n)
	}
}

func (a *account) wasExecuted(n int) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.last[n%len(a.last)].executed
}

// session sends one task after the other until stop is closed.
type session struct {
	ledger *ledger
	sender *command.Sender[*ledger]
	id     int
	rest   time.Duration // between tasks, at most
	stop   <-chan struct{}
	random *rand.Rand
}

func (s *session) run(ctx context.Context) {
	for n := 1; ; n++ {
		select {
		case <-s.stop:
			return
		default:
		}
		s.one(ctx, s.draw(n))
		time.Sleep(rand.N(s.rest) + time.Microsecond)
	}
}

// draw makes a task: half of them have one result, half have many, and a few fail.
func (s *session) draw(n int) task {
	k := task{Session: s.id, N: n, Results: 1}
	if s.random.IntN(2) == 0 {
		k.Results = s.random.IntN(30)
	}
	switch draw := s.random.IntN(100); {
	case draw < 3:
		k.Fate = fateFails
	case draw < 4:
		k.Fate = fatePanics
	case draw < 6 && k.Results > 1:
		k.Fate = fateCanceled
	case draw < 20:
		k.Takes = rand.N(20 * time.Millisecond)
	}
	return k
}

// taskPatience is when a task that has not ended is one that never does.
const taskPatience = 2 * time.Minute

func (s *session) one(ctx context.Context, k task) {
	a := s.ledger.sessions[s.id]
	a.begin(k.N)
	s.ledger.sent.Add(1)
	ctx, cancel := context.WithTimeout(ctx, taskPatience)
	defer cancel()
	var got int
	var err error
	switch {
	case k.Results == 1 && k.Fate != fateCanceled:
		got, err = s.single(ctx, k)
	case k.N%2 == 0:
		got, err = s.loop(ctx, k)
	default:
		got, err = s.start(ctx, k)
	}
	s.book(k, got, err)
}

// single returns how many results came.
func (s *session) single(ctx context.Context, k task) (int, error) {
	r, err := command.Send(ctx, s.sender, k)
	if err != nil {
		return 0, err
	}
	s.check(k, 0, r)
	return 1, nil
}

func (s *session) loop(ctx context.Context, k task) (got int, err error) {
	for r, err := range command.SendMulti(ctx, s.sender, k) {
		if err != nil {
			return got, err
		}
		s.check(k, got, r.Value)
		if got++; k.Fate == fateCanceled {
			return got, context.Canceled
		}
	}
	return got, nil
}

func (s *session) start(ctx context.Context, k task) (got int, err error) {
	p, err := command.Start(ctx, s.sender, k)
	if err != nil {
		return 0, err
	}
	for r := range p.Results() {
		s.check(k, got, r.Value)
		if got++; k.Fate == fateCanceled {
			p.Cancel()
		}
	}
	return got, p.Err()
}

// check sees that a result is the next of its task.
func (s *session) check(k task, i int, got part) {
	if want := (part{k.Session, k.N, i}); got != want {
		s.ledger.faults.add("result %v came where %v was due", got, want)
	}
}

// book enters how a task has ended.
func (s *session) book(k task, got int, err error) {
	l, a := s.ledger, s.ledger.sessions[s.id]
	switch code := arpc.CodeOf(err); {
	case err == nil && k.Fate == fateNone && got == k.Results && a.wasExecuted(k.N):
		l.complete.Add(1)
	case k.Results == 0 && k.Fate == fateNone && err == nil && a.wasExecuted(k.N):
		l.complete.Add(1)
	case k.Fate == fateFails && code == errFate.Code() && arpc.IsRemote(err),
		k.Fate == fatePanics && code == arpc.CodeInternal && arpc.IsRemote(err),
		k.Fate == fateCanceled && errors.Is(err, context.Canceled) && got > 0:
		l.asFated.Add(1)
	case code == arpc.CodeUnavailable && arpc.SafeToRetry(err):
		a.notSent(k.N)
		l.unsent.Add(1)
	case code == arpc.CodeUnavailable:
		l.lost.Add(1)
	default:
		l.faults.add("task %+v ended with %d results and %v", k, got, err)
	}
}
