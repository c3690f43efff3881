package transport

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"time"

	"bivalve/cluster"
)

// Identity is who this node is and whom it trusts. Safe for concurrent use;
// Reload changes it for connections made afterwards.
type Identity struct {
	ClusterID string
	Node      cluster.NodeID
	state     atomic.Pointer[identityState]
}

type identityState struct {
	cert  tls.Certificate
	leaf  *x509.Certificate
	roots *x509.CertPool
}

// NewIdentity reads PEM. caPEM may hold several authorities, for a rotation.
// An expired certificate loads, so that a node can start and be given a new
// one; its peers refuse it.
func NewIdentity(caPEM, certPEM, keyPEM []byte) (*Identity, error) {
	s, clusterID, node, err := parseIdentity(caPEM, certPEM, keyPEM)
	if err != nil {
		return nil, err
	}
	id := &Identity{ClusterID: clusterID, Node: node}
	id.state.Store(s)
	return id, nil
}

func parseIdentity(caPEM, certPEM, keyPEM []byte) (*identityState, string, cluster.NodeID, error) {
	s := &identityState{roots: x509.NewCertPool()}
	if !s.roots.AppendCertsFromPEM(caPEM) {
		return nil, "", "", errors.New("transport: no CA certificate in PEM")
	}
	var err error
	if s.cert, err = tls.X509KeyPair(certPEM, keyPEM); err != nil {
		return nil, "", "", fmt.Errorf("transport: node certificate: %w", err)
	}
	if s.leaf, err = x509.ParseCertificate(s.cert.Certificate[0]); err != nil {
		return nil, "", "", fmt.Errorf("transport: node certificate: %w", err)
	}
	clusterID, node, err := memberOf(s.leaf)
	return s, clusterID, node, err
}

// LoadIdentity reads the files that SaveNode wrote.
func LoadIdentity(dir string) (*Identity, error) {
	ca, cert, key, err := readIdentity(dir)
	if err != nil {
		return nil, err
	}
	return NewIdentity(ca, cert, key)
}

func readIdentity(dir string) (ca, cert, key []byte, err error) {
	for name, to := range map[string]*[]byte{CACertFile: &ca, NodeCertFile: &cert, NodeKeyFile: &key} {
		if *to, err = os.ReadFile(filepath.Join(dir, name)); err != nil {
			return nil, nil, nil, fmt.Errorf("transport: load identity: %w", err)
		}
	}
	return ca, cert, key, nil
}

// Reload takes renewed files of the same node; open connections stay.
func (id *Identity) Reload(dir string) error {
	ca, cert, key, err := readIdentity(dir)
	if err != nil {
		return err
	}
	s, clusterID, node, err := parseIdentity(ca, cert, key)
	if err != nil {
		return err
	}
	if clusterID != id.ClusterID || node != id.Node {
		return fmt.Errorf("transport: %s holds the certificate of %s/%s, not of %s/%s", dir, clusterID, node, id.ClusterID, id.Node)
	}
	id.state.Store(s)
	return nil
}

// NotAfter is when peers stop accepting this node.
func (id *Identity) NotAfter() time.Time { return id.state.Load().leaf.NotAfter }

// memberOf reads the SAN bivalve://<cluster>/<node>.
func memberOf(leaf *x509.Certificate) (string, cluster.NodeID, error) {
	for _, u := range leaf.URIs {
		node := strings.TrimPrefix(u.Path, "/")
		if u.Scheme == "bivalve" && checkName("cluster id", u.Host) == nil && checkName("node id", node) == nil {
			return u.Host, cluster.NodeID(node), nil
		}
	}
	return "", "", fmt.Errorf("%w: certificate of %q names no member", ErrIdentity, leaf.Subject.CommonName)
}

// verify checks the peer's chain against the cluster CA and returns who it is.
// It stands in for the usual check of a host name: members are known by id, and
// addresses change.
func (id *Identity) verify(cs tls.ConnectionState) (cluster.NodeID, error) {
	if len(cs.PeerCertificates) == 0 {
		return "", fmt.Errorf("%w: no certificate", ErrIdentity)
	}
	leaf := cs.PeerCertificates[0]
	inter := x509.NewCertPool()
	for _, c := range cs.PeerCertificates[1:] {
		inter.AddCert(c)
	}
	if _, err := leaf.Verify(x509.VerifyOptions{
		Roots: id.state.Load().roots, Intermediates: inter,
		KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageAny},
	}); err != nil {
		return "", fmt.Errorf("%w: %w", ErrIdentity, err)
	}
	clusterID, node, err := memberOf(leaf)
	if err != nil {
		return "", err
	}
	if clusterID != id.ClusterID {
		return "", fmt.Errorf("%w: member of cluster %q", ErrIdentity, clusterID)
	}
	return node, nil
}

func (id *Identity) baseTLS() *tls.Config {
	return &tls.Config{
		MinVersion: tls.VersionTLS13,
		// Tickets would be sent after the handshake and be in flight when a
		// connection goes over to the clear; pooled connections do not need them.
		SessionTicketsDisabled: true,
		// Frames are whole messages: small first records only cost system calls.
		DynamicRecordSizingDisabled: true,
	}
}

// ServerTLS demands a certificate of the cluster from every client.
func (id *Identity) ServerTLS() *tls.Config {
	c := id.baseTLS()
	c.ClientAuth = tls.RequireAnyClientCert // verified below, by member id
	c.GetCertificate = func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return &id.state.Load().cert, nil }
	c.VerifyConnection = func(cs tls.ConnectionState) error { _, err := id.verify(cs); return err }
	return c
}

// ClientTLS accepts only the server that is the given node.
func (id *Identity) ClientTLS(to cluster.NodeID) *tls.Config {
	c := id.baseTLS()
	c.InsecureSkipVerify = true // not skipped: VerifyConnection checks chain and member id
	c.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &id.state.Load().cert, nil }
	c.VerifyConnection = func(cs tls.ConnectionState) error {
		node, err := id.verify(cs)
		if err == nil && node != to {
			err = fmt.Errorf("%w: dialled %s, answered by %s", ErrIdentity, to, node)
		}
		return err
	}
	return c
}
