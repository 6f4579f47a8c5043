package router

import (
	"net"
	"net/netip"
	"reflect"

	"github.com/arpc-go/arpc"
)

// Key says what has a rate of its own in a RateLimit.
type Key struct {
	by    keyKind
	value func(Incoming) any
}

type keyKind int

const (
	byAll keyKind = iota
	byPeer
	byIdentity
	byRoute
	byFunc
)

// All has one rate for everything.
func All() Key { return Key{by: byAll} }

// ByPeer has a rate for each address, whatever the port. IPv6 addresses are one
// if their first 64 bits are, which is what a single customer gets. Where addresses
// tell nobody apart, as on Unix sockets, all peers have one rate together.
func ByPeer() Key { return Key{by: byPeer} }

// ByIdentity has a rate for each identity, see arpc.Client.Identity, over all
// connections that have it; identities are the same if they are by ==, so that two
// pointers are two. Peers without one, or with one that cannot be compared, have the
// rates of ByPeer.
func ByIdentity() Key { return Key{by: byIdentity} }

// ByRoute has a rate for each method.
func ByRoute() Key { return Key{by: byRoute} }

// ByFunc has a rate for each value that fn returns; those that cannot be compared
// by == have one together. fn may be called by any number of goroutines. What the
// peer itself says, such as metadata, lets it take as many rates as it likes.
func ByFunc(fn func(Incoming) any) Key {
	if fn == nil {
		panic("router: ByFunc: there is no function")
	}
	return Key{by: byFunc, value: fn}
}

// bucketKey is the key of a bucket: one of the fields is set, or none.
type bucketKey struct {
	addr  netip.Addr
	text  string // a method, or an address that is none of the internet
	value any    // comparable
}

func peerKey(c *arpc.Client) bucketKey {
	switch addr := c.Conn().RemoteAddr().(type) {
	case nil:
		return bucketKey{}
	case *net.TCPAddr:
		return ipKey(netip.AddrFromSlice(addr.IP))
	case *net.UDPAddr:
		return ipKey(netip.AddrFromSlice(addr.IP))
	default:
		return textKey(addr.String())
	}
}

// ipv6Customer is how many bits of an IPv6 address are somebody's.
const ipv6Customer = 64

func ipKey(ip netip.Addr, _ bool) bucketKey {
	ip = ip.Unmap()
	if ip.Is6() {
		p, _ := ip.Prefix(ipv6Customer)
		ip = p.Addr()
	}
	return bucketKey{addr: ip}
}

// textKey is the key of an address of an unknown kind, such as a WebSocket's.
func textKey(text string) bucketKey {
	host, _, err := net.SplitHostPort(text)
	if err != nil {
		host = text
	}
	if ip, err := netip.ParseAddr(host); err == nil {
		return ipKey(ip.WithZone(""), true)
	}
	return bucketKey{text: host}
}

func identityKey(c *arpc.Client) bucketKey {
	identity := c.Identity()
	if identity == nil || !canBeKey(identity) {
		return peerKey(c)
	}
	return bucketKey{value: identity}
}

func funcKey(value any) bucketKey {
	if value != nil && !canBeKey(value) {
		return bucketKey{}
	}
	return bucketKey{value: value}
}

func canBeKey(v any) bool {
	if _, ok := v.(string); ok {
		return true
	}
	return reflect.ValueOf(v).Comparable()
}
