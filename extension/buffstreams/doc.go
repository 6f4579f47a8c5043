// Package buffstreams sends and receives messages in the framing of BuffStreams,
// github.com/StabbyCutyou/buffstreams: the length of a message, then its bytes,
// over TCP or any net.Conn. Peers of that library work against it in both roles,
// and programs for it compile with the import path changed.
//
//	l, err := buffstreams.Listen(buffstreams.ListenerConfig{
//		Address:  ":5031",
//		Callback: func(message []byte) error { ... },
//	})
//	err = l.Serve(ctx)
//
//	c, err := buffstreams.Dial(ctx, buffstreams.ConnConfig{Address: "127.0.0.1:5031"})
//	err = c.Send(ctx, message)
//	err = c.Shutdown(ctx) // the peer has read everything
//
// Messages go one way and are not acknowledged; a [Handler] can answer, and a [Conn]
// can [Conn.Receive]. Senders on one connection share writes. What becomes of
// messages when a connection fails is in [Conn], [Retry] and
// [ConnConfig.Undelivered]. A [Manager] keeps connections and listeners by address,
// and [Kinds] tells messages apart. docs/BUFFSTREAMS.md has the whole of it.
//
// It stands beside package arpc, whose wire, routes and calls it does not have.
package buffstreams
