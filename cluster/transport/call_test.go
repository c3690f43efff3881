package transport

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"bivalve/cluster"
)

func randomBytes(n int) []byte {
	r := rand.NewChaCha8([32]byte{1})
	b := make([]byte, n)
	_, _ = r.Read(b)
	return b
}

func TestRoundTrip(t *testing.T) {
	for _, mode := range []EncryptMode{EncryptAuto, EncryptOn, EncryptOff} {
		t.Run(string(mode), func(t *testing.T) {
			var plain atomic.Bool
			c, _ := pair(t, Config{Encrypt: mode}, func(s *Server) {
				s.Handle(kindEcho, func(ctx context.Context, r *Request) (Answer, error) {
					plain.Store(r.Plain)
					if r.From != "a1" {
						t.Errorf("call from %q", r.From)
					}
					return echo(ctx, r)
				})
			})
			for _, n := range []int{0, 1, 1000, copyBelow, copyBelow + 1, 1 << 20, MaxBodyBytes} {
				head, body := randomBytes(n%1000), randomBytes(n)
				dst := make([]byte, n)
				r, err := c.Call(testCtx(t), "b1", Call{
					Kind: kindEcho, Epoch: 7, Head: head, Body: [][]byte{body[:n/3], body[n/3:]},
					Dst: func(n int) []byte { return dst[:n] },
				})
				must(t, err)
				if r.Epoch != 8 || !bytes.Equal(r.Head, head) || !bytes.Equal(dst, body) {
					t.Fatalf("%d bytes came back changed", n)
				}
				if plain.Load() != (mode != EncryptOn) {
					t.Fatalf("plain is %v in mode %s", plain.Load(), mode)
				}
			}
		})
	}
}

func TestLimitsAreChecked(t *testing.T) {
	c, _ := pair(t, Config{}, func(s *Server) { s.Handle(kindEcho, echo) })
	for _, call := range []Call{
		{Kind: kindEcho, Head: make([]byte, MaxHeadBytes+1)},
		{Kind: kindEcho, Body: [][]byte{make([]byte, MaxBodyBytes), {1}}},
		{Kind: kindMeta, Pool: PoolMeta, Body: [][]byte{make([]byte, MaxMetaBytes+1)}},
		{Kind: kindEcho, Pool: poolRaft},
	} {
		if _, err := c.Call(testCtx(t), "b1", call); !errors.Is(err, cluster.ErrInvalid) {
			t.Errorf("got %v, want ErrInvalid", err)
		}
	}
	if _, err := c.Call(testCtx(t), "b1", Call{Kind: kindBlock, Body: [][]byte{{1}}}); !errors.Is(err, ErrNoHandler) {
		t.Errorf("got %v, want ErrNoHandler", err)
	}
	_, err := c.Call(testCtx(t), "b1", Call{Kind: kindEcho, Body: [][]byte{{1}}, Dst: func(int) []byte { return nil }})
	if !errors.Is(err, ErrFrame) {
		t.Errorf("refused body: %v", err)
	}
}

func TestErrorsCrossByKind(t *testing.T) {
	mine := errors.New("mine")
	var send error
	c, _ := pair(t, Config{Errors: map[uint16]error{1000: mine}}, func(s *Server) {
		s.Handle(kindEcho, func(context.Context, *Request) (Answer, error) { return Answer{}, send })
	})
	all := builtinErrors()
	all[1000] = mine
	for code, want := range all {
		send = fmt.Errorf("disk d7: append shard 4: %w", want)
		_, err := c.Call(testCtx(t), "b1", Call{Kind: kindEcho})
		var remote *RemoteError
		if !errors.Is(err, want) || !errors.As(err, &remote) || remote.Text != send.Error() || remote.Node != "b1" {
			t.Errorf("code %d: got %v, want %v", code, err, want)
		}
		for other, e := range all {
			if other != code && errors.Is(err, e) {
				t.Errorf("%v arrived as %v too", want, e)
			}
		}
	}
	send = fmt.Errorf("%w and %w", cluster.ErrNotFound, cluster.ErrDiskFull)
	if _, err := c.Call(testCtx(t), "b1", Call{Kind: kindEcho}); !errors.Is(err, cluster.ErrNotFound) || !errors.Is(err, cluster.ErrDiskFull) {
		t.Errorf("joined errors: %v", err)
	}
	if _, err := newErrorCodec(map[uint16]error{3: mine}); err == nil {
		t.Error("a builtin code was taken")
	}
}

