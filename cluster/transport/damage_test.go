package transport

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"bivalve/cluster"
)

// flipper is a proxy that flips one bit of every stretch of bytes once armed.
type flipper struct {
	ln    net.Listener
	to    string
	armed atomic.Bool
	every int
	wg    sync.WaitGroup
}

func newFlipper(t *testing.T, to string, every int) *flipper {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	f := &flipper{ln: ln, to: to, every: every}
	f.wg.Go(func() {
		for {
			in, err := ln.Accept()
			if err != nil {
				return
			}
			out, err := net.Dial("tcp", to)
			if err != nil {
				_ = in.Close()
				continue
			}
			f.wg.Go(func() { f.copy(out, in) })
			f.wg.Go(func() { f.copy(in, out) })
		}
	})
	t.Cleanup(func() { _ = ln.Close(); f.wg.Wait() })
	return f
}

func (f *flipper) copy(dst, src net.Conn) {
	defer func() { _ = dst.Close(); _ = src.Close() }()
	buf, seen := make([]byte, 32<<10), 0
	for {
		n, err := src.Read(buf)
		for i := range n {
			if seen++; f.armed.Load() && seen%f.every == 0 {
				buf[i] ^= 1 << (seen / f.every % 8)
			}
		}
		if _, e := dst.Write(buf[:n]); err != nil || e != nil {
			return
		}
	}
}

// F39: bytes corrupted in flight are rejected, never handed on.
func TestDamagedBytesAreRejected(t *testing.T) {
	for _, mode := range []EncryptMode{EncryptAuto, EncryptOn} {
		t.Run(string(mode), func(t *testing.T) {
			ca := newTestCA(t, "test")
			want := randomBytes(10000)
			var mu sync.Mutex
			wrong := 0
			check := func(ok bool) {
				mu.Lock()
				defer mu.Unlock()
				if !ok {
					wrong++
				}
			}
			mem := newMemShards(cluster.DiskID{1})
			s := serve(t, Config{Identity: ca.identity("b1", time.Now()), Encrypt: mode}, "127.0.0.1:0", func(s *Server) {
				s.HandleShards(mem)
				s.Handle(kindEcho, func(ctx context.Context, r *Request) (Answer, error) {
					check(bytes.Equal(r.Body, want) && string(r.Head) == "head")
					return echo(ctx, r)
				})
				s.HandleMeta(func(_ context.Context, _ cluster.NodeID, _ uint8, body []byte) ([]byte, error) {
					check(bytes.Equal(body, want))
					return body, nil
				})
				s.HandleRaft(func(_ cluster.NodeID, payload []byte) { check(bytes.Equal(payload, want)) })
				s.HandleStream(kindEcho, func(_ context.Context, _ cluster.NodeID, _ []byte, r io.Reader) error {
					got, err := io.ReadAll(r)
					check(err != nil || bytes.Equal(got, want))
					return err
				})
			})
			damaged := 0
			for every := 601; every < 9000; every += 531 {
				f := newFlipper(t, s.addr, every)
				c := client(t, Config{Identity: ca.identity("a1", time.Now()), Encrypt: mode, Limits: Limits{DownFor: time.Nanosecond}}, f.ln.Addr().String())
				ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
				for i := range 4 { // the first opens the connections unharmed
					f.armed.Store(i > 0)
					r, err := c.Call(ctx, "b1", Call{Kind: kindEcho, Head: []byte("head"), Body: [][]byte{want}})
					check(err != nil || (bytes.Equal(r.Body, want) && string(r.Head) == "head"))
					b, err2 := c.CallMeta(ctx, "b1", 3, want)
					check(err2 != nil || bytes.Equal(b, want))
					c.SendRaft("b1", [][]byte{want})
					errs := Shards{Client: c}.AppendShards(ctx, "b1", 1, []cluster.DiskID{{1}}, []cluster.Shard{testShard(uint32(i), want)})
					if i > 0 && (err != nil || err2 != nil || errs[0] != nil) {
						damaged++
					}
					if i == 0 {
						must(t, errors.Join(err, err2, errs[0]))
					}
				}
				_ = c.SendStream(ctx, "b1", kindEcho, nil, bytes.NewReader(want)) // damaged or not: checked above
				cancel()
			}
			mu.Lock()
			defer mu.Unlock()
			if wrong > 0 || damaged == 0 {
				t.Fatalf("%d wrong messages were handed on, %d calls noticed damage", wrong, damaged)
			}
			mem.mu.Lock()
			defer mem.mu.Unlock()
			for k, sh := range mem.disks[cluster.DiskID{1}] {
				if !bytes.Equal(sh.Payload, want) {
					t.Fatalf("%s was stored damaged", k)
				}
			}
		})
	}
}

