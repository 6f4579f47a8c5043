package buffstreams

// giveUp empties the queue. Guarded by mu.
func (c *Conn) giveUp() {
	if c.queues() {
		c.failed = 0 // the next message begins anew
	}
	n := c.out.giveUp(c.cause, c.s.undelivered != nil)
	if n == 0 {
		return
	}
	cause := c.cause
	c.gaveUpFor = cause
	c.stats.Undelivered += uint64(n)
	c.start(func() {
		c.s.logger.Warn("buffstreams: queued messages are given up", "peer", c.RemoteAddr(), "messages", n, "cause", cause)
	})
	if c.s.undelivered != nil {
		c.startHandOver()
		return
	}
	if c.report == nil {
		c.report = &UndeliveredError{}
	}
	c.report.Messages += n
	c.report.Cause = cause
}

// takeReport returns what is to be told of messages that were given up, once.
// Guarded by mu.
func (c *Conn) takeReport() error {
	if c.report == nil {
		return nil
	}
	err := c.report
	c.report = nil
	return err
}

// startHandOver sees to it that Undelivered is called. Guarded by mu.
func (c *Conn) startHandOver() {
	if !c.handing {
		c.handing = true
		c.start(c.handOver)
	}
}

func (c *Conn) handOver() {
	defer func() { // also when the callback has ended the goroutine
		c.mu.Lock()
		defer c.mu.Unlock()
		c.handing = false
		if len(c.out.given) > 0 {
			c.startHandOver()
		}
	}()
	for {
		c.mu.Lock()
		message, cause, ok := c.out.handOver()
		c.mu.Unlock()
		if !ok {
			return
		}
		err := guard(func() error {
			c.s.undelivered(message, cause)
			return nil
		})
		if err != nil {
			c.s.logger.Error("buffstreams: Undelivered", "err", err)
		}
	}
}