func TestMeta(t *testing.T) {
	c, _ := pair(t, Config{Encrypt: EncryptOn}, func(s *Server) {
		s.HandleMeta(func(_ context.Context, from cluster.NodeID, method uint8, body []byte) ([]byte, error) {
			if method == 9 {
				return nil, cluster.ErrOverloaded
			}
			return append([]byte{method}, body...), nil
		})
	})
	for _, call := range []func(context.Context, cluster.NodeID, uint8, []byte) ([]byte, error){c.CallMeta, c.CallMetaAgain} {
		got, err := call(testCtx(t), "b1", 255, []byte("x"))
		must(t, err)
		if string(got) != "\xffx" {
			t.Fatalf("got %q", got)
		}
		if _, err := call(testCtx(t), "b1", 9, nil); !errors.Is(err, cluster.ErrOverloaded) {
			t.Fatalf("got %v", err)
		}
	}
}

func TestCancelEndsACall(t *testing.T) {
	entered, ended := make(chan bool, 1), make(chan bool, 1)
	c, _ := pair(t, Config{}, func(s *Server) {
		s.Handle(kindEcho, echo)
		s.Handle(kindBlock, func(ctx context.Context, _ *Request) (Answer, error) {
			entered <- true
			<-ctx.Done() // the deadline travels with the call
			ended <- true
			return Answer{}, ctx.Err()
		})
	})
	ctx, cancel := context.WithTimeout(testCtx(t), 300*time.Millisecond)
	defer cancel()
	errs := make(chan error, 1)
	go func() {
		_, err := c.Call(ctx, "b1", Call{Kind: kindBlock})
		errs <- err
	}()
	recv(t, entered, "call")
	cancel()
	if err := recv(t, errs, "cancelled call"); !errors.Is(err, context.Canceled) || !errors.Is(err, cluster.ErrUnreachable) || errors.Is(err, ErrNotSent) {
		t.Fatalf("got %v", err)
	}
	recv(t, ended, "end of the handler")
	_, err := c.Call(testCtx(t), "b1", Call{Kind: kindEcho})
	must(t, err)
}

func TestUnreachableAtOnce(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	addr := ln.Addr().String()
	must(t, ln.Close())
	ca := newTestCA(t, "test")
	c := client(t, Config{Identity: ca.identity("a1", time.Now()), Limits: Limits{DownFor: time.Hour}}, addr)
	for i := range 3 { // the first dials, the others fail fast
		if _, err := c.Call(testCtx(t), "b1", Call{Kind: kindEcho}); !errors.Is(err, cluster.ErrUnreachable) || !errors.Is(err, ErrNotSent) {
			t.Fatalf("call %d: %v", i, err)
		}
	}
	c = client(t, Config{Identity: ca.identity("a1", time.Now())}, "")
	if _, err := c.Call(testCtx(t), "b1", Call{Kind: kindEcho}); !errors.Is(err, cluster.ErrUnreachable) {
		t.Fatalf("no address: %v", err)
	}
}

func TestGateLetsOneProbe(t *testing.T) {
	var g gate
	t0 := time.Unix(1000, 0)
	must(t, g.enter(t0))
	must(t, g.enter(t0)) // not known to be down: all may dial
	g.leave(errors.New("refused"), false, t0.Add(time.Second))
	if g.enter(t0) == nil {
		t.Fatal("dialled while known to be down")
	}
	must(t, g.enter(t0.Add(time.Second)))
	if g.enter(t0.Add(time.Second)) == nil {
		t.Fatal("two probes at once")
	}
	g.leave(context.Canceled, true, t0.Add(time.Hour))
	must(t, g.enter(t0.Add(time.Second))) // a caller that gave up proved nothing
	g.leave(nil, false, time.Time{})
	must(t, g.enter(t0))
	must(t, g.enter(t0))
}

func TestServerRestart(t *testing.T) {
	ca := newTestCA(t, "test")
	cfg := Config{Identity: ca.identity("b1", time.Now())}
	setup := func(s *Server) { s.Handle(kindEcho, echo) }
	s := serve(t, cfg, "127.0.0.1:0", setup)
	c := client(t, Config{Identity: ca.identity("a1", time.Now())}, s.addr)
	for _, idempotent := range []bool{true, false} {
		_, err := c.Call(testCtx(t), "b1", Call{Kind: kindEcho, Idempotent: idempotent})
		must(t, err)
		s.stop()
		s = serve(t, cfg, s.addr, setup)
		// The pooled connection is dead; nobody is to notice.
		_, err = c.Call(testCtx(t), "b1", Call{Kind: kindEcho, Idempotent: idempotent})
		must(t, err)
	}
}