// Every byte of a header counts, magic and version included.
func TestEveryHeaderByteIsChecked(t *testing.T) {
	var b [headerBytes]byte
	h := header{Type: frameRequest, Kind: kindAppend, HeadLen: 5, BodyLen: 6, TimeoutMs: 7, ID: 8, Epoch: 9}
	h.put(b[:])
	if got, err := parseHeader(b[:]); err != nil || got != h {
		t.Fatalf("got %+v, %v", got, err)
	}
	for i := range b {
		for bit := range 8 {
			b[i] ^= 1 << bit
			if _, err := parseHeader(b[:]); !errors.Is(err, ErrFrame) {
				t.Fatalf("byte %d bit %d: %v", i, bit, err)
			}
			b[i] ^= 1 << bit
		}
	}
	for _, bad := range []header{
		{Type: 0}, {Type: 99}, {Type: frameRequest, Flags: 1 << 9},
		{Type: frameRequest, HeadLen: MaxHeadBytes + 1}, {Type: frameRequest, BodyLen: MaxBodyBytes + 1},
		{Type: frameRequest, Kind: kindMeta + 5, BodyLen: MaxMetaBytes + 1},
		{Type: frameMessage, Kind: kindRaft, BodyLen: MaxMetaBytes + 1},
		{Type: frameChunk, BodyLen: MaxStreamBytes + 1}, {Type: frameHello, BodyLen: 1},
	} {
		bad.put(b[:])
		if _, err := parseHeader(b[:]); !errors.Is(err, ErrFrame) {
			t.Errorf("%+v: %v", bad, err)
		}
	}
}

func FuzzFrame(f *testing.F) {
	frame := func(t testing.TB, h header, head, body []byte) []byte {
		var out bytes.Buffer
		c := &conn{raw: bufConn{w: &out}}
		must(t, c.writeFrame(h, head, [][]byte{body}))
		return out.Bytes()
	}
	f.Add(frame(f, header{Type: frameRequest, Kind: kindEcho}, []byte("head"), []byte("body")))
	f.Add(frame(f, header{Type: frameMessage, Kind: kindRaft}, nil, []byte("vote")))
	f.Add(frame(f, header{Type: frameHello}, nil, nil))
	f.Fuzz(func(t *testing.T, in []byte) {
		c := &conn{br: bufio.NewReaderSize(bytes.NewReader(in), readBufferBytes)}
		h, err := c.readHeader()
		if err != nil {
			return
		}
		head, err := c.readHead(h)
		if err != nil || h.BodyLen > 1<<20 {
			return
		}
		body := make([]byte, h.BodyLen)
		if c.readBody(h, [][]byte{body}) != nil {
			return
		}
		if again := frame(t, h, head, body); h.Flags&^flagBodySum == 0 && !bytes.Equal(again, in[:len(again)]) {
			t.Fatalf("frame %x was read from %x", again, in)
		}
	})
}

// bufConn is a connection that only writes.
type bufConn struct {
	net.Conn
	w io.Writer
}

func (b bufConn) Write(p []byte) (int, error) { return b.w.Write(p) }
