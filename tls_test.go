package arpc_test

import (
	"context"
	"crypto/tls"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/arpc-go/arpc"
)

func TestTLSVersionsBefore12AreRefused(t *testing.T) {
	ca := newTLSAuthority()
	config := &tls.Config{Certificates: []tls.Certificate{ca.issue("server")}, MinVersion: tls.VersionTLS10}
	config.GetConfigForClient = func(hello *tls.ClientHelloInfo) (*tls.Config, error) {
		switch hello.ServerName {
		case "own.example":
			return &tls.Config{Certificates: config.Certificates, MinVersion: tls.VersionTLS10}, nil
		}
		return nil, nil
	}
	s := arpc.NewServer()
	s.Handler.Handle("/echo", rowEcho)
	addr := tlsServe(t, s, config)
	versions := map[uint16]bool{tls.VersionTLS11: false, tls.VersionTLS12: true, tls.VersionTLS13: true}
	for version, served := range versions {
		for _, name := range []string{"", "own.example"} {
			old := &tls.Config{InsecureSkipVerify: true, ServerName: name, MinVersion: tls.VersionTLS10, MaxVersion: version}
			nc, err := tls.Dial("tcp", addr, old)
			require.Equal(t, served, err == nil, tls.VersionName(version))
			if served {
				require.Equal(t, version, nc.ConnectionState().Version)
				nc.Close()
			}
		}
	}
	c := rowDial(t, arpc.DialTLS(addr, &tls.Config{RootCAs: ca.pool}))
	suiteRequireEcho(t, c)
	require.Equal(t, uint16(tls.VersionTLS13), c.Conn().(*tls.Conn).ConnectionState().Version)
	require.Equal(t, uint16(tls.VersionTLS10), config.MinVersion, "the user's configuration stays as it is")
}

func TestTLSClientRefusesVersionsBefore12(t *testing.T) {
	ca := newTLSAuthority()
	ln, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{
		Certificates: []tls.Certificate{ca.issue("server")}, MinVersion: tls.VersionTLS10, MaxVersion: tls.VersionTLS11,
	})
	require.NoError(t, err)
	rowServe(t, ln)
	config := &tls.Config{RootCAs: ca.pool, MinVersion: tls.VersionTLS10}
	_, err = arpc.NewClient(arpc.DialTLS(ln.Addr().String(), config))
	require.ErrorContains(t, err, "protocol version")
	require.Equal(t, uint16(tls.VersionTLS10), config.MinVersion)
}

func TestTLSConfigurationsThatCannotWork(t *testing.T) {
	old := &tls.Config{MaxVersion: tls.VersionTLS11, GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return nil, nil }}
	for text, config := range map[string]*tls.Config{"is nil": nil, "no certificate": {}, "MaxVersion": old} {
		ln := rowTCP(t)
		err := arpc.NewServer().ServeTLS(ln, config)
		require.Equal(t, arpc.CodeInvalidArgument, arpc.CodeOf(err))
		require.ErrorContains(t, err, text)
		_, err = ln.Accept()
		require.ErrorIs(t, err, net.ErrClosed, "the listener is closed")
	}
	_, err := arpc.NewClient(arpc.DialTLS("127.0.0.1:1", old))
	require.ErrorContains(t, err, "MaxVersion")
}

func TestTLSClientRefusesWhomItDoesNotTrust(t *testing.T) {
	ca, other := newTLSAuthority(), newTLSAuthority()
	s := arpc.NewServer()
	addr := tlsServe(t, s, &tls.Config{Certificates: []tls.Certificate{ca.issue("server")}})
	for name, config := range map[string]*tls.Config{
		"the system's authorities": nil,
		"another authority":        {RootCAs: other.pool},
		"another name":             {RootCAs: ca.pool, ServerName: "another.example"},
	} {
		_, err := arpc.NewClient(arpc.DialTLS(addr, config))
		require.ErrorContains(t, err, "certificate", name)
		require.Equal(t, arpc.CodeUnavailable, arpc.CodeOf(err))
	}
	rowEventually(t, "the server forgets them", func() bool { return len(s.Clients()) == 0 })
}

func TestTLSClientIsRefusedWithoutACertificateOfTheAuthority(t *testing.T) {
	ca, other := newTLSAuthority(), newTLSAuthority()
	s := arpc.NewServer()
	s.Handler.HandleConnected(func(*arpc.Client) { t.Error("it is let in") })
	s.Handler.HandleAuth(func(context.Context, *arpc.Client, []byte) error { t.Error("it is asked who it is"); return nil })
	addr := tlsServe(t, s, ca.server("server"))
	for name, config := range map[string]*tls.Config{
		"no certificate":    {RootCAs: ca.pool},
		"another authority": {RootCAs: ca.pool, Certificates: []tls.Certificate{other.issue("alice")}},
	} {
		_, err := arpc.NewClient(arpc.DialTLS(addr, config))
		require.Error(t, err, name)
	}
	rowEventually(t, "both are counted", func() bool { return s.Statistics().NeverOpened == 2 })
}

