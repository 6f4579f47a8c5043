package nats

import (
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nuid"
)

// Server is a NATS server with JetStream in this process: the same that runs
// elsewhere, for programs and tests that need nothing to be set up. Its methods may be
// called from any goroutine.
type Server struct {
	// Set by EmbeddedServer, never changed.
	settings serverSettings
	temp     string // a directory to be removed; empty: none

	mu      sync.Mutex
	running *server.Server // nil: stopped
	listen  string         // where it was found to listen
}

// ServerOption is a setting of EmbeddedServer.
type ServerOption func(*serverSettings)

type serverSettings struct {
	name       string
	store      string
	listen     string
	cluster    string
	routes     string // where it listens for those of other servers
	others     []string
	maxPayload int32
	sync       bool
	log        *slog.Logger
	change     []func(*server.Options)
}

// WithStore sets the directory in which JetStream keeps history. Default: a new one
// among the system's temporary files, which Close removes.
func WithStore(dir string) ServerOption { return func(s *serverSettings) { s.store = dir } }

// WithListen sets where clients connect, as "host:port"; 0 is a free port. Default:
// "127.0.0.1:0", so that nobody else's do: there is no password.
func WithListen(address string) ServerOption { return func(s *serverSettings) { s.listen = address } }

// WithServerName sets the server's name, which in a cluster must differ from the others'
// and be the same when it starts again. Default: a random one.
func WithServerName(name string) ServerOption { return func(s *serverSettings) { s.name = name } }

// WithCluster makes the server one of a cluster, with the others' addresses, its own may
// be among them. address is where it listens for them, as "host:port". JetStream starts
// when most of them run. EmbeddedCluster does all of it in one process.
func WithCluster(name, address string, others ...string) ServerOption {
	return func(s *serverSettings) { s.cluster, s.routes, s.others = name, address, others }
}

// WithMaxPayload sets how many bytes a message may have, with its headers. Default: 8 MiB.
func WithMaxPayload(bytes int32) ServerOption {
	return func(s *serverSettings) { s.maxPayload = bytes }
}

// WithSync has messages be on the disk before they are acknowledged, and not only in the
// hands of the operating system: they then survive that as well. It costs most of the
// throughput.
func WithSync() ServerOption { return func(s *serverSettings) { s.sync = true } }

// WithLogger sets where the server logs to. Default: nowhere.
func WithLogger(l *slog.Logger) ServerOption { return func(s *serverSettings) { s.log = l } }

// WithServerOptions has fn change the options of nats-server before it starts: users, TLS
// and all else that this package has no option for.
func WithServerOptions(fn func(*server.Options)) ServerOption {
	return func(s *serverSettings) { s.change = append(s.change, fn) }
}

// EmbeddedServer starts a NATS server with JetStream. It is ready for clients when it
// returns.
func EmbeddedServer(opts ...ServerOption) (*Server, error) {
	s := &Server{settings: serverSettings{
		name:       "arpc-" + nuid.Next(),
		listen:     "127.0.0.1:0",
		maxPayload: 8 << 20,
	}}
	for _, opt := range opts {
		opt(&s.settings)
	}
	if err := s.prepare(); err != nil {
		return nil, err
	}
	if err := s.Start(); err != nil {
		return nil, errors.Join(err, s.Close())
	}
	return s, nil
}

func (s *Server) prepare() (err error) {
	s.listen = s.settings.listen
	if s.settings.store == "" {
		s.temp, err = os.MkdirTemp("", "arpc-nats-")
		s.settings.store = s.temp
	}
	return err
}

// startWait is how long a server may take to start.
const startWait = 30 * time.Second

// Start starts the server again after Stop: where it listened before, with what it has
// stored. It returns nil if it runs.
func (s *Server) Start() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.running != nil {
		return nil
	}
	options, err := s.options()
	if err != nil {
		return err
	}
	running, err := server.NewServer(options)
	if err != nil {
		return fmt.Errorf("nats: start a server: %w", err)
	}
	log := serverLog{to: s.settings.log, fatal: make(chan string, 1)}
	running.SetLoggerV2(log, false, false, false)
	running.Start()
	if err := started(running, log.fatal); err != nil {
		running.Shutdown()
		running.WaitForShutdown()
		return err
	}
	s.running, s.listen = running, running.Addr().String()
	return nil
}

// started waits until a server is ready, or says why it cannot be.
func started(running *server.Server, fatal <-chan string) error {
	const some = 50 * time.Millisecond
	for deadline := time.Now().Add(startWait); time.Now().Before(deadline); {
		if running.ReadyForConnections(some) {
			return nil
		}
		select {
		case why := <-fatal:
			return fmt.Errorf("nats: start a server: %s (WithListen, WithStore)", why)
		default:
		}
	}
	return fmt.Errorf("nats: start a server: it was not ready within %v", startWait)
}

