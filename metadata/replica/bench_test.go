package replica

import (
	"context"
	"fmt"
	"io"
	"path/filepath"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	bolt "go.etcd.io/bbolt"
	"golang.org/x/sync/errgroup"
)

// countingSM applies nothing: the benchmark is about the engine.
type countingSM struct {
	mu          sync.Mutex
	at, durable Applied
}

func (m *countingSM) ApplyBatch(es []Entry, conf []byte) ([][]byte, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	last := es[len(es)-1]
	m.at.Index, m.at.Term = last.Index, last.Term
	if conf != nil {
		m.at.ConfState = conf
	}
	return make([][]byte, len(es)), nil
}
func (m *countingSM) Query([]byte) ([]byte, error)              { return nil, nil }
func (m *countingSM) Applied() Applied                          { return m.at }
func (m *countingSM) Durable() Applied                          { return m.durable }
func (m *countingSM) Flush() (Applied, error)                   { m.durable = m.at; return m.at, nil }
func (m *countingSM) StreamSnapshot(io.Writer) (Applied, error) { return m.durable, nil }
func (m *countingSM) InstallSnapshot(string) (Applied, error)   { return Applied{}, ErrBadSnapshot }
func (m *countingSM) Close() error                              { return nil }

func cpuTime(b *testing.B) time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// BenchmarkPropose: five hosts in this process, synced bbolt logs on one disk, 64
// callers at the leaders, entries of 300 bytes.
func BenchmarkPropose(b *testing.B) {
	for _, groups := range []int{1, 4, 16} {
		b.Run(fmt.Sprintf("G=%d", groups), func(b *testing.B) {
			r := benchRegion(b, groups)
			defer r.close()
			lead := make([]*Host, groups)
			for g := range groups {
				lead[g] = r.node(r.leader(GroupID(g))).host
			}
			data := make([]byte, 300)
			var next atomic.Int64
			var lost atomic.Int64
			began := cpuTime(b)
			b.ResetTimer()
			var eg errgroup.Group
			for range 64 {
				eg.Go(func() error {
					for {
						i := next.Add(1)
						if i > int64(b.N) {
							return nil
						}
						g := int(i) % groups
						if _, err := lead[g].Propose(context.Background(), GroupID(g), data); err != nil {
							lost.Add(1) // a leader that changed shows here
						}
					}
				})
			}
			if err := eg.Wait(); err != nil {
				b.Fatal(err)
			}
			b.StopTimer()
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "writes/s")
			b.ReportMetric(float64((cpuTime(b)-began).Microseconds())/float64(b.N), "cpu-us/write")
			b.ReportMetric(float64(lost.Load()), "failed")
		})
	}
}

func benchRegion(b *testing.B, groups int) *region {
	return newRegionWith(b, 5, groups, 50*time.Millisecond, func(string) func(GroupID) (StateMachine, error) {
		return func(GroupID) (StateMachine, error) { return &countingSM{}, nil }
	})
}

// BenchmarkIdle: what five hosts with nothing to do cost, in per cent of a core.
func BenchmarkIdle(b *testing.B) {
	r := benchRegion(b, 16)
	defer r.close()
	for g := range 16 {
		r.leader(GroupID(g))
	}
	began, t := cpuTime(b), time.Now()
	for range b.N {
		<-time.After(3 * time.Second) // the clock is what is measured
	}
	b.ReportMetric(100*float64(cpuTime(b)-began)/float64(time.Since(t)), "cpu-%")
}

// BenchmarkRead: linearizable reads at a follower, 64 callers.
func BenchmarkRead(b *testing.B) {
	r := benchRegion(b, 1)
	defer r.close()
	h := r.node(r.leader(0)%5 + 1).host
	b.ResetTimer()
	b.SetParallelism(32)
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			if err := h.ReadIndex(context.Background(), 0); err != nil {
				b.Error(err)
			}
		}
	})
}

// BenchmarkSync: one small synced bbolt transaction, the floor under all this.
func BenchmarkSync(b *testing.B) {
	db, err := bolt.Open(filepath.Join(b.TempDir(), "x.db"), 0o600, nil)
	if err != nil {
		b.Fatal(err)
	}
	defer db.Close()
	for i := range b.N {
		if err := db.Update(func(tx *bolt.Tx) error {
			bk, err := tx.CreateBucketIfNotExists([]byte("x"))
			if err != nil {
				return err
			}
			return bk.Put(fmt.Appendf(nil, "%08d", i%1000), make([]byte, 300))
		}); err != nil {
			b.Fatal(err)
		}
	}
}
