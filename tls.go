package arpc

import (
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"log/slog"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"time"
)

// RunTLS is Run over TLS 1.2 or later, with a certificate and its key from files in
// PEM form. When the files change, connections from then on get the new ones: see
// CertificateFiles. Clients are not asked for certificates; see ServeTLS for that.
func (s *Server) RunTLS(addr, certFile, keyFile string) error {
	if err := s.optionError(); err != nil {
		return err
	}
	files, err := LoadCertificateFiles(certFile, keyFile, s.logger())
	if err != nil {
		return err
	}
	ln, err := net.Listen("tcp", addr)
	if err != nil {
		return Errorf(CodeUnavailable, "arpc: listen: %w", err)
	}
	return s.ServeTLS(ln, &tls.Config{GetCertificate: files.GetCertificate})
}

// ServeTLS is Serve over TLS 1.2 or later, on connections from ln. It works with a
// clone of the configuration, which needs a certificate; with ClientAuth
// tls.RequireAndVerifyClientCert, and the authorities in ClientCAs, clients need one
// too: see TLSIdentity. The handshake has the hello timeout where peers have to
// authenticate, and the read timeout elsewhere.
func (s *Server) ServeTLS(ln net.Listener, config *tls.Config) error {
	config, err := secured(config)
	if err == nil && len(config.Certificates) == 0 && config.GetCertificate == nil && config.GetConfigForClient == nil {
		err = NewError(CodeInvalidArgument, "arpc: ServeTLS: the configuration has no certificate")
	}
	if err != nil {
		ln.Close()
		return err
	}
	return s.Serve(tls.NewListener(ln, config))
}

// dialTimeout is how long DialTLS takes to connect, handshake included.
const dialTimeout = 10 * time.Second

// DialTLS returns a dialer for NewClient and pools that connects to the TCP address
// by TLS 1.2 or later, in at most 10 s with the handshake. It works with a clone of
// the configuration; nil is one that trusts what the system trusts. The name in the
// server's certificate is that of the address, unless ServerName is set. A client
// with a certificate has it in Certificates, or GetClientCertificate.
func DialTLS(addr string, config *tls.Config) DialerFunc {
	if config == nil {
		config = new(tls.Config)
	}
	config, err := secured(config)
	dialer := tls.Dialer{NetDialer: &net.Dialer{Timeout: dialTimeout}, Config: config}
	return func() (net.Conn, error) {
		if err != nil {
			return nil, err
		}
		return dialer.Dial("tcp", addr)
	}
}

// secured returns a clone of config that refuses versions before 1.2, those of
// GetConfigForClient too.
func secured(config *tls.Config) (*tls.Config, error) {
	switch {
	case config == nil:
		return nil, NewError(CodeInvalidArgument, "arpc: the TLS configuration is nil")
	case config.MaxVersion != 0 && config.MaxVersion < tls.VersionTLS12:
		return nil, Errorf(CodeInvalidArgument, "arpc: the MaxVersion of the TLS configuration is %s, and must be TLS 1.2 or later", tls.VersionName(config.MaxVersion))
	}
	config = config.Clone()
	config.MinVersion = max(config.MinVersion, tls.VersionTLS12)
	if get := config.GetConfigForClient; get != nil {
		config.GetConfigForClient = func(hello *tls.ClientHelloInfo) (*tls.Config, error) {
			own, err := get(hello)
			if own == nil || err != nil {
				return nil, err
			}
			return secured(own)
		}
	}
	return config, nil
}

// TLSIdentity is who a verified certificate says the peer is: what Client.Identity
// returns, a value and no pointer, unless SetIdentity stored something else. Those of one
// certificate are equal by ==, over all connections.
type TLSIdentity struct {
	der string
	// CommonName is that of the certificate's subject; it may be empty.
	CommonName string
}

// TLSIdentityOf returns who the peer of a connection is, such as that of
// Client.Conn, and whether its certificate was verified: by the authorities of this
// end, in a handshake that is over, as it is in connected and authentication hooks
// and in handlers. A certificate that only VerifyPeerCertificate or VerifyConnection
// of the configuration has looked at is not. On a server clients have certificates if
// ClientAuth asks for them.
func TLSIdentityOf(nc net.Conn) (id TLSIdentity, verified bool) {
	conn, ok := nc.(interface{ ConnectionState() tls.ConnectionState })
	if !ok {
		return TLSIdentity{}, false
	}
	state := conn.ConnectionState()
	if !state.HandshakeComplete || len(state.VerifiedChains) == 0 {
		return TLSIdentity{}, false
	}
	leaf := state.VerifiedChains[0][0]
	return TLSIdentity{der: string(leaf.Raw), CommonName: leaf.Subject.CommonName}, true
}

