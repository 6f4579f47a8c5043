package arpc

import (
	"context"
	"slices"
	"time"
)

// Next returns the client that a call would go to now, as far as the picker can
// tell without a method; nil when there are no members.
func (p *ClientPool) Next() *Client {
	if m := p.pick(context.Background(), "", p.list()); m != nil {
		return m.client
	}
	return nil
}

// pick returns the member for a call: a healthy one, if any is; nil if there are
// no members.
func (p *ClientPool) pick(ctx context.Context, method string, members []*Member) *Member {
	if len(members) == 0 {
		return nil
	}
	m := (*p.picker.Load()).Pick(ctx, method, members)
	if m != nil && m.pool != p {
		m = nil // a stranger
	}
	if m != nil && m.Healthy() {
		return m
	}
	if n := countHealthy(members); m == nil || n > 0 {
		return members[nthHealthy(members, int(p.turn.Add(1)%uint64(max(n, 1))))]
	}
	return m
}

// Call is Client.Call on a member.
func (p *ClientPool) Call(method string, req, rsp any, timeout time.Duration) error {
	if timeout <= 0 {
		return unsent(Errorf(CodeInvalidArgument, "arpc: the timeout of a call must be positive, not %v", timeout))
	}
	return p.call(context.Background(), timeout, method, req, rsp)
}

// CallWith is Client.CallWith on a member.
func (p *ClientPool) CallWith(ctx context.Context, method string, req, rsp any) error {
	if ctx.Err() != nil {
		return contextError(ctx, true)
	}
	return p.call(ctx, 0, method, req, rsp)
}

func (p *ClientPool) call(ctx context.Context, timeout time.Duration, method string, req, rsp any) error {
	snap := p.handler.snapshot()
	if timeout == 0 {
		timeout = defaultTimeout(ctx, &snap.settings)
	}
	if snap.around == nil {
		left := countdown{timeout: timeout}
		return p.do(ctx, method, func(c *Client, info *callInfo) error {
			return c.invoke(ctx, info, left.next(), method, req, rsp)
		})
	}
	call := &Call{Kind: KindCall, Method: method, Request: req, Response: rsp}
	return snap.interceptTimeout(ctx, timeout, call, p.behind(func(ctx context.Context, info *callInfo, call *Call) error {
		return call.Client.invoke(ctx, info, 0, call.Method, call.Request, call.Response)
	}))
}

// behind is what runs behind the interceptors, which see a call once, whatever
// it takes.
func (p *ClientPool) behind(try func(context.Context, *callInfo, *Call) error) CallFunc {
	return func(ctx context.Context, call *Call) error {
		return p.do(ctx, call.Method, func(c *Client, info *callInfo) error {
			call.Client = c
			return try(ctx, info, call)
		})
	}
}

// CallAsync is Client.CallAsync on a member. It is tried on others only until one
// has accepted it: an error that the callback is told is final. Interceptors see
// the client.
func (p *ClientPool) CallAsync(method string, req any, callback func(*Context), timeout time.Duration) error {
	left := countdown{timeout: timeout}
	return p.do(context.Background(), method, func(c *Client, info *callInfo) error {
		if callback == nil || timeout <= 0 || c.Handler.snapshot().around != nil {
			return c.CallAsync(method, req, callback, left.next()) // which complains, or intercepts
		}
		return c.invokeAsync(info, method, req, callback, left.next())
	})
}

// Notify is Client.Notify on a member.
func (p *ClientPool) Notify(method string, v any, timeout time.Duration) error {
	if timeout < 0 {
		return unsent(Errorf(CodeInvalidArgument, "arpc: the timeout of a notification must not be negative: %v", timeout))
	}
	return p.notify(context.Background(), timeout, method, v)
}

// NotifyWith is Client.NotifyWith on a member.
func (p *ClientPool) NotifyWith(ctx context.Context, method string, v any) error {
	if ctx.Err() != nil {
		return contextError(ctx, true)
	}
	return p.notify(ctx, TimeForever, method, v)
}

func (p *ClientPool) notify(ctx context.Context, timeout time.Duration, method string, v any) error {
	snap := p.handler.snapshot()
	if snap.around == nil {
		left := countdown{timeout: timeout}
		return p.do(ctx, method, func(c *Client, info *callInfo) error {
			return c.tell(ctx, info, left.next(), method, v)
		})
	}
	call := &Call{Kind: KindNotify, Method: method, Request: v}
	return snap.interceptTimeout(ctx, timeout, call, p.behind(func(ctx context.Context, info *callInfo, call *Call) error {
		return call.Client.tell(ctx, info, timeout, call.Method, call.Request)
	}))
}

