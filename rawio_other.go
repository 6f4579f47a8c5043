//go:build !unix

package arpc

import "net"

// rawConn is for systems whose sockets can be tried without waiting.
type rawConn struct{}

func rawOf(net.Conn) *rawConn { return nil }

func (*rawConn) read(*reader) (int, error) { panic("arpc: no raw sockets on this system") }

func (*rawConn) letGo(bool) {}

func (*rawConn) wait() {}

func (*rawConn) tryWrite([]byte) (int, error) { panic("arpc: no raw sockets on this system") }