func (s *Server) options() (*server.Options, error) {
	host, port, err := splitAddress("WithListen", s.listen)
	if err != nil {
		return nil, err
	}
	o := &server.Options{
		ServerName:             s.settings.name,
		Host:                   host,
		Port:                   port,
		NoSigs:                 true,
		MaxPayload:             s.settings.maxPayload,
		JetStream:              true,
		DisableJetStreamBanner: true,
		StoreDir:               s.settings.store,
		SyncAlways:             s.settings.sync,
	}
	if s.settings.cluster != "" {
		if o.Cluster.Host, o.Cluster.Port, err = splitAddress("WithCluster", s.settings.routes); err != nil {
			return nil, err
		}
		o.Cluster.Name = s.settings.cluster
		o.Routes = server.RoutesFromStr("nats-route://" + strings.Join(s.settings.others, ",nats-route://"))
	}
	for _, change := range s.settings.change {
		change(o)
	}
	return o, nil
}

func splitAddress(option, address string) (host string, port int, err error) {
	host, text, err := net.SplitHostPort(address)
	if err == nil {
		port, err = strconv.Atoi(text)
	}
	if err != nil {
		return "", 0, invalidf("%s(%q): %w", option, address, err)
	}
	if port == 0 {
		port = server.RANDOM_PORT
	}
	return host, port, nil
}

// URL returns what clients connect to, for NewBroker too. It stays the same.
func (s *Server) URL() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return "nats://" + s.listen
}

// Stop ends the server as it should, and returns when its goroutines are gone. What it
// has stored is there for Start.
func (s *Server) Stop() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.running != nil {
		s.running.Shutdown()
		s.running.WaitForShutdown()
		s.running = nil
	}
}

// Close is Stop, and removes the directory of JetStream if it is a temporary one. Start
// must not be called any more.
func (s *Server) Close() error {
	s.Stop()
	if s.temp == "" {
		return nil
	}
	return os.RemoveAll(s.temp)
}

// Cluster is several NATS servers in this process that are one. History with
// WithReplicas outlives those that stop, as long as most of them run.
type Cluster []*Server

// EmbeddedCluster starts a cluster of n servers on this machine, each with the options and
// a directory of its own, below that of WithStore. It is ready when it returns. n is 3 or
// 5, or 1 for a cluster that survives nothing.
func EmbeddedCluster(n int, opts ...ServerOption) (Cluster, error) {
	addresses, err := freeAddresses(n)
	if err != nil {
		return nil, err
	}
	var shared serverSettings
	for _, opt := range opts {
		opt(&shared)
	}
	c := make(Cluster, n)
	for i, address := range addresses {
		name := "arpc-" + strconv.Itoa(i+1)
		own := append(opts[:len(opts):len(opts)], WithServerName(name), WithCluster("arpc", address, addresses...))
		if shared.store != "" {
			own = append(own, WithStore(filepath.Join(shared.store, name)))
		}
		if c[i], err = EmbeddedServer(own...); err != nil {
			return nil, errors.Join(err, c[:i].Close())
		}
	}
	if err := c.ready(); err != nil {
		return nil, errors.Join(err, c.Close())
	}
	return c, nil
}

// freeAddresses returns addresses that nobody listens on.
func freeAddresses(n int) (all []string, err error) {
	for range n {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return nil, err
		}
		defer l.Close() // at the end, so that all differ
		all = append(all, l.Addr().String())
	}
	return all, nil
}

// ready waits until JetStream has a leader that all know.
func (c Cluster) ready() error {
	const pause = 10 * time.Millisecond
	poll := time.NewTicker(pause)
	defer poll.Stop()
	for deadline := time.Now().Add(startWait); time.Now().Before(deadline); <-poll.C {
		leaders, current := 0, 0
		for _, s := range c {
			if s.running.JetStreamIsLeader() {
				leaders++
			}
			if s.running.JetStreamIsCurrent() {
				current++
			}
		}
		if leaders == 1 && current == len(c) {
			return nil
		}
	}
	return fmt.Errorf("nats: JetStream of the cluster was not ready within %v", startWait)
}

// URL returns what clients connect to, for NewBroker too: all of them, of which NATS
// takes any that is there.
func (c Cluster) URL() string {
	urls := make([]string, len(c))
	for i, s := range c {
		urls[i] = s.URL()
	}
	return strings.Join(urls, ",")
}

// Close closes all of them.
func (c Cluster) Close() error {
	errs := make([]error, len(c))
	var all sync.WaitGroup
	for i, s := range c {
		all.Go(func() { errs[i] = s.Close() })
	}
	all.Wait()
	return errors.Join(errs...)
}