// Over each version, and over sessions that are taken up again.
func TestTLSIdentityOfBothEnds(t *testing.T) {
	ca := newTLSAuthority()
	for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		t.Run(tls.VersionName(version), func(t *testing.T) {
			s := arpc.NewServer()
			s.Handler.HandleAuth(func(_ context.Context, c *arpc.Client, _ []byte) error {
				id, verified := arpc.TLSIdentityOf(c.Conn())
				if !verified {
					return arpc.NewError(arpc.CodeUnauthenticated, "no certificate")
				}
				require.Equal(t, id, c.Identity())
				c.Set("auth", id)
				return nil
			})
			ids := make(chan arpc.TLSIdentity, 4)
			s.Handler.Handle("/who", func(ctx *arpc.Context) {
				id, _ := arpc.TLSIdentityOf(ctx.Client.Conn())
				atAuth, _ := ctx.Client.Get("auth")
				require.Equal(t, atAuth, id)
				require.Equal(t, id, ctx.Client.Identity())
				ids <- id
				ctx.Write(id.CommonName)
			})
			addr := tlsServe(t, s, ca.server("server"))
			config := ca.client("alice")
			config.MaxVersion, config.ClientSessionCache = version, tls.NewLRUClientSessionCache(1)
			var before arpc.TLSIdentity
			for i := range 2 {
				c := rowDial(t, arpc.DialTLS(addr, config))
				var who string
				require.NoError(t, c.Call("/who", nil, &who, rowPatience))
				require.Equal(t, "alice", who)
				id := <-ids
				require.Equal(t, []string{"alice.example", "alice@example", "127.0.0.1", "spiffe://example/alice"}, id.Names())
				require.Equal(t, config.Certificates[0].Certificate[0], id.Certificate().Raw)
				require.Equal(t, i == 1, id == before, "identities of one certificate are equal")
				require.Equal(t, i == 1, c.Conn().(*tls.Conn).ConnectionState().DidResume)
				before = id
				server, verified := arpc.TLSIdentityOf(c.Conn())
				require.True(t, verified)
				require.Equal(t, "server", server.String())
				require.Equal(t, server, c.Identity())
				c.Stop()
			}
		})
	}
}

func TestTLSIdentityIsThatOfAVerifiedCertificateOnly(t *testing.T) {
	ca, other := newTLSAuthority(), newTLSAuthority()
	s := arpc.NewServer()
	s.Handler.Handle("/who", func(ctx *arpc.Context) {
		id, verified := arpc.TLSIdentityOf(ctx.Client.Conn())
		require.False(t, verified)
		require.Zero(t, id)
	})
	config := ca.server("server")
	config.ClientAuth = tls.RequireAnyClientCert
	addr := tlsServe(t, s, config)
	unchecked := other.client("alice")
	unchecked.InsecureSkipVerify = true
	c := rowDial(t, arpc.DialTLS(addr, unchecked))
	require.NoError(t, c.Notify("/who", nil, rowPatience))
	_, verified := arpc.TLSIdentityOf(c.Conn())
	require.False(t, verified)

	plain, theOther := net.Pipe()
	defer plain.Close()
	defer theOther.Close()
	_, verified = arpc.TLSIdentityOf(plain)
	require.False(t, verified)
	_, verified = arpc.TLSIdentityOf(tls.Client(plain, &tls.Config{RootCAs: ca.pool, ServerName: "x"}))
	require.False(t, verified, "before the handshake")
}

func TestTLSIdentityIsKnownToHooksAndStreams(t *testing.T) {
	ca := newTLSAuthority()
	s := arpc.NewServer()
	seen := make(chan any, 3)
	s.Handler.HandleConnected(func(c *arpc.Client) { seen <- c.Identity() })
	s.Handler.HandleDisconnected(func(c *arpc.Client) { seen <- c.Identity() })
	s.Handler.HandleStream("/stream", func(st *arpc.Stream) { seen <- st.Client().Identity() })
	c := rowDial(t, arpc.DialTLS(tlsServe(t, s, ca.server("server")), ca.client("alice")))
	_, err := c.OpenStream(t.Context(), "/stream")
	require.NoError(t, err)
	for _, when := range []string{"connected", "stream", "disconnected"} {
		id, known := rowNext(t, when, seen).(arpc.TLSIdentity)
		require.True(t, known, when)
		require.Equal(t, "alice", id.CommonName)
		if when == "stream" {
			c.Stop()
		}
	}
}

func TestTLSIdentityGivesWayToThatOfAHook(t *testing.T) {
	ca := newTLSAuthority()
	s := arpc.NewServer()
	s.Handler.HandleAuth(v2Identify)
	s.Handler.Handle("/who", func(ctx *arpc.Context) { ctx.Write(ctx.Client.Identity()) })
	c := rowDial(t, arpc.DialTLS(tlsServe(t, s, ca.server("server")), ca.client("alice")), v2Credentials("bob"))
	var who string
	require.NoError(t, c.Call("/who", nil, &who, rowPatience))
	require.Equal(t, "bob", who)
}

