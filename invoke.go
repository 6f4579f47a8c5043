package arpc

import (
	"context"
	"errors"
	"time"

	"github.com/arpc-go/arpc/internal/wire"
)

// invoke is a call behind the interceptors. What it has on its stack while it waits is
// out of the caches when it goes on: BenchmarkBaton.
func (c *Client) invoke(ctx context.Context, info *callInfo, timeout time.Duration, method string, req, rsp any) error {
	if err := checkTarget(rsp); err != nil {
		return unsent(err)
	}
	p, err := c.pack(info, method, req)
	if err != nil {
		return err
	}
	defer p.payload.release()
	if cn := c.usable(); cn != nil && !info.idempotent { // nearly always, and all there is to it
		k, left, err := cn.place(ctx, info, timeout, method, &p, rsp)
		if err == nil {
			err = cn.settle(ctx, k, info)
		}
		if err == nil || !c.again(err, cn, info) {
			return err
		}
		timeout = left
	}
	return c.invokeOn(ctx, info, timeout, method, &p, rsp)
}

// invokeOn sends a request on one connection after the other until it gets an
// answer, or an error that is final.
func (c *Client) invokeOn(ctx context.Context, info *callInfo, timeout time.Duration, method string, p *parcel, rsp any) error {
	var lost error // of the first attempt of an idempotent call
	for {
		cn, left, err := c.acquire(ctx, timeout, info)
		if err != nil {
			return afterLoss(err, lost)
		}
		var start time.Time
		if info.idempotent {
			start = time.Now()
		}
		k, left, err := cn.place(ctx, info, left, method, p, rsp)
		if err == nil {
			err = cn.settle(ctx, k, info)
		}
		timeout = left
		switch {
		case err == nil:
			return nil
		case c.again(err, cn, info):
			continue
		case info.idempotent && lost == nil && isLost(err) && c.dialer != nil:
			lost = err
			timeout = shortened(timeout, time.Since(start))
			waiting := *info
			waiting.wait = waitAlways
			info = &waiting
			continue
		}
		return afterLoss(err, lost)
	}
}

// again reports whether what failed with err on cn, and was not sent, is for the
// next connection: the peer goes away or has gone, or cn was lost and the caller
// waits for one.
func (c *Client) again(err error, cn *conn, info *callInfo) bool {
	switch {
	case err == nil:
		return false
	case errors.Is(err, ErrGoingAway):
		return true
	}
	return isLost(err) && SafeToRetry(err) && (cn.leaving.Load() || c.waits(info))
}

// afterLoss is the error of a second attempt. It is not safe to retry if the first
// was not.
func afterLoss(err, lost error) error {
	if lost == nil || SafeToRetry(lost) || !SafeToRetry(err) {
		return err
	}
	return &Error{code: CodeOf(err), msg: err.Error(), cause: errors.Join(err, lost)}
}

// isLost reports whether a call ended with its connection.
func isLost(err error) bool {
	e, ok := err.(*Error)
	return ok && e.lost
}

// timeLeft is the time that the peer is told: until the deadline of ctx, or the
// timeout, 0 for none.
func timeLeft(ctx context.Context, timeout time.Duration) time.Duration {
	if deadline, ok := ctx.Deadline(); ok {
		return max(time.Until(deadline), 1)
	}
	if timeout == TimeForever {
		return 0
	}
	return timeout
}

// parcel is what a message carries, encoded once for all attempts to send it.
type parcel struct {
	payload payload
	section []byte // metadata
}

// pack checks the method and encodes v.
func (c *Client) pack(info *callInfo, method string, v any) (p parcel, err error) {
	if err = checkMethod(method); err != nil {
		return p, unsent(err)
	}
	if p.payload, err = encode(c.Codec, v); err != nil {
		return p, unsent(err)
	}
	if info != &noInfo {
		if p.section, err = info.section(); err != nil {
			return p, unsent(err)
		}
	}
	return p, nil
}

// prepare packs v, and fills in what is to be sent.
func (c *Client) prepare(o *outgoing, info *callInfo, h wire.Header, method string, v any) error {
	p, err := c.pack(info, method, v)
	o.payload, o.section = p.payload, p.section
	o.header, o.method, o.begins, o.values = h, method, true, info.values
	return err
}
