package object

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"bivalve/erasure"
	"bivalve/metadata"
)

// cutWriter is a client that pauses here and there, until it is cut off.
type cutWriter struct {
	writerFunc
	cut  chan struct{}
	once sync.Once
}

func (w *cutWriter) Interrupt() { w.once.Do(func() { close(w.cut) }) }

// TestStreamBytes: any range of a version of several parts, read in any way with pauses
// anywhere, while reads fail, others wait for room and slow clients have their share: the
// bytes are those of the version, all of them unless an error says otherwise, and nothing
// stays lent.
func TestStreamBytes(t *testing.T) {
	seeds := uint64(120)
	if testing.Short() {
		seeds = 30
	}
	for _, geo := range []erasure.Geometry{{K: 1}, {K: 2, M: 1}, {K: 3, M: 1}, {K: 4, M: 1}} {
		t.Run(fmt.Sprintf("%d+%d", geo.K, geo.M), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := newRig(t, geo, budget(minBudget))
				var v metadata.Version
				var data []byte
				for i, n := range []int{chunk + 300_001, 70_000, 2*chunk - 1, 25_000, chunk, 1 << 20} {
					d := pattern(n, uint64(i))
					v.Parts = append(v.Parts, r.mustPut(fmt.Sprint("part", i), d).Parts[0])
					data = append(data, d...)
				}
				v.Bytes = int64(len(data))
				told := map[string]int{}
				for seed := range seeds {
					told[r.readAnyhow(v, data, uint64(geo.K)<<32|seed)]++
					r.settled()
				}
				t.Log(told)
				if told["whole"] < int(seeds)/3 {
					t.Error("most were not served")
				}
			})
		})
	}
}

// readAnyhow reads a range of v as the seed says, and tells what came of it.
func (r *rig) readAnyhow(v metadata.Version, data []byte, seed uint64) string {
	t := r.t
	rnd := rand.New(rand.NewPCG(seed, uint64(len(v.Parts))))
	off := rnd.Int64N(v.Bytes)
	n := rnd.Int64N(v.Bytes-off) + 1
	if rnd.IntN(3) == 0 {
		n = min(n, rnd.Int64N(600_000)+1)
	}
	if rnd.IntN(2) == 0 {
		r.waiters.Add(1)
		defer r.waiters.Add(-1)
	}
	if most := int64(minBudget - 10<<20); rnd.IntN(3) == 0 && r.budget.TryAcquire(most) {
		defer r.budget.Release(most)
	}
	const share = minBudget * readersShare / 16
	release := func() {}
	if rnd.IntN(4) == 0 && r.slowReads.TryAcquire(share) {
		release = sync.OnceFunc(func() { r.slowReads.Release(share) })
	}
	defer release()
	if rnd.IntN(4) == 0 {
		var mu sync.Mutex
		faults := rand.New(rand.NewPCG(seed, 99))
		r.shards.setHook(func(ctx context.Context, c call) (bool, error) {
			mu.Lock()
			k := faults.IntN(20)
			mu.Unlock()
			switch {
			case c.op != opRead || k > 2:
			case k > 0:
				return false, errors.New("broken")
			default:
				return late(ctx, 700*time.Millisecond)
			}
			return true, nil
		})
		defer r.shards.setHook(nil)
	}
	rd, err := r.OpenObject(t.Context(), v, off, n)
	if err != nil {
		return "not opened"
	}
	var got bytes.Buffer
	cut := make(chan struct{})
	pause := func() bool {
		if rnd.IntN(8) == 0 {
			select {
			case <-time.After(time.Duration(1+rnd.IntN(3000)) * time.Millisecond):
			case <-cut:
				return false
			}
		}
		if rnd.IntN(6) == 0 {
			release()
		}
		return true
	}
	switch rnd.IntN(3) {
	case 0:
		for p := make([]byte, rnd.IntN(400_000)+1); err == nil; pause() {
			var m int
			m, err = rd.Read(p)
			got.Write(p[:m])
		}
		if err == io.EOF {
			err = nil
		}
	case 1:
		stop := rnd.Int64N(2 * n)
		_, err = io.Copy(writerFunc(func(p []byte) (int, error) {
			pause()
			if got.Write(p); int64(got.Len()) > stop {
				return len(p), errCut
			}
			return len(p), nil
		}), rd)
	default:
		_, err = io.Copy(&cutWriter{cut: cut, writerFunc: func(p []byte) (int, error) {
			for i := 0; i < len(p); {
				m := min(len(p)-i, 100_000)
				if !pause() {
					return i, errCut
				}
				got.Write(p[i : i+m])
				i += m
			}
			return len(p), nil
		}}, rd)
	}
	if err := rd.Close(); err != nil {
		t.Error(err)
	}
	if !bytes.HasPrefix(data[off:off+n], got.Bytes()) || err == nil && int64(got.Len()) != n {
		t.Errorf("seed %d: [%d, +%d): %d bytes, %v", seed, off, n, got.Len(), err)
	}
	switch {
	case err == nil:
		return "whole"
	case errors.Is(err, ErrBusy):
		return "busy"
	case errors.Is(err, errCut):
		return "stopped or cut off"
	}
	return "failed"
}