func TestPoolIsBounded(t *testing.T) {
	entered, release := make(chan bool, 8), make(chan bool)
	c, s := pair(t, Config{Limits: Limits{ConnsPerPool: 2}}, func(s *Server) {
		s.Handle(kindBlock, func(context.Context, *Request) (Answer, error) {
			entered <- true
			<-release
			return Answer{}, nil
		})
		s.HandleMeta(func(context.Context, cluster.NodeID, uint8, []byte) ([]byte, error) { return nil, nil })
	})
	var wg sync.WaitGroup
	for range 2 {
		wg.Go(func() {
			if _, err := c.Call(testCtx(t), "b1", Call{Kind: kindBlock}); err != nil {
				t.Error(err)
			}
		})
		recv(t, entered, "call")
	}
	ctx, cancel := context.WithTimeout(testCtx(t), 30*time.Millisecond)
	defer cancel()
	_, err := c.Call(ctx, "b1", Call{Kind: kindBlock})
	if !errors.Is(err, cluster.ErrOverloaded) || !errors.Is(err, context.DeadlineExceeded) {
		t.Fatalf("third call: %v", err)
	}
	_, err = c.CallMeta(testCtx(t), "b1", 1, nil) // a pool of its own
	must(t, err)
	close(release)
	wg.Wait()
	s.mu.Lock()
	defer s.mu.Unlock()
	if n := s.held[holdings{"a1", PoolShards}]; n > 2 {
		t.Fatalf("%d connections", n)
	}
}

func TestDrainFinishesCalls(t *testing.T) {
	entered, release := make(chan bool, 1), make(chan bool)
	c, s := pair(t, Config{}, func(s *Server) {
		s.Handle(kindBlock, func(context.Context, *Request) (Answer, error) {
			entered <- true
			<-release
			return Answer{Head: []byte("done")}, nil
		})
	})
	errs := make(chan error, 1)
	go func() {
		_, err := c.Call(testCtx(t), "b1", Call{Kind: kindBlock})
		errs <- err
	}()
	recv(t, entered, "call")
	stopped := make(chan bool)
	go func() { s.stop(); close(stopped) }()
	eventually(t, "draining", s.draining.Load)
	close(release)
	must(t, recv(t, errs, "answer"))
	recv(t, stopped, "end of Serve")
}

func TestCloseEndsCalls(t *testing.T) {
	entered := make(chan bool, 1)
	c, _ := pair(t, Config{Limits: Limits{DrainTimeout: time.Millisecond}}, func(s *Server) {
		s.Handle(kindBlock, func(ctx context.Context, _ *Request) (Answer, error) {
			entered <- true
			<-ctx.Done()
			return Answer{}, ctx.Err()
		})
	})
	errs := make(chan error, 1)
	go func() {
		_, err := c.Call(testCtx(t), "b1", Call{Kind: kindBlock})
		errs <- err
	}()
	recv(t, entered, "call")
	must(t, c.Close())
	must(t, c.Close())
	if err := recv(t, errs, "end of the call"); !errors.Is(err, cluster.ErrUnreachable) {
		t.Fatalf("got %v", err)
	}
	if _, err := c.Call(testCtx(t), "b1", Call{Kind: kindEcho}); !errors.Is(err, ErrClosed) {
		t.Fatalf("got %v", err)
	}
	if c.SendRaft("b1", [][]byte{{1}}) {
		t.Fatal("sent after Close")
	}
}

// TestSentTwiceIsSent: that the second try of a call was not sent says nothing of the
// first, which went out on a connection that broke.
func TestSentTwiceIsSent(t *testing.T) {
	got := make(chan bool, 1)
	c, s := pair(t, Config{Limits: Limits{DrainTimeout: time.Millisecond}}, func(s *Server) {
		s.Handle(kindEcho, echo)
		s.Handle(kindBlock, func(ctx context.Context, _ *Request) (Answer, error) {
			got <- true
			<-ctx.Done()
			return Answer{}, ctx.Err()
		})
	})
	_, err := c.Call(testCtx(t), "b1", Call{Kind: kindEcho}) // leaves a connection to use again
	must(t, err)
	errs := make(chan error, 1)
	go func() {
		_, err := c.Call(testCtx(t), "b1", Call{Kind: kindBlock, Idempotent: true})
		errs <- err
	}()
	recv(t, got, "call")
	s.stop() // it ends what is under way, and nobody answers any more
	if err := recv(t, errs, "end of the call"); err == nil || errors.Is(err, ErrNotSent) {
		t.Fatalf("got %v", err)
	}
}

// A connection serves the next call however long ago the deadline of the last one was.
func TestOldDeadlineEndsNoConnection(t *testing.T) {
	c, _ := pair(t, Config{}, func(s *Server) { s.Handle(kindEcho, echo) })
	open := func() (conns []*conn) {
		c.mu.Lock()
		defer c.mu.Unlock()
		for cn := range c.conns {
			conns = append(conns, cn)
		}
		return conns
	}
	ctx, cancel := context.WithTimeout(testCtx(t), 2*checkAfter)
	defer cancel()
	call := Call{Kind: kindEcho, Body: [][]byte{[]byte("x")}}
	_, err := c.Call(ctx, "b1", call)
	must(t, err)
	first := open()
	<-ctx.Done()
	_, err = c.Call(testCtx(t), "b1", call)
	must(t, err)
	if now := open(); !slices.Equal(first, now) {
		t.Errorf("the connection is another one: %p, was %p", now, first)
	}
}
