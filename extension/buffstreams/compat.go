package buffstreams

import (
	"context"
	"net"
)

// Names that programs for github.com/StabbyCutyou/buffstreams use.
type (
	// TCPConn is Conn.
	TCPConn = Conn
	// TCPConnConfig is ConnConfig.
	TCPConnConfig = ConnConfig
	// TCPListener is Listener.
	TCPListener = Listener
	// TCPListenerConfig is ListenerConfig.
	TCPListenerConfig = ListenerConfig
)

// DialTCP is Dial without a context.
func DialTCP(cfg *TCPConnConfig) (*TCPConn, error) { return Dial(context.Background(), *cfg) }

// ListenTCP is Listen.
func ListenTCP(cfg TCPListenerConfig) (*TCPListener, error) { return Listen(cfg) }

// FormatAddress is net.JoinHostPort: the address of a port, on all addresses of the
// machine if the host is empty.
func FormatAddress(host, port string) string { return net.JoinHostPort(host, port) }
