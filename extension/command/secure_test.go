package command_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"math/big"
	"net"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/arpc-go/arpc"
	"github.com/arpc-go/arpc/arpctest"
	"github.com/arpc-go/arpc/extension/command"
)

// authority issues certificates.
type authority struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
	pool *x509.CertPool
}

func newAuthority(t *testing.T) *authority {
	a := &authority{pool: x509.NewCertPool()}
	own := a.issue(t, "authority")
	a.cert, a.key = own.Leaf, own.PrivateKey.(*ecdsa.PrivateKey)
	a.pool.AddCert(a.cert)
	return a
}

// issue returns a certificate, the first one signed by itself.
func (a *authority) issue(t *testing.T, name string) tls.Certificate {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()),
		Subject:      pkix.Name{CommonName: name},
		DNSNames:     []string{name},
		IPAddresses:  []net.IP{net.IPv4(127, 0, 0, 1)},
		NotBefore:    time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IsCA: a.cert == nil, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	parent, signer := a.cert, a.key
	if parent == nil {
		parent, signer = template, key
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, key.Public(), signer)
	require.NoError(t, err)
	leaf, err := x509.ParseCertificate(der)
	require.NoError(t, err)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key, Leaf: leaf}
}

// Commands know by mutual TLS who has sent them. TLS without certificates of clients is
// one of the worlds of arpctest.Each.
func TestC17_MutualTLS(t *testing.T) {
	ca := newAuthority(t)
	who := make(chan string, 1)
	s := arpc.NewServer()
	orders().Handle(s.Handler, &desk{func(_ context.Context, o order, reply *command.Reply[int]) error {
		id, _ := reply.Client().Identity().(arpc.TLSIdentity)
		who <- id.CommonName
		return reply.Last(o.N)
	}})
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	served := make(chan error, 1)
	go func() {
		served <- s.ServeTLS(ln, &tls.Config{Certificates: []tls.Certificate{ca.issue(t, "server")}, ClientCAs: ca.pool, ClientAuth: tls.RequireAndVerifyClientCert})
	}()
	defer func() {
		s.Stop()
		require.ErrorIs(t, next(t, "ServeTLS returns", served), arpc.ErrServerClosed)
	}()

	client, err := arpc.NewClient(arpc.DialTLS(ln.Addr().String(), &tls.Config{RootCAs: ca.pool, Certificates: []tls.Certificate{ca.issue(t, "alice")}}))
	require.NoError(t, err)
	defer client.Stop()
	for _, send := range ways {
		values, err := send(patient(t), orders().Sender(client), order{3})
		require.NoError(t, err)
		require.Equal(t, []int{3}, values)
		require.Equal(t, "alice", next(t, "executed", who))
	}
	_, err = arpc.NewClient(arpc.DialTLS(ln.Addr().String(), &tls.Config{RootCAs: ca.pool}))
	require.Error(t, err, "a client without a certificate")
}

// Ends that do not share their commands are kept apart by the compatibility string, and
// do not dial again.
func TestC06_IncompatibleEndsAreKeptApart(t *testing.T) {
	p, s := pair(t, arpctest.TCP(), double, arpctest.ServerOptions(arpc.WithCompat("orders 2")), arpctest.ClientOptions(arpc.WithCompat("orders 2")))
	_, err := command.Send(patient(t), s, order{1})
	require.NoError(t, err)
	_, err = arpc.NewClient(p.Dialer(), arpc.WithCompat("orders 1"))
	require.Error(t, err)
	require.Equal(t, arpc.CodeFailedPrecondition, arpc.CodeOf(err))
	require.ErrorContains(t, err, "orders 2")
}
