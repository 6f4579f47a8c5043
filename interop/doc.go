// Package interop holds tests that run github.com/lesismal/arpc 1.2.17, the
// deployed peer of version 1 of the wire, against this module: both are client
// and server, over TCP. It also compiles the code of docs/migrate, in which there
// are two more libraries. It exports nothing and is a module of its own, so that
// none of them is a dependency of ours.
//
// # What a version 1 peer costs
//
// Everything of version 1 works in both roles. What it lacks, our side degrades
// as follows when an old peer is at the other end:
//
//   - No codes. An old caller gets the text of an error alone. An error from an
//     old handler has CodeUnknown here, except for the text "method not found",
//     which is ErrMethodNotFound with CodeUnimplemented. IsRemote holds for both.
//   - No cancellation, no deadlines. A call that is given up ends on the calling
//     side alone: the handler runs to its end, and its late answer is dropped and
//     counted by the caller. A handler of ours is told of the end of the
//     connection, by Context.Done, and of nothing else.
//   - An old handler that panics or forgets to answer leaves our caller to its
//     deadline. The other way round the old caller gets an error at once.
//   - An empty message sent on a stream to an old peer vanishes there. Those
//     that it sends arrive here.
//   - No flow control on streams. An old receiver holds four messages and then
//     stops reading the connection, which delays everything on it. Ours holds
//     what WithStreamQueue says and then drops that stream alone, which the old
//     sender sees as an orderly end.
//   - No reset of streams. An old opener whose stream has no handler here, or
//     whose handler here returned early, reads an orderly end. A stream that has
//     no handler on an old peer stays silent until our context ends it.
//   - A body over our limit is refused with an error, and the connection goes on.
//     An old receiver closes the connection, and calls in flight are lost. Our
//     sender refuses a body over its own limit before it is sent.
//   - An old client dials once a second after its connection was lost, and its
//     calls fail until then. Calls in flight end with its "client reconnecting".
//   - Coders have no names. Of ours gzip, msgpack and tracing have the form that
//     old peers know, when both ends use them in the same order; zstd and s2 are
//     left out towards them, and messages go as they are. aead is never left out:
//     an old peer understands no message of ours then, and none of its own is
//     taken.
//   - A message that an old peer marks for a coder which we do not have, or that
//     ours refuses, is an error to its caller. An old receiver hands what it cannot
//     decode to the handler, as it is.
//
// The coders of the old library are a module of their own that cannot be had with
// this version of it; oldcoders_test.go has their forms, with the library for
// msgpack that they use.
//
// # Races in the old library
//
// The old library reads some of its fields without the lock it writes them
// under, and the race detector sees it. The tests keep to orders in which that
// does not happen:
//
//   - Handlers and settings are complete before the first connection.
//   - A client makes a round trip before anything else, and one before it is
//     stopped, which happens while it is connected. So its goroutines have read
//     Client.running, Client.reconnecting and Client.Conn before these change.
//   - What the old end sends last is seen to arrive before the connection ends.
//   - Server.Stop is never called, because the accept loop reads Server.running.
//     The listener is closed instead, after every accepted client is gone:
//     closing it stops those that are left, and their readers read
//     Client.running.
//   - An accepted connection is closed by its peer, after CloseWrite where the
//     old side is to begin, so that its reader sees the end as bytes.
//   - The timer of Client.Keepalive reads Client.running for ever; a connection
//     whose Write ends that goroutine stops it.
//   - An old client is not used while it is reconnecting.
package interop
