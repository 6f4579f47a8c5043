package arpc_test

import (
	"bytes"
	"crypto/tls"
	"log/slog"
	"os"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/arpc-go/arpc"
)

// tlsInUse is the certificate that a handshake gets now.
func tlsInUse(t *testing.T, f *arpc.CertificateFiles) []byte {
	t.Helper()
	cert, err := f.GetCertificate(nil)
	require.NoError(t, err)
	own, err := f.GetClientCertificate(nil)
	require.NoError(t, err)
	require.Same(t, cert, own)
	return cert.Certificate[0]
}

func TestCertificateFilesAreLookedAtEveryTwoSeconds(t *testing.T) {
	ca := newTLSAuthority()
	first, second := ca.issue("first"), ca.issue("second")
	files := newTLSFiles(t.TempDir(), first)
	synctest.Test(t, func(t *testing.T) {
		f, err := arpc.LoadCertificateFiles(files.cert, files.key, nil)
		require.NoError(t, err)
		files.write(second)
		time.Sleep(2*time.Second - 1)
		require.Equal(t, first.Certificate[0], tlsInUse(t, f))
		time.Sleep(time.Nanosecond)
		require.Equal(t, second.Certificate[0], tlsInUse(t, f))
		files.write(first)
		require.Equal(t, second.Certificate[0], tlsInUse(t, f))
		time.Sleep(2 * time.Second)
		require.Equal(t, first.Certificate[0], tlsInUse(t, f))
	})
}

func TestCertificateFilesThatAreBrokenLeaveTheOldPairInUse(t *testing.T) {
	ca := newTLSAuthority()
	first, second := ca.issue("first"), ca.issue("second")
	breaks := map[string]struct {
		do   func(f tlsFiles) error
		text string
	}{
		"half a change": {func(f tlsFiles) error { f.writeCert(second); return nil }, "private key does not match public key"},
		"garbage":       {func(f tlsFiles) error { return os.WriteFile(f.key, []byte("a secret"), 0o600) }, "failed to find any PEM data"},
		"empty":         {func(f tlsFiles) error { return os.Truncate(f.cert, 0) }, "failed to find any PEM data"},
		"gone":          {func(f tlsFiles) error { return os.Remove(f.cert) }, "cert.pem"},
	}
	for name, broken := range breaks {
		t.Run(name, func(t *testing.T) {
			files := newTLSFiles(t.TempDir(), first)
			synctest.Test(t, func(t *testing.T) {
				var log bytes.Buffer
				f, err := arpc.LoadCertificateFiles(files.cert, files.key, slog.New(slog.NewTextHandler(&log, nil)))
				require.NoError(t, err)
				require.NoError(t, broken.do(files))
				for range 3 {
					time.Sleep(2 * time.Second)
					require.Equal(t, first.Certificate[0], tlsInUse(t, f))
				}
				require.Contains(t, log.String(), broken.text)
				require.Equal(t, 1, strings.Count(log.String(), "\n"), "it is told once")
				require.NotContains(t, log.String(), "secret")
				files.write(second)
				time.Sleep(2 * time.Second)
				require.Equal(t, second.Certificate[0], tlsInUse(t, f))
				require.Contains(t, log.String(), "a new pair is in use")
			})
		})
	}
}

func TestCertificateFilesThatCannotBeLoaded(t *testing.T) {
	files := newTLSFiles(t.TempDir(), newTLSAuthority().issue("server"))
	_, err := arpc.LoadCertificateFiles(files.cert, files.cert, nil)
	require.Equal(t, arpc.CodeInvalidArgument, arpc.CodeOf(err))
	_, err = arpc.LoadCertificateFiles("", files.key, nil)
	require.ErrorIs(t, err, os.ErrNotExist)
}

func TestCertificateFilesMayBeUsedByManyWhileTheyChange(t *testing.T) {
	ca := newTLSAuthority()
	pairs := []tls.Certificate{ca.issue("0"), ca.issue("1")}
	files := newTLSFiles(t.TempDir(), pairs[0])
	synctest.Test(t, func(t *testing.T) {
		f, err := arpc.LoadCertificateFiles(files.cert, files.key, nil)
		require.NoError(t, err)
		var all sync.WaitGroup
		for range 8 {
			all.Go(func() {
				for range 50 {
					time.Sleep(500 * time.Millisecond)
					if cert, err := f.GetCertificate(nil); err != nil || cert == nil {
						t.Error("no certificate", err)
					}
				}
			})
		}
		for i := range 10 {
			time.Sleep(2 * time.Second)
			files.write(pairs[i%2])
		}
		all.Wait()
		time.Sleep(2 * time.Second)
		require.Equal(t, pairs[1].Certificate[0], tlsInUse(t, f))
	})
}
