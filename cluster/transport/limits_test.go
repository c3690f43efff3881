package transport

import (
	"context"
	"crypto/tls"
	"io"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"bivalve/cluster"
)

// Who connects and then says nothing, or too little, is cut off.
func TestSlowPeersAreCut(t *testing.T) {
	ca := newTestCA(t, "test")
	s := serve(t, Config{Identity: ca.identity("b1", time.Now()), Limits: Limits{
		HandshakeTimeout: time.Second, ReadTimeout: 300 * time.Millisecond,
		ClientIdle: 20 * time.Millisecond, ServerIdle: 50 * time.Millisecond,
	}}, "127.0.0.1:0", func(s *Server) { s.Handle(kindEcho, echo) })

	ended := func(what string, c net.Conn) {
		t.Helper()
		must(t, c.SetReadDeadline(time.Now().Add(10*time.Second)))
		_, err := io.Copy(io.Discard, c)
		if e, ok := err.(net.Error); ok && e.Timeout() {
			t.Errorf("%s: still open", what)
		}
		must(t, c.Close())
	}
	silent, err := net.Dial("tcp", s.addr)
	must(t, err)
	ended("no handshake", silent)

	id := ca.identity("a1", time.Now())
	open := func() *conn {
		raw, err := net.Dial("tcp", s.addr)
		must(t, err)
		cn := secure(raw, newCoalescePool(), func(n net.Conn) *tls.Conn { return tls.Client(n, id.ClientTLS("b1")) })
		must(t, cn.tls.Handshake())
		return cn
	}
	ended("no hello", open().raw)

	for what, send := range map[string]int{"idle": 0, "half a header": headerBytes / 2, "half a body": headerBytes + 500} {
		cn := open()
		must(t, cn.writeFrame(header{Type: frameHello, Kind: Kind(PoolShards)}, nil, nil))
		h, err := cn.readHeader()
		must(t, err)
		if h.Type != frameWelcome {
			t.Fatalf("welcome is %+v", h)
		}
		var b [headerBytes + 1000]byte
		(&header{Type: frameRequest, Kind: kindEcho, BodyLen: 1000}).put(b[:])
		if send > 0 {
			_, err = cn.tls.Write(b[:send])
			must(t, err)
		}
		ended(what, cn.raw)
	}
}

// Idle connections do not stay at the client either.
func TestIdleConnectionsAreClosed(t *testing.T) {
	c, s := pair(t, Config{Limits: Limits{ClientIdle: 20 * time.Millisecond}}, func(s *Server) { s.Handle(kindEcho, echo) })
	_, err := c.Call(testCtx(t), "b1", Call{Kind: kindEcho})
	must(t, err)
	eventually(t, "end of the idle connection", func() bool {
		s.mu.Lock()
		defer s.mu.Unlock()
		return len(s.conns) == 0
	})
	_, err = c.Call(testCtx(t), "b1", Call{Kind: kindEcho})
	must(t, err)
}

// A server that is full says so, and lets raft in all the same.
func TestConnectionsAreBounded(t *testing.T) {
	entered, release, raft := make(chan bool, 2), make(chan bool), make(chan bool, 1)
	c, _ := pair(t, Config{Limits: Limits{MaxConns: 1}}, func(s *Server) {
		s.Handle(kindBlock, func(context.Context, *Request) (Answer, error) {
			entered <- true
			<-release
			return Answer{}, nil
		})
		s.HandleRaft(func(cluster.NodeID, []byte) {
			select {
			case raft <- true:
			default:
			}
		})
	})
	var wg sync.WaitGroup
	wg.Go(func() {
		if _, err := c.Call(testCtx(t), "b1", Call{Kind: kindBlock}); err != nil {
			t.Error(err)
		}
	})
	recv(t, entered, "call")
	if _, err := c.Call(testCtx(t), "b1", Call{Kind: kindBlock}); err == nil {
		t.Error("a connection too many")
	}
	eventually(t, "raft message sent", func() bool { return c.SendRaft("b1", [][]byte{{1}}) && len(raft) > 0 })
	close(release)
	wg.Wait()
}

func TestBytesBetweenZonesAreCounted(t *testing.T) {
	reg := prometheus.NewRegistry()
	zones := map[cluster.NodeID]cluster.Zone{"a1": "a", "b1": "b"}
	cfg := Config{Metrics: NewMetrics(reg), Zone: "a", ZoneOf: func(n cluster.NodeID) cluster.Zone { return zones[n] }}
	c, _ := pair(t, cfg, func(s *Server) { s.HandleShards(newMemShards(cluster.DiskID{1})) })
	put := func() {
		t.Helper()
		ctx := testCtx(t)
		must(t, Shards{Client: c, Cause: CauseHeal}.AppendShards(ctx, "b1", 1, []cluster.DiskID{{1}}, []cluster.Shard{testShard(0, make([]byte, 100000))})[0])
	}
	read := func() float64 {
		t.Helper()
		families, err := reg.Gather()
		must(t, err)
		for _, f := range families {
			for _, m := range f.GetMetric() {
				l := m.GetLabel()
				if f.GetName() == "bivalve_zone_traffic_bytes_total" && l[0].GetValue() == "heal" && l[1].GetValue() == "out" {
					return m.GetCounter().GetValue()
				}
			}
		}
		t.Fatal("no such counter")
		return 0
	}
	put()
	once := read()
	if once < 100000 || once > 101000 {
		t.Fatalf("%v bytes counted", once)
	}
	zones["b1"] = "a"
	put()
	if read() != once {
		t.Fatal("bytes within the zone were counted")
	}
}
