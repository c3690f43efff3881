package transport

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"net/http"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"bivalve/cluster"
)

const (
	benchCallers = 8
	benchPeers   = 10
)

// cpu is what both ends have used, for both are this process.
func cpu(b *testing.B) time.Duration {
	var u syscall.Rusage
	must(b, syscall.Getrusage(syscall.RUSAGE_SELF, &u))
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// drive makes b.N calls from 8 callers, each to all peers in turn, and reports
// the processor time of both ends for one message.
func drive(b *testing.B, size int, call func(caller, peer int) error) {
	b.SetBytes(int64(size))
	var next atomic.Int64
	errs := make(chan error, benchCallers)
	for c := range benchCallers { // open the connections beforehand
		for p := range benchPeers {
			must(b, call(c, p))
		}
	}
	before := cpu(b)
	b.ResetTimer()
	for c := range benchCallers {
		go func() {
			for {
				i := next.Add(1)
				if i > int64(b.N) {
					errs <- nil
					return
				}
				if err := call(c, int(i)%benchPeers); err != nil {
					errs <- err
					return
				}
			}
		}()
	}
	for range benchCallers {
		must(b, <-errs)
	}
	b.StopTimer()
	b.ReportMetric(float64((cpu(b)-before).Microseconds())/float64(b.N), "cpu-us/msg")
}

// discardShards takes shards and forgets them: the transport alone is measured.
type discardShards struct{ ShardHandler }

func (discardShards) AppendShards(_ context.Context, _ cluster.Epoch, _ []cluster.DiskID, s []cluster.Shard) []error {
	return make([]error, len(s))
}

// BenchmarkAppend is the way of a shard: 8 callers to 10 nodes over loopback.
// Beside it, for the ratio on the same machine at the same time, a bare write and
// read on a connection, and HTTP/1.1.
func BenchmarkAppend(b *testing.B) {
	for _, size := range []int{1 << 20, 16 << 10, 1 << 10} {
		payload := randomBytes(size)
		b.Run(fmt.Sprintf("bare/%d", size), func(b *testing.B) { benchBare(b, payload) })
		b.Run(fmt.Sprintf("framed/%d", size), func(b *testing.B) { benchFramed(b, payload, EncryptAuto) })
		b.Run(fmt.Sprintf("framed+tls/%d", size), func(b *testing.B) { benchFramed(b, payload, EncryptOn) })
		b.Run(fmt.Sprintf("http/%d", size), func(b *testing.B) { benchHTTP(b, payload) })
	}
}

func benchFramed(b *testing.B, payload []byte, mode EncryptMode) {
	ca := newTestCA(b, "bench")
	var addrs [benchPeers]string
	for i := range benchPeers {
		id := cluster.NodeID(fmt.Sprintf("b%d", i))
		addrs[i] = serve(b, Config{Identity: ca.identity(id, time.Now()), Encrypt: mode}, "127.0.0.1:0",
			func(s *Server) { s.HandleShards(discardShards{}) }).addr
	}
	c, err := NewClient(Config{
		Identity: ca.identity("a1", time.Now()), Encrypt: mode,
		Addr: func(n cluster.NodeID) (string, bool) { return addrs[n[1]-'0'], true },
	})
	must(b, err)
	defer func() { must(b, c.Close()) }()
	shards, disks := []cluster.Shard{testShard(0, payload)}, []cluster.DiskID{{1}}
	ctx := context.Background()
	drive(b, len(payload), func(_, peer int) error {
		return (Shards{Client: c}).AppendShards(ctx, cluster.NodeID(rune('b'))+cluster.NodeID(rune('0'+peer)), 1, disks, shards)[0]
	})
}

// benchBare sends length and payload and waits for 8 bytes: the least there is.
func benchBare(b *testing.B, payload []byte) {
	var conns [benchCallers][benchPeers]net.Conn
	for p := range benchPeers {
		ln, err := net.Listen("tcp", "127.0.0.1:0")
		must(b, err)
		defer func() { must(b, ln.Close()) }()
		go func() {
			for {
				c, err := ln.Accept()
				if err != nil {
					return
				}
				go func() {
					buf := make([]byte, 8+len(payload))
					for {
						if _, err := io.ReadFull(c, buf); err != nil {
							_ = c.Close()
							return
						}
						if _, err := c.Write(buf[:8]); err != nil {
							return
						}
					}
				}()
			}
		}()
		for i := range benchCallers {
			conns[i][p], err = net.Dial("tcp", ln.Addr().String())
			must(b, err)
			defer func() { _ = conns[i][p].Close() }()
		}
	}
	drive(b, len(payload), func(caller, peer int) error {
		var head [8]byte
		binary.LittleEndian.PutUint64(head[:], uint64(len(payload)))
		v := net.Buffers{head[:], payload}
		if _, err := v.WriteTo(conns[caller][peer]); err != nil {
			return err
		}
		_, err := io.ReadFull(conns[caller][peer], head[:])
		return err
	})
}

func benchHTTP(b *testing.B, payload []byte) {
	var urls [benchPeers]string
	for p := range benchPeers {
		ln, err := net.Listen("tcp", "127.0.0.1:0")
		must(b, err)
		buffers := NewBuffers()
		srv := &http.Server{ReadHeaderTimeout: time.Second, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			buf := buffers.Get(int(r.ContentLength))
			defer buffers.Put(buf)
			if _, err := io.ReadFull(r.Body, buf); err != nil {
				b.Error(err)
			}
		})}
		go func() { _ = srv.Serve(ln) }() // ends with Close
		defer func() { must(b, srv.Close()) }()
		urls[p] = "http://" + ln.Addr().String()
	}
	tr := &http.Transport{MaxIdleConnsPerHost: benchCallers, WriteBufferSize: 64 << 10}
	defer tr.CloseIdleConnections()
	hc := &http.Client{Transport: tr}
	drive(b, len(payload), func(_, peer int) error {
		r, err := hc.Post(urls[peer], "application/octet-stream", bytes.NewReader(payload))
		if err != nil {
			return err
		}
		_, err = io.Copy(io.Discard, r.Body)
		_ = r.Body.Close() // read to its end
		return err
	})
}
