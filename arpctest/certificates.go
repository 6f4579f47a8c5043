package arpctest

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"math/big"
	"net"
	"sync"
	"time"
)

type tlsPair struct {
	server, client *tls.Config
}

// tlsConfigs returns configurations for 127.0.0.1, the same in all tests.
var tlsConfigs = sync.OnceValues(func() (tlsPair, error) {
	ca, err := newCertificate(nil, &x509.Certificate{
		SerialNumber:          big.NewInt(1),
		Subject:               pkix.Name{CommonName: "arpctest CA"},
		KeyUsage:              x509.KeyUsageCertSign,
		IsCA:                  true,
		BasicConstraintsValid: true,
	})
	if err != nil {
		return tlsPair{}, err
	}
	leaf, err := newCertificate(ca, &x509.Certificate{
		SerialNumber: big.NewInt(2),
		Subject:      pkix.Name{CommonName: "arpctest server"},
		KeyUsage:     x509.KeyUsageDigitalSignature,
		ExtKeyUsage:  []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		IPAddresses:  []net.IP{net.IPv4(127, 0, 0, 1)},
	})
	if err != nil {
		return tlsPair{}, err
	}
	roots := x509.NewCertPool()
	roots.AddCert(ca.Leaf)
	return tlsPair{
		server: &tls.Config{Certificates: []tls.Certificate{*leaf}},
		client: &tls.Config{RootCAs: roots},
	}, nil
})

// newCertificate makes a key and has parent sign its certificate, or signs it
// itself if parent is nil.
func newCertificate(parent *tls.Certificate, template *x509.Certificate) (*tls.Certificate, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	if parent == nil {
		parent = &tls.Certificate{PrivateKey: key, Leaf: template}
	}
	template.NotBefore = time.Now().Add(-time.Hour)
	template.NotAfter = time.Now().Add(24 * time.Hour)
	der, err := x509.CreateCertificate(rand.Reader, template, parent.Leaf, key.Public(), parent.PrivateKey)
	if err != nil {
		return nil, err
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, err
	}
	return &tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key, Leaf: leaf}, nil
}