// A client that comes back to another server knows that one. What the program has
// stored itself stays.
func TestTLSIdentityIsThatOfTheNewestConnection(t *testing.T) {
	ca := newTLSAuthority()
	for name, stored := range map[string]any{"of the certificate": nil, "of the program": "mine"} {
		t.Run(name, func(t *testing.T) {
			config := &tls.Config{Certificates: []tls.Certificate{ca.issue("first")}}
			config.GetConfigForClient = func(*tls.ClientHelloInfo) (*tls.Config, error) {
				own := &tls.Config{Certificates: config.Certificates}
				config.Certificates = []tls.Certificate{ca.issue("second")}
				return own, nil
			}
			back := make(chan struct{}, 1)
			s := arpc.NewServer()
			s.Handler.Handle("/echo", rowEcho)
			c := rowDial(t, arpc.DialTLS(tlsServe(t, s, config), &tls.Config{RootCAs: ca.pool}), arpc.WithWaitForReady(true))
			require.Equal(t, "first", c.Identity().(arpc.TLSIdentity).CommonName)
			if stored != nil {
				c.SetIdentity(stored)
			}
			c.Handler.HandleConnected(func(*arpc.Client) { back <- struct{}{} })
			c.Conn().Close()
			rowNext(t, "it comes back", back)
			if stored != nil {
				require.Equal(t, stored, c.Identity())
				return
			}
			require.Equal(t, "second", c.Identity().(arpc.TLSIdentity).CommonName)
		})
	}
}

func TestTLSIdentityWithoutACommonName(t *testing.T) {
	ca := newTLSAuthority()
	s := arpc.NewServer()
	addr := tlsServe(t, s, ca.server(""))
	c := rowDial(t, arpc.DialTLS(addr, ca.client("alice")))
	id, verified := arpc.TLSIdentityOf(c.Conn())
	require.True(t, verified)
	require.Equal(t, "127.0.0.1", id.String())
	require.Empty(t, id.CommonName)
	require.Equal(t, "a certificate without a name", arpc.TLSIdentity{}.String())
	require.Nil(t, arpc.TLSIdentity{}.Certificate())
}

// A peer that connects and says nothing is none of the client's business for long.
func TestTLSDialEndsAtAServerThatStaysSilent(t *testing.T) {
	if testing.Short() {
		t.Skip("it takes the ten seconds of the dial timeout")
	}
	t.Parallel()
	silent := rowTCP(t)
	_, err := arpc.NewClient(arpc.DialTLS(silent.Addr().String(), nil))
	require.ErrorIs(t, err, context.DeadlineExceeded)
}

func TestTLSRunServesAndReloads(t *testing.T) {
	ca := newTLSAuthority()
	files := newTLSFiles(t.TempDir(), ca.issue("first"))
	s := arpc.NewServer()
	s.Handler.Handle("/echo", rowEcho)
	free := rowTCP(t)
	addr := free.Addr().String()
	free.Close()
	var running sync.WaitGroup
	running.Go(func() { require.ErrorIs(t, s.RunTLS(addr, files.cert, files.key), arpc.ErrServerClosed) })
	defer running.Wait()
	defer s.Stop()
	dial := func() (name string) {
		rowEventually(t, "the server answers", func() bool {
			c, err := arpc.NewClient(arpc.DialTLS(addr, &tls.Config{RootCAs: ca.pool}))
			if err != nil {
				return false
			}
			defer c.Stop()
			suiteRequireEcho(t, c)
			id, _ := arpc.TLSIdentityOf(c.Conn())
			name = id.CommonName
			return true
		})
		return name
	}
	require.Equal(t, "first", dial())
	files.write(ca.issue("second"))
	rowEventually(t, "the new certificate is in use", func() bool { return dial() == "second" })
}

func TestTLSRunTellsWhatIsWrong(t *testing.T) {
	files := newTLSFiles(t.TempDir(), newTLSAuthority().issue("server"))
	s := arpc.NewServer()
	err := s.RunTLS("127.0.0.1:0", files.cert, files.key+"x")
	require.Equal(t, arpc.CodeInvalidArgument, arpc.CodeOf(err))
	require.ErrorContains(t, err, "key.pemx")
	err = s.RunTLS("127.0.0.1", files.cert, files.key)
	require.Equal(t, arpc.CodeUnavailable, arpc.CodeOf(err))
	require.ErrorContains(t, err, "missing port")
	err = arpc.NewServer(arpc.WithReadTimeout(-time.Second)).RunTLS("127.0.0.1:0", files.cert, files.key)
	require.ErrorContains(t, err, "WithReadTimeout")
	s.Stop()
	require.ErrorIs(t, s.RunTLS("127.0.0.1:0", files.cert, files.key), arpc.ErrServerClosed)
}
