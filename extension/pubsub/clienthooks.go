package pubsub

import (
	"context"
	"maps"
	"reflect"
	"slices"

	"github.com/arpc-go/arpc"
	"github.com/arpc-go/arpc/extension/pubsub/internal/proto"
)

// whenConnected begins with a new connection. It runs before the first message of that
// is handled. Of a connection before, which may go on for a while if its server goes
// away, nothing counts any more.
func (c *Client) whenConnected(client *arpc.Client) {
	peer := client.Peer()
	c.old.Store(peer.Version < 2)
	c.outbox.open.Store(peer.Version >= 2 && peer.MaxBodyLen >= 2*maxBatch)
	c.mu.Lock()
	c.generation++
	if c.conn = client.Conn(); !reflect.TypeOf(c.conn).Comparable() {
		c.conn = nil
	}
	for _, s := range c.subs {
		if s.state == subOpen {
			s.loose = append(s.loose, s.number) // it may be this connection that knows it
		}
		c.cut(s, arpc.ErrDisconnected)
	}
	c.mu.Unlock()

	c.greet(client)

	c.mu.Lock()
	defer c.mu.Unlock()
	c.connected = true
	c.announce()
	if len(c.subs) > 0 {
		c.openAgain(c.allDown()...)
	}
}

// greet sends what a server is to know first: to an old one, which had no hello, the
// password; to others the will.
func (c *Client) greet(client *arpc.Client) {
	ctx, cancel := context.WithTimeout(c.life, authTimeout)
	defer cancel()
	c.mu.Lock()
	will := c.will
	c.mu.Unlock()
	password := c.password.Load()
	var err error
	switch {
	case c.old.Load() && password != nil:
		err = authenticate(ctx, client, *password)
	case !c.old.Load() && will != nil:
		err = client.CallWith(ctx, proto.Will, will, nil)
	}
	if err != nil {
		c.logger.Warn("pubsub: the server does not take the password or the will", "cause", err)
	}
}

// allDown returns the subscriptions that are to be opened again. Guarded by mu.
func (c *Client) allDown() (all []*Subscription) {
	c.due = nil
	for _, s := range c.subs {
		if s.isDue() {
			all = append(all, s)
		}
	}
	return all
}

// cut takes the connection away from a subscription. One that is being opened stays
// so, since nobody knows over which connection. Guarded by mu.
func (c *Client) cut(s *Subscription, err error) {
	if s.state == subOpen {
		c.down(s, err)
		return
	}
	c.stopped(s)
	c.interrupted(s, err)
}

// whenDisconnected ends a connection, behind its last message.
func (c *Client) whenDisconnected(client *arpc.Client) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if client.State() == arpc.StateConnected {
		return // it was left for another one, with which whenConnected begins or has begun
	}
	c.outbox.open.Store(false)
	c.connected = false
	err := client.Err()
	for _, s := range c.subs {
		c.cut(s, err)
	}
	if len(c.subs) > 0 {
		c.watchOf(client)
	}
}

// watch has it noticed if the client does not come back. Guarded by mu.
func (c *Client) watch() { c.watchOf(c.Client) }

func (c *Client) watchOf(client *arpc.Client) {
	if c.watching || c.closed {
		return
	}
	c.watching = true
	go c.await(client, c.awaited())
}

// await waits until the client is connected, or closed.
func (c *Client) await(client *arpc.Client, changed <-chan struct{}) {
	for changed != nil {
		select {
		case <-changed:
			changed = c.stillAway()
		case <-client.Done():
			c.endAll(client.Err())
			return
		}
	}
}

// stillAway returns what await is to wait for next, nil for nothing.
func (c *Client) stillAway() <-chan struct{} {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.connected || c.closed {
		c.watching = false
		return nil
	}
	return c.awaited()
}

// awaited returns what announce closes. Guarded by mu.
func (c *Client) awaited() <-chan struct{} {
	if c.changed == nil {
		c.changed = make(chan struct{})
	}
	return c.changed
}

// endAll ends all subscriptions, since the client has closed by itself.
func (c *Client) endAll(err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.closed, c.watching = true, false
	c.announce()
	for _, s := range slices.Collect(maps.Values(c.subs)) {
		c.forget(s)
		s.queue.pushLast(item{event: &Event{Kind: EventEnded, Err: err}}, true)
	}
	c.endLife()
}
