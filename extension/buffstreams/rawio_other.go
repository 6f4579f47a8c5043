//go:build !unix

package buffstreams

import "net"

// rawConn is for systems whose sockets can be tried without waiting.
type rawConn struct{}

func rawOf(net.Conn) *rawConn { return nil }

func (*rawConn) read(*incoming) (int, error) { panic("buffstreams: no raw sockets on this system") }

func (*rawConn) tryWrite([]byte) (int, error) { panic("buffstreams: no raw sockets on this system") }

func (*rawConn) peerClosed() bool { panic("buffstreams: no raw sockets on this system") }
