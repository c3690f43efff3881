package server

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"log/slog"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// writeCert makes a certificate of that serial number for the loopback address.
func writeCert(t *testing.T, files TLSFiles, serial int64) *x509.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	tmpl := &x509.Certificate{SerialNumber: big.NewInt(serial), Subject: pkix.Name{CommonName: "s3"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true,
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	raw, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	for name, block := range map[string]*pem.Block{files.Cert: {Type: "CERTIFICATE", Bytes: der}, files.Key: {Type: "PRIVATE KEY", Bytes: raw}} {
		if err := os.WriteFile(name, pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
		at := time.Unix(1_700_000_000+serial, 0) // the clock of a file system is coarse
		if err := os.Chtimes(name, at, at); err != nil {
			t.Fatal(err)
		}
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return cert
}

// A renewed certificate is taken up while the listener works, one that cannot be
// read is not.
func TestS3CertRenewed(t *testing.T) {
	dir := t.TempDir()
	files := TLSFiles{Cert: filepath.Join(dir, "cert.pem"), Key: filepath.Join(dir, "key.pem")}
	if _, err := loadS3Cert(files, slog.New(slog.DiscardHandler)); err == nil {
		t.Fatal("loaded what is not there")
	}
	first := writeCert(t, files, 1)
	c, err := loadS3Cert(files, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	now := c.checked
	c.now = func() time.Time { return now }
	l, err := tls.Listen("tcp", "127.0.0.1:0", c.config())
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan error, 1)
	s := &http.Server{Handler: http.NotFoundHandler(), ErrorLog: slog.NewLogLogger(slog.DiscardHandler, slog.LevelDebug)}
	go func() { served <- s.Serve(l) }()
	defer func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
		<-served
	}()
	serial := func(root *x509.Certificate) int64 {
		t.Helper()
		roots := x509.NewCertPool()
		roots.AddCert(root)
		conn, err := tls.Dial("tcp", l.Addr().String(), &tls.Config{RootCAs: roots, NextProtos: []string{"h2", "http/1.1"}})
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		st := conn.ConnectionState()
		if st.NegotiatedProtocol != "http/1.1" {
			t.Errorf("protocol %q", st.NegotiatedProtocol)
		}
		return st.PeerCertificates[0].SerialNumber.Int64()
	}
	if n := serial(first); n != 1 {
		t.Errorf("certificate %d", n)
	}
	second := writeCert(t, files, 2)
	if n := serial(first); n != 1 {
		t.Errorf("certificate %d before the files were looked at", n)
	}
	now = now.Add(certCheck)
	if n := serial(second); n != 2 {
		t.Errorf("certificate %d after the renewal", n)
	}
	for _, broken := range []string{"", "no PEM"} {
		if err := os.WriteFile(files.Key, []byte(broken), 0o600); err != nil {
			t.Fatal(err)
		}
		now = now.Add(certCheck)
		if n := serial(second); n != 2 {
			t.Errorf("certificate %d with a broken key", n)
		}
	}
	if err := os.Remove(files.Cert); err != nil {
		t.Fatal(err)
	}
	now = now.Add(certCheck)
	if n := serial(second); n != 2 {
		t.Errorf("certificate %d without a file", n)
	}
	third := writeCert(t, files, 3)
	now = now.Add(certCheck)
	if n := serial(third); n != 3 {
		t.Errorf("certificate %d after all", n)
	}
	if _, err := tls.Dial("tcp", l.Addr().String(), &tls.Config{InsecureSkipVerify: true, MaxVersion: tls.VersionTLS11}); err == nil {
		t.Error("TLS 1.1 is spoken")
	}
}

func TestS3TLSConfig(t *testing.T) {
	for text, want := range map[string]string{
		"s3: {tls: {cert: c.pem}}":             "s3.tls: cert and key go together",
		"s3: {tls: {key: k.pem}}":              "s3.tls: cert and key go together",
		"s3: {tls: {cert: c.pem, key: k.pem}}": "",
	} {
		dir := t.TempDir()
		path := filepath.Join(dir, "config.yaml")
		if err := os.WriteFile(path, []byte("node: a1\n"+text+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		c, err := LoadConfig(path)
		switch {
		case want != "" && (err == nil || !strings.Contains(err.Error(), want)):
			t.Errorf("%s: %v", text, err)
		case want == "" && (err != nil || c.S3.TLS.Cert != filepath.Join(dir, "c.pem") || c.S3.TLS.Key != filepath.Join(dir, "k.pem")):
			t.Errorf("%s: %+v, %v", text, c, err)
		}
	}
}
