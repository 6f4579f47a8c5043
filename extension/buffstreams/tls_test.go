package buffstreams_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"net/http/httptest"
	"testing"
	"testing/synctest"
	"time"

	"github.com/arpc-go/arpc/arpctest"
	"github.com/arpc-go/arpc/extension/buffstreams"
	"github.com/stretchr/testify/require"
)

// certificates returns configurations for 127.0.0.1, whose ends ask each other for
// a certificate.
func certificates(t *testing.T) (server, client *tls.Config) {
	s := httptest.NewTLSServer(nil)
	defer s.Close()
	roots := x509.NewCertPool()
	roots.AddCert(s.Certificate())
	server = &tls.Config{Certificates: s.TLS.Certificates, ClientAuth: tls.RequireAnyClientCert}
	return server, &tls.Config{RootCAs: roots, Certificates: s.TLS.Certificates}
}

func TestTLS(t *testing.T) {
	server, client := certificates(t)
	l, err := buffstreams.Listen(buffstreams.ListenerConfig{
		Address: "127.0.0.1:0",
		TLS:     server,
		Handler: func(ctx context.Context, c *buffstreams.Conn, message []byte) error {
			peer := c.NetConn().(*tls.Conn).ConnectionState().PeerCertificates[0]
			return c.Send(ctx, append(message, peer.Subject.Organization[0]...))
		},
	})
	require.NoError(t, err)
	require.NoError(t, l.StartListeningAsync())
	c, err := buffstreams.Dial(t.Context(), buffstreams.ConnConfig{Address: l.Addr().String(), TLS: client})
	require.NoError(t, err)
	closeLater(t, c)
	for range 2 {
		sendAll(t, c, []string{"I am "})
		answer, err := c.Receive(t.Context())
		require.NoError(t, err)
		require.Equal(t, "I am Acme Co", string(answer))
		require.NoError(t, c.Reopen())
	}
	_, err = buffstreams.Dial(t.Context(), buffstreams.ConnConfig{Address: l.Addr().String(), TLS: &tls.Config{}})
	require.ErrorContains(t, err, "certificate")
	require.NoError(t, c.Shutdown(t.Context()))
	require.NoError(t, l.Shutdown(t.Context()))
	require.NoError(t, l.Wait())
}

// A peer that does not shake hands is not waited for.
func TestHandshakeHasATimeout(t *testing.T) {
	server, _ := certificates(t)
	synctest.Test(t, func(t *testing.T) {
		ln := arpctest.ListenMemory()
		wire{ln, ln.Dial}.listen(t, buffstreams.ListenerConfig{Callback: ignore, TLS: server})
		nc, err := ln.Dial()
		require.NoError(t, err)
		defer nc.Close()
		start := time.Now()
		_, err = nc.Read(make([]byte, 1))
		require.Error(t, err)
		require.Equal(t, 10*time.Second, time.Since(start))
	})
}