// OpenStream is Client.OpenStream on a member, on which the stream stays.
func (p *ClientPool) OpenStream(ctx context.Context, method string) (*Stream, error) {
	call := &Call{Kind: KindStream, Method: method}
	err := p.handler.snapshot().intercept(ctx, call, p.behind(func(ctx context.Context, info *callInfo, call *Call) (err error) {
		call.Stream, err = call.Client.openStream(ctx, info, call.Method)
		return err
	}))
	return call.opened(err)
}

// countdown is a timeout that several tries share.
type countdown struct {
	timeout time.Duration
	end     time.Time
}

// next returns the timeout for the next try: all of it at first, then what is
// left.
func (d *countdown) next() time.Duration {
	switch {
	case d.timeout <= 0 || d.timeout == TimeForever:
		return d.timeout
	case d.end.IsZero():
		d.end = time.Now().Add(d.timeout)
		return d.timeout
	}
	return max(time.Until(d.end), 1)
}

// attempt is a call on one member.
type attempt func(c *Client, info *callInfo) error

// do has a member try, and others when nothing was sent.
func (p *ClientPool) do(ctx context.Context, method string, try attempt) error {
	m := p.pick(ctx, method, p.list())
	if m == nil {
		return p.noMembers()
	}
	info := infoOf(ctx)
	err := try(m.client, info.oneOfMany())
	if err == nil {
		return nil
	}
	return p.retry(ctx, method, info, m, err, try)
}

func (p *ClientPool) noMembers() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return unsent(ErrClosed)
	}
	return unsent(NewError(CodeUnavailable, "arpc: the pool has no members"))
}

// memberInfo is what oneOfMany makes of noInfo. Never changed.
var memberInfo = callInfo{wait: waitNot}

// oneOfMany is for a try on a member while there may be others to try: its client
// neither waits for a connection nor sends the call again.
func (info *callInfo) oneOfMany() *callInfo {
	if info == &noInfo {
		return &memberInfo
	}
	member := *info
	member.wait, member.idempotent = waitNot, false
	return &member
}

// retry has other members try after the first one failed with err.
func (p *ClientPool) retry(ctx context.Context, method string, info *callInfo, m *Member, err error, try attempt) error {
	lost := false // it was sent, and the connection lost
	for tried := []*Member(nil); err != nil; {
		switch {
		case CodeOf(err) != CodeUnavailable || IsRemote(err):
			return asSent(err, lost)
		case SafeToRetry(err):
		case !lost && info.idempotent:
			lost = true
		default:
			return err
		}
		tried = append(tried, m)
		if m = p.pickOther(ctx, method, tried); m == nil {
			return asSent(p.lastTry(ctx, method, info, lost, err, try), lost)
		}
		err = try(m.client, info.oneOfMany())
	}
	return nil
}

// pickOther returns a healthy member that has not tried, nil if there is none.
func (p *ClientPool) pickOther(ctx context.Context, method string, tried []*Member) *Member {
	others := slices.DeleteFunc(p.Members(), func(m *Member) bool {
		return !m.Healthy() || slices.Contains(tried, m)
	})
	m := p.pick(ctx, method, others)
	if m != nil && !slices.Contains(others, m) { // no picker of ours
		return others[0]
	}
	return m
}

// lastTry waits for a member to come back when the call is one that waits, or was
// lost and may be sent again, and for one that is on its way to another server as
// any client does. Nobody else is left, and err why.
func (p *ClientPool) lastTry(ctx context.Context, method string, info *callInfo, lost bool, err error, try attempt) error {
	waits := info.wait == waitAlways || info.wait == waitDefault && p.handler.snapshot().settings.waitForReady
	members := p.list()
	var m *Member
	if i := slices.IndexFunc(members, func(m *Member) bool { return m.client.isMoving() }); i >= 0 {
		m = members[i]
	} else if waits || lost {
		m = p.pick(ctx, method, members)
	}
	if m == nil {
		return err
	}
	patient := *info
	patient.idempotent = info.idempotent && !lost
	if waits || lost {
		patient.wait = waitAlways
	}
	return try(m.client, &patient)
}

// asSent returns err as one of a request that was sent, if it was.
func asSent(err error, sent bool) error {
	if !sent || !SafeToRetry(err) {
		return err
	}
	return &Error{code: CodeOf(err), msg: err.Error(), cause: err}
}
