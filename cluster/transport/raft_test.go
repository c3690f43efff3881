package transport

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"testing"
	"testing/iotest"
	"time"

	"bivalve/cluster"
)

func TestRaftIsOrdered(t *testing.T) {
	for _, mode := range []EncryptMode{EncryptAuto, EncryptOn} {
		t.Run(string(mode), func(t *testing.T) {
			got := make(chan []byte, 3000)
			c, _ := pair(t, Config{Encrypt: mode}, func(s *Server) {
				s.HandleRaft(func(from cluster.NodeID, payload []byte) {
					if from == "a1" {
						got <- bytes.Clone(payload)
					}
				})
			})
			big := randomBytes(200 << 10)
			for i := range uint32(1000) {
				msg := [][]byte{binary.BigEndian.AppendUint32(nil, i), {1, 2}}
				if i%100 == 0 {
					msg = append(msg, big, []byte("end"))
				}
				if !c.SendRaft("b1", msg) {
					t.Fatalf("message %d dropped", i)
				}
			}
			for i := range uint32(1000) {
				m := recv(t, got, "message")
				if binary.BigEndian.Uint32(m) != i {
					t.Fatalf("message %d came as number %d", binary.BigEndian.Uint32(m), i)
				}
				if i%100 == 0 && (!bytes.Equal(m[6:6+len(big)], big) || string(m[6+len(big):]) != "end") {
					t.Fatal("large message changed")
				}
			}
		})
	}
}

// A shard handler is blocked and the next shard body is half sent: a raft
// message still arrives, for it has a connection and memory of its own.
func TestShardsDoNotDelayRaft(t *testing.T) {
	entered, release := make(chan bool, 1), make(chan bool)
	raft := make(chan bool, 1)
	c, s := pair(t, Config{Limits: Limits{ShardBytes: MaxBodyBytes}}, func(s *Server) {
		s.Handle(kindBlock, func(context.Context, *Request) (Answer, error) {
			entered <- true
			<-release
			return Answer{}, nil
		})
		s.HandleRaft(func(cluster.NodeID, []byte) { raft <- true })
		s.HandleMeta(func(context.Context, cluster.NodeID, uint8, []byte) ([]byte, error) { return []byte("ok"), nil })
	})
	body := [][]byte{make([]byte, MaxBodyBytes)} // the whole memory of the server
	errs := make(chan error, 2)
	send := func() {
		_, err := c.Call(testCtx(t), "b1", Call{Kind: kindBlock, Body: body})
		errs <- err
	}
	go send()
	recv(t, entered, "blocked handler")
	go send() // its body is stuck: the server reads no further
	eventually(t, "second connection", func() bool {
		s.mu.Lock()
		defer s.mu.Unlock()
		return s.held[holdings{"a1", PoolShards}] == 2
	})
	if !c.SendRaft("b1", [][]byte{[]byte("heartbeat")}) {
		t.Fatal("raft message dropped")
	}
	recv(t, raft, "raft message")
	_, err := c.CallMeta(testCtx(t), "b1", 1, []byte("x"))
	must(t, err)
	select {
	case <-entered:
		t.Fatal("the second shard got past the memory limit")
	case err := <-errs:
		t.Fatalf("a shard call ended: %v", err)
	default:
	}
	close(release)
	must(t, recv(t, errs, "shard call"))
	must(t, recv(t, errs, "shard call"))
}

func TestRaftReconnects(t *testing.T) {
	ca := newTestCA(t, "test")
	got := make(chan bool, 10000)
	setup := func(s *Server) {
		s.HandleRaft(func(cluster.NodeID, []byte) {
			select {
			case got <- true:
			default:
			}
		})
	}
	cfg := Config{Identity: ca.identity("b1", time.Now())}
	s := serve(t, cfg, "127.0.0.1:0", setup)
	c := client(t, Config{Identity: ca.identity("a1", time.Now())}, s.addr)
	arrives := func() {
		t.Helper()
		for len(got) > 0 {
			<-got
		}
		eventually(t, "raft message", func() bool {
			c.SendRaft("b1", [][]byte{{1}})
			return len(got) > 0
		})
	}
	arrives()
	s.stop()
	eventually(t, "refusal while the peer is down", func() bool { return !c.SendRaft("b1", [][]byte{{1}}) })
	serve(t, cfg, s.addr, setup)
	arrives()
}

func TestRaftQueueIsBounded(t *testing.T) {
	// A listener that never answers: the link hangs in its handshake.
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	t.Cleanup(func() { must(t, ln.Close()) })
	ca := newTestCA(t, "test")
	c := client(t, Config{Identity: ca.identity("a1", time.Now()), Limits: Limits{RaftQueue: 10, RaftQueueBytes: 1000}}, ln.Addr().String())
	n := 0
	for c.SendRaft("b1", [][]byte{{1}}) {
		if n++; n > 10 {
			t.Fatal("queue grows past its count")
		}
	}
	if c.SendRaft("b2", [][]byte{make([]byte, 1001)}) || c.SendRaft("b2", [][]byte{make([]byte, MaxMetaBytes+1)}) {
		t.Fatal("queue grows past its bytes")
	}
}

func TestStream(t *testing.T) {
	data := randomBytes(3<<20 + 17)
	refused := errors.New("refused")
	errs := map[uint16]error{1001: refused}
	for _, mode := range []EncryptMode{EncryptAuto, EncryptOn} {
		t.Run(string(mode), func(t *testing.T) {
			ended := make(chan error, 1)
			c, _ := pair(t, Config{Encrypt: mode, Errors: errs}, func(s *Server) {
				s.HandleStream(kindEcho, func(_ context.Context, from cluster.NodeID, head []byte, r io.Reader) error {
					got, err := io.ReadAll(r)
					ended <- err
					if err == nil && (from != "a1" || string(head) != "snap" || !bytes.Equal(got, data[:len(got)])) {
						return errors.New("stream changed")
					}
					return err
				})
				s.HandleStream(kindBlock, func(_ context.Context, _ cluster.NodeID, _ []byte, r io.Reader) error {
					var b [1]byte
					_, _ = r.Read(b[:])
					return refused
				})
			})
			for _, n := range []int{0, 1, streamChunk, len(data)} {
				must(t, c.SendStream(testCtx(t), "b1", kindEcho, []byte("snap"), bytes.NewReader(data[:n])))
				must(t, recv(t, ended, "stream"))
			}
			// The sender's own trouble must not look like a short stream.
			broken := io.MultiReader(bytes.NewReader(data), iotest.ErrReader(refused))
			if err := c.SendStream(testCtx(t), "b1", kindEcho, nil, broken); !errors.Is(err, refused) {
				t.Fatalf("broken source: %v", err)
			}
			if err := recv(t, ended, "stream"); err == nil {
				t.Fatal("a cut stream looked whole")
			}
			// A refusal in the middle reaches a sender that has much left to send.
			endless := io.LimitReader(zeros{}, 1<<40)
			if err := c.SendStream(testCtx(t), "b1", kindBlock, nil, endless); !errors.Is(err, refused) {
				t.Fatalf("refused stream: %v", err)
			}
			if err := c.SendStream(testCtx(t), "b1", kindEcho+9, nil, bytes.NewReader(data)); !errors.Is(err, ErrNoHandler) {
				t.Fatalf("unknown stream: %v", err)
			}
			ctx, cancel := context.WithCancel(testCtx(t))
			cancel()
			if err := c.SendStream(ctx, "b1", kindEcho, nil, endless); !errors.Is(err, context.Canceled) {
				t.Fatalf("cancelled stream: %v", err)
			}
		})
	}
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) { clear(p); return len(p), nil }
