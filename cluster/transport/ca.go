package transport

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"time"

	"bivalve/cluster"
)

const (
	caLife   = 10 * 365 * 24 * time.Hour
	nodeLife = 5 * 365 * 24 * time.Hour
	// clockSkew that a fresh certificate forgives.
	clockSkew = time.Hour
)

// Files of a certificate directory; each is PEM with mode 0600.
const (
	CACertFile   = "ca.crt"
	CAKeyFile    = "ca.key" // only where nodes are issued from
	NodeCertFile = "node.crt"
	NodeKeyFile  = "node.key"
)

// CA is the authority of one region: it alone says who is a node.
type CA struct {
	ClusterID string
	cert      *x509.Certificate
	key       *ecdsa.PrivateKey
	CertPEM   []byte
	KeyPEM    []byte
}

// NodeCert is what one node gets: its certificate and private key, PEM.
type NodeCert struct{ CertPEM, KeyPEM []byte }

var validName = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$`)

func checkName(what, s string) error {
	if !validName.MatchString(s) {
		return fmt.Errorf("transport: %s %q: want 1..63 letters, digits, '.', '_' or '-'", what, s)
	}
	return nil
}

func memberURI(clusterID string, node cluster.NodeID) *url.URL {
	return &url.URL{Scheme: "bivalve", Host: clusterID, Path: "/" + string(node)}
}

// NewCA makes the authority of a new region: ECDSA P-256, ten years from now.
func NewCA(clusterID string, now time.Time) (*CA, error) {
	if err := checkName("cluster id", clusterID); err != nil {
		return nil, err
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("transport: make CA key: %w", err)
	}
	tmpl := &x509.Certificate{
		Subject:   pkix.Name{CommonName: "bivalve " + clusterID, Organization: []string{clusterID}},
		NotBefore: now.Add(-clockSkew), NotAfter: now.Add(caLife),
		IsCA: true, BasicConstraintsValid: true, MaxPathLenZero: true,
		KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
	}
	certPEM, err := sign(tmpl, tmpl, key, key)
	if err != nil {
		return nil, err
	}
	keyPEM, err := encodeKey(key)
	if err != nil {
		return nil, err
	}
	return ParseCA(certPEM, keyPEM)
}

// IssueNode makes a certificate for one node, five years from now. It serves
// as client and as server.
func (ca *CA) IssueNode(node cluster.NodeID, now time.Time) (*NodeCert, error) {
	if err := checkName("node id", string(node)); err != nil {
		return nil, err
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("transport: make key of node %s: %w", node, err)
	}
	tmpl := &x509.Certificate{
		Subject:   pkix.Name{CommonName: string(node), Organization: []string{ca.ClusterID}},
		URIs:      []*url.URL{memberURI(ca.ClusterID, node)},
		NotBefore: now.Add(-clockSkew), NotAfter: now.Add(nodeLife),
		KeyUsage:    x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth, x509.ExtKeyUsageServerAuth},
	}
	certPEM, err := sign(tmpl, ca.cert, key, ca.key)
	if err != nil {
		return nil, err
	}
	keyPEM, err := encodeKey(key)
	return &NodeCert{CertPEM: certPEM, KeyPEM: keyPEM}, err
}

func sign(tmpl, parent *x509.Certificate, key, signer *ecdsa.PrivateKey) ([]byte, error) {
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 127))
	if err != nil {
		return nil, fmt.Errorf("transport: serial number: %w", err)
	}
	tmpl.SerialNumber = serial
	der, err := x509.CreateCertificate(rand.Reader, tmpl, parent, &key.PublicKey, signer)
	if err != nil {
		return nil, fmt.Errorf("transport: sign certificate: %w", err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), nil
}

func encodeKey(key *ecdsa.PrivateKey) ([]byte, error) {
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, fmt.Errorf("transport: encode key: %w", err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), nil
}

// ParseCA reads an authority with its key, from PEM.
func ParseCA(certPEM, keyPEM []byte) (*CA, error) {
	cb, _ := pem.Decode(certPEM)
	kb, _ := pem.Decode(keyPEM)
	if cb == nil || kb == nil {
		return nil, errors.New("transport: CA files are not PEM")
	}
	cert, err := x509.ParseCertificate(cb.Bytes)
	if err != nil {
		return nil, fmt.Errorf("transport: CA certificate: %w", err)
	}
	parsed, err := x509.ParsePKCS8PrivateKey(kb.Bytes)
	if err != nil {
		return nil, fmt.Errorf("transport: CA key: %w", err)
	}
	key, ok := parsed.(*ecdsa.PrivateKey)
	if !ok || !cert.IsCA || len(cert.Subject.Organization) != 1 || !key.PublicKey.Equal(cert.PublicKey) {
		return nil, errors.New("transport: certificate and key are not those of a cluster CA")
	}
	return &CA{ClusterID: cert.Subject.Organization[0], cert: cert, key: key, CertPEM: certPEM, KeyPEM: keyPEM}, nil
}

// Save writes the authority into dir. It never overwrites: a lost CA key is a
// region that takes no new node.
func (ca *CA) Save(dir string) error {
	if err := writeNew(filepath.Join(dir, CAKeyFile), ca.KeyPEM); err != nil {
		return err
	}
	return writeNew(filepath.Join(dir, CACertFile), ca.CertPEM)
}

// LoadCA reads what Save wrote.
func LoadCA(dir string) (*CA, error) {
	cert, err := os.ReadFile(filepath.Join(dir, CACertFile))
	if err != nil {
		return nil, fmt.Errorf("transport: load CA: %w", err)
	}
	key, err := os.ReadFile(filepath.Join(dir, CAKeyFile))
	if err != nil {
		return nil, fmt.Errorf("transport: load CA: %w", err)
	}
	return ParseCA(cert, key)
}

// SaveNode writes a node's certificate, key and the CA certificate into dir,
// replacing what is there one file at a time by rename.
func SaveNode(dir string, caPEM []byte, n *NodeCert) error {
	for _, f := range []struct {
		name string
		data []byte
	}{{NodeKeyFile, n.KeyPEM}, {NodeCertFile, n.CertPEM}, {CACertFile, caPEM}} {
		tmp := filepath.Join(dir, "."+f.name+".new")
		if err := os.Remove(tmp); err != nil && !errors.Is(err, os.ErrNotExist) {
			return fmt.Errorf("transport: save %s: %w", f.name, err)
		}
		if err := writeNew(tmp, f.data); err != nil {
			return err
		}
		if err := os.Rename(tmp, filepath.Join(dir, f.name)); err != nil {
			return fmt.Errorf("transport: save %s: %w", f.name, err)
		}
	}
	return nil
}

func writeNew(path string, data []byte) (err error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return fmt.Errorf("transport: %w", err)
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	if _, err := f.Write(data); err != nil {
		return fmt.Errorf("transport: write %s: %w", path, err)
	}
	if err := f.Sync(); err != nil {
		return fmt.Errorf("transport: sync %s: %w", path, err)
	}
	return nil
}
