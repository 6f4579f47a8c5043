package arpctest

import (
	"crypto/tls"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"sync/atomic"
	"testing"

	"github.com/arpc-go/arpc"
)

// World is a kind of connection that a test runs over. Further ones are made by
// setting the exported fields.
type World struct {
	// Name is the name of the subtest, such as "tcp".
	Name string
	// Listen returns a new listener and what dials it, or fails the test.
	// New closes the listener; what else is left is for t.Cleanup. For
	// Pair.Peer the local address of each dialled connection must be unique
	// and the remote address of the accepted one.
	Listen func(t testing.TB) (net.Listener, arpc.DialerFunc)

	server, client []arpc.Option // behind those of New
}

// String returns the name.
func (w World) String() string { return w.Name }

// Worlds returns all worlds of this package that the system has: Memory without
// faults, TCP, TLS, and Unix except on Windows.
func Worlds() []World {
	worlds := []World{Memory(), TCP(), TLS()}
	if runtime.GOOS != "windows" {
		worlds = append(worlds, Unix())
	}
	return worlds
}

// OldServer is a world like w, whose servers speak version 1 of the wire only. A
// handler that ServerOptions gave with arpc.WithHandler stays so behind it.
func OldServer(w World) World {
	w.Name += "-v1-server"
	w.server = version1
	return w
}

// OldClient is a world like w, whose clients speak version 1 of the wire only. A
// handler that ClientOptions gave with arpc.WithHandler stays so behind it.
func OldClient(w World) World {
	w.Name += "-v1-client"
	w.client = version1
	return w
}

var version1 = []arpc.Option{arpc.WithVersions(1, 1)}

// usual returns the worlds that Each runs over.
func usual() []World {
	return append(Worlds(), OldClient(Memory()), OldServer(Memory()))
}

// Memory connects without a network: see MemoryListener, which takes the same
// faults. It may be used inside a testing/synctest bubble.
func Memory(faults ...func(Faults)) World {
	return World{Name: "memory", Listen: func(testing.TB) (net.Listener, arpc.DialerFunc) {
		ln := ListenMemory(faults...)
		return ln, ln.Dial
	}}
}

// TCP connects over the loopback interface.
func TCP() World {
	return World{Name: "tcp", Listen: func(t testing.TB) (net.Listener, arpc.DialerFunc) {
		t.Helper()
		ln := listen(t, "tcp", "127.0.0.1:0")
		return ln, func() (net.Conn, error) { return net.Dial("tcp", ln.Addr().String()) }
	}}
}

// TLS is TCP with TLS. Both ends have configurations of their own certificate
// authority, which is made once for each process.
func TLS() World {
	return World{Name: "tls", Listen: func(t testing.TB) (net.Listener, arpc.DialerFunc) {
		t.Helper()
		configs, err := tlsConfigs()
		if err != nil {
			t.Fatalf("arpctest: make certificates: %v", err)
		}
		ln := tls.NewListener(listen(t, "tcp", "127.0.0.1:0"), configs.server)
		return ln, func() (net.Conn, error) { return tls.Dial("tcp", ln.Addr().String(), configs.client) }
	}}
}

// Unix connects over a socket in the file system.
func Unix() World {
	return World{Name: "unix", Listen: func(t testing.TB) (net.Listener, arpc.DialerFunc) {
		t.Helper()
		dir := shortTempDir(t)
		server := &net.UnixAddr{Net: "unix", Name: filepath.Join(dir, "server")}
		var dialled atomic.Int64
		ln := listen(t, server.Net, server.Name)
		return ln, func() (net.Conn, error) {
			// Without a name of its own a client could not be told from others.
			name := fmt.Sprintf("client%d", dialled.Add(1))
			return net.DialUnix("unix", &net.UnixAddr{Net: "unix", Name: filepath.Join(dir, name)}, server)
		}
	}}
}

// shortTempDir is a TempDir whose path leaves room for the name of a socket,
// which may be some 100 bytes long in all.
func shortTempDir(t testing.TB) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "arpc")
	if err != nil {
		t.Fatalf("arpctest: %v", err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

func listen(t testing.TB, network, addr string) net.Listener {
	t.Helper()
	ln, err := net.Listen(network, addr)
	if err != nil {
		t.Fatalf("arpctest: %v", err)
	}
	return ln
}
