package arpc

import (
	"bytes"
	"math"
	"sync/atomic"

	"github.com/arpc-go/arpc/internal/wire"
)

// PeerInfo is what the other end of a connection said of itself.
type PeerInfo struct {
	Version     int    // of the wire: 1 or 2; a peer of version 1 says nothing else
	Name        string // WithPeerName
	Software    string
	Compat      string   // WithCompat
	Codec       string   // the name of its codec, empty if it has none
	Coders      []string // of the kind NamedCoder
	MaxBodyLen  int      // bytes it accepts in a message
	MaxInflight int      // requests it accepts at the same time
	MaxStreams  int      // streams it accepts at the same time
}

// Peer returns what the peer of the newest connection said of itself.
func (c *Client) Peer() PeerInfo {
	hello := c.conn.Load().hello.Load()
	if hello == nil {
		return PeerInfo{Version: 1}
	}
	return PeerInfo{
		Version: 2, Name: hello.Name, Software: hello.Software, Compat: hello.Compat, Codec: hello.Codec, Coders: coderNames(hello.Coders),
		MaxBodyLen: atMost(hello.MaxBody), MaxInflight: atMost(hello.MaxInflight), MaxStreams: atMost(hello.MaxStreams),
	}
}

// atMost is n as far as an int goes that may be added to.
func atMost(n uint64) int { return int(min(n, math.MaxInt32)) }

// Session returns the id of the client's session: made at random by the dialled
// end, the same over its reconnects, and known to both. Empty on the accepting
// side of a peer of version 1.
func (c *Client) Session() string {
	if c.dialer == nil && c.conn.Load().hello.Load() == nil {
		return ""
	}
	return c.session
}

// kept returns what is kept of a hello, for learn. The session has its own place, which
// is looked at once there is a hello.
func (c *conn) kept(hello *wire.Hello) *wire.Hello {
	if !c.dialled {
		c.client.session = string(hello.Session)
	}
	alike := *hello
	alike.Credentials, alike.Session = nil, nil
	return c.handler.hellos.share(&alike)
}

// learn notes what the peer is, for the reader and for senders. Only the holder of
// the baton calls it, with mu held.
func (c *conn) learn(hello *wire.Hello) {
	c.hello.Store(hello)
	c.met = true
	c.cancels.Store(hello.Features&wire.FeatureCancel != 0)
	c.knowsDeadlines.Store(hello.Features&wire.FeatureMetadata != 0)
	c.features = hello.Features & features
	if c.features&wire.FeatureCancel == 0 {
		c.features &^= wire.FeatureWindows // whose streams end by Cancel
	}
	c.limits = limitsOf(hello)
	if hello.MaxBody > 0 && hello.MaxBody < uint64(c.settings.maxBody) {
		c.maxSend.Store(int64(hello.MaxBody))
	}
	c.locked = false
}

// peerLimits are what the peer accepts. 0: it did not say.
type peerLimits struct {
	window   int64
	inflight int32
	streams  int32
	metadata int32
}

func limitsOf(hello *wire.Hello) peerLimits {
	l := peerLimits{
		inflight: int32(atMost(hello.MaxInflight)),
		streams:  int32(atMost(hello.MaxStreams)),
		window:   int64(atMost(hello.Window)),
		metadata: wire.DefaultMaxMeta,
	}
	if l.window == 0 {
		l.window = defaultStreamWindow
	}
	if hello.MaxMetadata > 0 {
		l.metadata = int32(atMost(hello.MaxMetadata))
	}
	return l
}

// maxMetadata is the most bytes of metadata that the peer accepts.
func (c *conn) maxMetadata() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return int(c.limits.metadata)
}

// hellos remembers what the last peer said. Most say the same, but for their session
// and credentials, and one record does for all of them.
type hellos struct{ last atomic.Pointer[wire.Hello] }

// share returns a record that says what hello does.
func (h *hellos) share(hello *wire.Hello) *wire.Hello {
	var one, other [usualHello]byte
	if last := h.last.Load(); last != nil && bytes.Equal(last.Append(one[:0], false), hello.Append(other[:0], false)) {
		return last
	}
	own := *hello
	h.last.Store(&own)
	return &own
}
