package transport

import (
	"bytes"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"

	"bivalve/cluster"
)

func TestStrangersAreRefused(t *testing.T) {
	ours, theirs := newTestCA(t, "test"), newTestCA(t, "test")
	elsewhere := newTestCA(t, "other")
	now, longAgo := time.Now(), time.Now().Add(-nodeLife-2*clockSkew)
	for _, tc := range []struct {
		name           string
		server, client *Identity
	}{
		{"client of another CA", ours.identity("b1", now), theirs.identity("a1", now)},
		{"client of another cluster", ours.identity("b1", now), elsewhere.identity("a1", now)},
		{"expired client", ours.identity("b1", now), ours.identity("a1", longAgo)},
		{"expired server", ours.identity("b1", longAgo), ours.identity("a1", now)},
		{"certificate from the future", ours.identity("b1", now), ours.identity("a1", now.Add(2*clockSkew))},
		{"server is another node", ours.identity("b2", now), ours.identity("a1", now)},
	} {
		t.Run(tc.name, func(t *testing.T) {
			s := serve(t, Config{Identity: tc.server}, "127.0.0.1:0", func(s *Server) {
				s.Handle(kindEcho, echo)
			})
			c := client(t, Config{Identity: tc.client}, s.addr)
			_, err := c.Call(testCtx(t), "b1", Call{Kind: kindEcho})
			if !errors.Is(err, cluster.ErrUnreachable) {
				t.Fatalf("got %v", err)
			}
			if tc.name == "server is another node" && !errors.Is(err, ErrIdentity) {
				t.Fatalf("got %v, want ErrIdentity", err)
			}
		})
	}
}

func TestNoCertificateNoService(t *testing.T) {
	ca := newTestCA(t, "test")
	s := serve(t, Config{Identity: ca.identity("b1", time.Now())}, "127.0.0.1:0", func(s *Server) { s.Handle(kindEcho, echo) })
	for name, cfg := range map[string]*tls.Config{
		"no certificate": {InsecureSkipVerify: true},
		"TLS 1.2":        {InsecureSkipVerify: true, MaxVersion: tls.VersionTLS12},
	} {
		raw, err := tls.Dial("tcp", s.addr, cfg)
		if err == nil { // in TLS 1.3 the refusal comes after the client's half
			_, err = raw.Read(make([]byte, 1))
			must(t, raw.Close())
		}
		if err == nil {
			t.Errorf("%s: served", name)
		}
	}
	// A frame without TLS gets nothing but a closed connection.
	raw, err := net.Dial("tcp", s.addr)
	must(t, err)
	var b [headerBytes]byte
	(&header{Type: frameHello}).put(b[:])
	_, err = raw.Write(b[:])
	must(t, err)
	answer, _ := io.ReadAll(raw)
	if bytes.Contains(answer, []byte("BVT1")) {
		t.Fatal("answered in the clear")
	}
	must(t, raw.Close())
}

// Encryption wins where the two ends differ.
func TestEncryptionIsAgreed(t *testing.T) {
	for _, tc := range []struct {
		client, server EncryptMode
		plain          bool
	}{{EncryptAuto, EncryptAuto, true}, {EncryptOff, EncryptAuto, true}, {EncryptOn, EncryptAuto, false}, {EncryptAuto, EncryptOn, false}} {
		ca := newTestCA(t, "test")
		s := serve(t, Config{Identity: ca.identity("b1", time.Now()), Encrypt: tc.server}, "127.0.0.1:0", func(s *Server) { s.Handle(kindEcho, echo) })
		c := client(t, Config{Identity: ca.identity("a1", time.Now()), Encrypt: tc.client}, s.addr)
		p, err := c.peer("b1")
		must(t, err)
		cn, _, err := c.take(testCtx(t), p, PoolShards, true, true)
		must(t, err)
		if cn.plain() != tc.plain {
			t.Errorf("client %s server %s: plain is %v", tc.client, tc.server, cn.plain())
		}
		p.pools[PoolShards].give(cn)
		_, err = c.Call(testCtx(t), "b1", Call{Kind: kindEcho, Body: [][]byte{randomBytes(1 << 20)}})
		must(t, err)
	}
	far, near := &net.TCPAddr{IP: net.IPv4(10, 0, 0, 1)}, &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)}
	for _, tc := range []struct {
		mode  EncryptMode
		pool  Pool
		peer  net.Addr
		plain bool
	}{
		{EncryptAuto, PoolShards, far, false}, {EncryptAuto, poolRaft, near, true},
		{EncryptOff, PoolShards, far, true}, {EncryptOff, PoolMeta, far, false}, {EncryptOff, poolRaft, far, false},
		{EncryptOn, PoolShards, near, false},
	} {
		if got := tc.mode.plainWanted(tc.pool, tc.peer, tc.peer); got != tc.plain {
			t.Errorf("%+v: got %v", tc, got)
		}
	}
}

func TestFiles(t *testing.T) {
	dir, now := t.TempDir(), time.Now()
	ca, err := NewCA("region-1", now)
	must(t, err)
	must(t, ca.Save(dir))
	if err := ca.Save(dir); err == nil {
		t.Fatal("a CA was overwritten")
	}
	ca, err = LoadCA(dir)
	must(t, err)
	node, err := ca.IssueNode("a1", now)
	must(t, err)
	must(t, SaveNode(dir, ca.CertPEM, node))
	id, err := LoadIdentity(dir)
	must(t, err)
	if id.ClusterID != "region-1" || id.Node != "a1" || id.NotAfter().Before(now.Add(nodeLife-time.Minute)) {
		t.Fatalf("loaded %s/%s until %s", id.ClusterID, id.Node, id.NotAfter())
	}
	for _, f := range []string{CACertFile, CAKeyFile, NodeCertFile, NodeKeyFile} {
		st, err := os.Stat(filepath.Join(dir, f))
		must(t, err)
		if st.Mode().Perm() != 0o600 {
			t.Errorf("%s has mode %v", f, st.Mode())
		}
	}
	renewed, err := ca.IssueNode("a1", now.Add(time.Hour))
	must(t, err)
	must(t, SaveNode(dir, ca.CertPEM, renewed))
	before := id.NotAfter()
	must(t, id.Reload(dir))
	if !id.NotAfter().After(before) {
		t.Fatal("not renewed")
	}
	other, err := ca.IssueNode("a2", now)
	must(t, err)
	must(t, SaveNode(dir, ca.CertPEM, other))
	if err := id.Reload(dir); err == nil || id.Node != "a1" {
		t.Fatal("took the certificate of another node")
	}
	for _, bad := range []string{"", "a/b", "a b", "-a", string(make([]byte, 64))} {
		if _, err := ca.IssueNode(cluster.NodeID(bad), now); err == nil {
			t.Errorf("issued node %q", bad)
		}
	}
}
