package arpc_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"

	"github.com/arpc-go/arpc"
)

// tlsAuthority issues certificates for tests.
type tlsAuthority struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
	pool *x509.CertPool
}

func newTLSAuthority() *tlsAuthority {
	template := tlsTemplate("authority")
	template.IsCA, template.BasicConstraintsValid, template.KeyUsage = true, true, x509.KeyUsageCertSign
	a := &tlsAuthority{cert: template, key: tlsKey(), pool: x509.NewCertPool()}
	a.cert = tlsMust(x509.ParseCertificate(tlsMust(x509.CreateCertificate(rand.Reader, template, template, a.key.Public(), a.key))))
	a.pool.AddCert(a.cert)
	return a
}

// issue returns a certificate for 127.0.0.1, for servers and clients.
func (a *tlsAuthority) issue(name string) tls.Certificate {
	template := tlsTemplate(name)
	template.KeyUsage = x509.KeyUsageDigitalSignature
	template.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth}
	template.IPAddresses = []net.IP{net.IPv4(127, 0, 0, 1)}
	if name != "" {
		template.DNSNames = []string{name + ".example"}
		template.EmailAddresses = []string{name + "@example"}
		template.URIs = []*url.URL{{Scheme: "spiffe", Host: "example", Path: "/" + name}}
	}
	key := tlsKey()
	der := tlsMust(x509.CreateCertificate(rand.Reader, template, a.cert, key.Public(), a.key))
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}

// server returns a configuration that asks clients for certificates.
func (a *tlsAuthority) server(name string) *tls.Config {
	return &tls.Config{Certificates: []tls.Certificate{a.issue(name)}, ClientCAs: a.pool, ClientAuth: tls.RequireAndVerifyClientCert}
}

// client returns a configuration with a certificate of its own.
func (a *tlsAuthority) client(name string) *tls.Config {
	return &tls.Config{RootCAs: a.pool, Certificates: []tls.Certificate{a.issue(name)}}
}

func tlsTemplate(name string) *x509.Certificate {
	return &x509.Certificate{
		SerialNumber: tlsMust(rand.Int(rand.Reader, big.NewInt(1<<62))),
		Subject:      pkix.Name{CommonName: name},
		NotBefore:    time.Now().Add(-24 * 365 * 100 * time.Hour), // also on the clock of a bubble
		NotAfter:     time.Now().Add(24 * 365 * 100 * time.Hour),
	}
}

func tlsKey() *ecdsa.PrivateKey { return tlsMust(ecdsa.GenerateKey(elliptic.P256(), rand.Reader)) }

func tlsMust[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

// tlsFiles are a certificate and its key in files.
type tlsFiles struct{ cert, key string }

func newTLSFiles(dir string, cert tls.Certificate) tlsFiles {
	f := tlsFiles{filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")}
	f.write(cert)
	return f
}

func (f tlsFiles) write(cert tls.Certificate) {
	f.writeCert(cert)
	f.writeKey(cert)
}

func (f tlsFiles) writeCert(cert tls.Certificate) {
	tlsWrite(f.cert, "CERTIFICATE", cert.Certificate[0])
}

func (f tlsFiles) writeKey(cert tls.Certificate) {
	tlsWrite(f.key, "PRIVATE KEY", tlsMust(x509.MarshalPKCS8PrivateKey(cert.PrivateKey)))
}

func tlsWrite(path, kind string, der []byte) {
	if err := os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600); err != nil {
		panic(err)
	}
}

// tlsServe serves a configuration on a free port.
func tlsServe(t *testing.T, s *arpc.Server, config *tls.Config) (addr string) {
	t.Helper()
	ln := rowTCP(t)
	served := make(chan error, 1)
	go func() { served <- s.ServeTLS(ln, config) }()
	t.Cleanup(func() {
		rowSoon(t, "the server stops", s.Stop)
		assert.ErrorIs(t, rowNext(t, "ServeTLS returns", served), arpc.ErrServerClosed)
	})
	return ln.Addr().String()
}