// identify has a verified certificate be the identity, unless the user's code has
// stored another.
func (c *Client) identify(nc net.Conn) {
	id, verified := TLSIdentityOf(nc)
	c.mu.Lock()
	defer c.mu.Unlock()
	_, replace := c.identity.(TLSIdentity) // of the connection before
	switch {
	case verified && (replace || c.identity == nil):
		c.identity = id
	case replace:
		c.identity = nil
	}
}

// Certificate returns the verified certificate, the caller's own; nil of the zero
// TLSIdentity. It is parsed anew each time.
func (id TLSIdentity) Certificate() *x509.Certificate {
	leaf, err := x509.ParseCertificate([]byte(id.der))
	if err != nil {
		return nil
	}
	return leaf
}

// Names returns the names that the certificate is for, as texts: DNS names, mail
// addresses, IP addresses and URIs, in this order. The common name is not one of
// them. Where an authority lets its customers choose names of another kind than is
// expected, look at those of Certificate.
func (id TLSIdentity) Names() []string {
	leaf := id.Certificate()
	if leaf == nil {
		return nil
	}
	names := append(leaf.DNSNames, leaf.EmailAddresses...)
	for _, ip := range leaf.IPAddresses {
		names = append(names, ip.String())
	}
	for _, uri := range leaf.URIs {
		names = append(names, uri.String())
	}
	return names
}

// String returns the common name, or else the first of the names.
func (id TLSIdentity) String() string {
	if id.CommonName != "" {
		return id.CommonName
	}
	for _, name := range id.Names() {
		return name
	}
	return "a certificate without a name"
}

// CertificateFiles is a certificate with its key in two files that may be replaced
// at any time, for a tls.Config of either end. At a handshake, at most every 2 s, the
// files are looked at. When they have changed they are used from then on; as long as
// they cannot be read or do not belong together, the pair before them is used, and
// the log says so. It is safe for concurrent use.
type CertificateFiles struct {
	// Set by LoadCertificateFiles, never changed.
	certFile, keyFile string
	logger            *slog.Logger

	current  atomic.Pointer[tls.Certificate]
	checking sync.Mutex // only ever tried: nobody waits for the files

	// Guarded by checking.
	checked   time.Time
	seen      [sha256.Size]byte // of what was read last
	complaint string            // logged last, of what is still so
}

// certificateCheck is how often CertificateFiles looks at its files at most.
const certificateCheck = 2 * time.Second

// LoadCertificateFiles reads a certificate, with those of the authorities between it
// and the root behind it, and its key, in PEM form. What goes wrong later is logged
// by logger; nil logs nothing. The key never is.
func LoadCertificateFiles(certFile, keyFile string, logger *slog.Logger) (*CertificateFiles, error) {
	if logger == nil {
		logger = slog.New(slog.DiscardHandler)
	}
	f := &CertificateFiles{certFile: certFile, keyFile: keyFile, logger: logger, checked: time.Now()}
	if err := f.load(); err != nil {
		return nil, Errorf(CodeInvalidArgument, "arpc: certificate files: %w", err)
	}
	return f, nil
}

// GetCertificate is for the field of that name, on a server.
func (f *CertificateFiles) GetCertificate(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	f.check()
	return f.current.Load(), nil
}

// GetClientCertificate is for the field of that name, on a client.
func (f *CertificateFiles) GetClientCertificate(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
	f.check()
	return f.current.Load(), nil
}

// check loads the files again if it is time to.
func (f *CertificateFiles) check() {
	if !f.checking.TryLock() {
		return
	}
	defer f.checking.Unlock()
	if now := time.Now(); now.Sub(f.checked) >= certificateCheck {
		f.checked = now
		f.reload()
	}
}

func (f *CertificateFiles) reload() {
	complaint := ""
	if err := f.load(); err != nil {
		complaint = err.Error()
	}
	if complaint != "" && complaint != f.complaint {
		f.logger.Error("arpc: certificate files: the pair before them stays in use", "certificate", f.certFile, "cause", complaint)
	}
	f.complaint = complaint
}

// load takes what is in the files into use if it has changed.
func (f *CertificateFiles) load() error {
	cert, err := os.ReadFile(f.certFile)
	if err != nil {
		return err
	}
	key, err := os.ReadFile(f.keyFile)
	if err != nil {
		return err
	}
	seen := sha256.Sum256(append(append(cert[:len(cert):len(cert)], 0), key...))
	if f.current.Load() != nil && seen == f.seen {
		return nil
	}
	pair, err := tls.X509KeyPair(cert, key)
	if err != nil {
		return err
	}
	if f.current.Swap(&pair) != nil {
		f.logger.Info("arpc: certificate files: a new pair is in use", "certificate", f.certFile)
	}
	f.seen = seen
	return nil
}
