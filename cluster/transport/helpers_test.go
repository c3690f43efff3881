package transport

import (
	"context"
	"net"
	"testing"
	"time"

	"go.uber.org/goleak"

	"bivalve/cluster"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// testCA issues identities for one test cluster.
type testCA struct {
	t  testing.TB
	ca *CA
}

func newTestCA(t testing.TB, name string) testCA {
	t.Helper()
	ca, err := NewCA(name, time.Now())
	must(t, err)
	return testCA{t, ca}
}

func (c testCA) identity(node cluster.NodeID, issued time.Time) *Identity {
	c.t.Helper()
	n, err := c.ca.IssueNode(node, issued)
	must(c.t, err)
	id, err := NewIdentity(c.ca.CertPEM, n.CertPEM, n.KeyPEM)
	must(c.t, err)
	return id
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// running is a server on loopback.
type running struct {
	*Server
	addr string
	stop func()
}

// serve starts a server; setup registers its handlers.
func serve(t testing.TB, cfg Config, addr string, setup func(*Server)) *running {
	t.Helper()
	s, err := NewServer(cfg)
	must(t, err)
	setup(s)
	ln, err := net.Listen("tcp", addr)
	must(t, err)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Serve(ctx, ln) }()
	stopped := false
	r := &running{Server: s, addr: ln.Addr().String()}
	r.stop = func() {
		if !stopped {
			stopped = true
			cancel()
			if err := <-done; err != nil {
				t.Errorf("Serve: %v", err)
			}
		}
	}
	t.Cleanup(r.stop)
	return r
}

func client(t testing.TB, cfg Config, addr string) *Client {
	t.Helper()
	cfg.Addr = func(cluster.NodeID) (string, bool) { return addr, addr != "" }
	c, err := NewClient(cfg)
	must(t, err)
	t.Cleanup(func() { must(t, c.Close()) })
	return c
}

// pair is node a1 calling node b1.
func pair(t testing.TB, cfg Config, setup func(*Server)) (*Client, *running) {
	t.Helper()
	ca := newTestCA(t, "test")
	srv, cl := cfg, cfg
	srv.Identity, cl.Identity = ca.identity("b1", time.Now()), ca.identity("a1", time.Now())
	s := serve(t, srv, "127.0.0.1:0", setup)
	return client(t, cl, s.addr), s
}

// testCtx ends a test that waits for something that does not come.
func testCtx(t testing.TB) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), 15*time.Second)
	t.Cleanup(cancel)
	return ctx
}

// recv waits for a value.
func recv[T any](t testing.TB, c <-chan T, what string) T {
	t.Helper()
	select {
	case v := <-c:
		return v
	case <-time.After(15 * time.Second):
		t.Fatalf("no %s within 15 s", what)
	}
	panic("unreachable")
}

// eventually polls a condition that nothing announces.
func eventually(t testing.TB, what string, cond func() bool) {
	t.Helper()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for end := time.Now().Add(15 * time.Second); !cond(); <-tick.C {
		if time.Now().After(end) {
			t.Fatalf("no %s within 15 s", what)
		}
	}
}

const (
	kindEcho  = KindFirstFree
	kindBlock = KindFirstFree + 1
)

func echo(_ context.Context, req *Request) (Answer, error) {
	return Answer{Epoch: req.Epoch + 1, Head: req.Head, Body: [][]byte{req.Body}}, nil
}
