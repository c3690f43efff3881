package object

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"bivalve/cluster"
	"bivalve/erasure"
)

// TestBudget: whatever many requests do at once, the memory lent to them stays
// within the budget, and all of them come to an end.
func TestBudget(t *testing.T) {
	for _, geo := range costly(erasure.Geometry{K: 1}, erasure.Geometry{K: 2, M: 1}, erasure.Geometry{K: 4, M: 1}) {
		t.Run(fmt.Sprintf("%d+%d", geo.K, geo.M), func(t *testing.T) {
			r := newRig(t, geo, budget(minBudget), with(func(c *Config) { c.BudgetWait = time.Minute }))
			data := pattern(2*chunk+70_000, 1)
			near, far := r.putInto(zoneA, data), r.putInto(zoneB, data)
			r.buffers.peak = 0
			var wg sync.WaitGroup
			for i := range 12 {
				wg.Go(func() {
					if _, err := r.put(fmt.Sprint("p", i), data); err != nil {
						t.Error(err)
					}
				})
				wg.Go(func() {
					v := near
					if i%2 == 0 {
						v = far
					}
					if got, err := r.get(v, int64(i), v.Bytes-int64(i)); err != nil || !bytes.Equal(got, data[i:]) {
						t.Errorf("%d bytes, %v", len(got), err)
					}
				})
			}
			wg.Wait()
			if r.buffers.peak > minBudget {
				t.Errorf("%d bytes were lent, the budget is %d", r.buffers.peak, int64(minBudget))
			}
			if r.buffers.peak < minBudget/4 {
				t.Errorf("only %d bytes were lent at most: the requests did not meet", r.buffers.peak)
			}
			r.settled()
		})
	}
}

// TestBudgetWithLosses: reads that have to turn to other shards half way take
// room for them too.
func TestBudgetWithLosses(t *testing.T) {
	geo := erasure.Geometry{K: 4, M: 1}
	r := newRig(t, geo, budget(minBudget), with(func(c *Config) { c.BudgetWait = time.Minute }))
	data := pattern(2*chunk, 1)
	v := r.putInto(zoneA, data)
	for c := range uint32(2) {
		for _, i := range []int{0, 2, 4} {
			r.shards.damage(r.of(v, c)[i], func(s *stored) { s.payload[0] ^= 1 })
		}
	}
	r.buffers.peak = 0
	var wg sync.WaitGroup
	for range 10 {
		wg.Go(func() {
			if got, err := r.get(v, 0, v.Bytes); err != nil || !bytes.Equal(got, data) {
				t.Errorf("%d bytes, %v", len(got), err)
			}
		})
	}
	wg.Wait()
	if r.buffers.peak > minBudget {
		t.Errorf("%d bytes were lent, the budget is %d", r.buffers.peak, int64(minBudget))
	}
}

// TestBudgetWhenADiskBeginsToLag: a read that took room for the shards of its range
// alone, and then asks others since a disk has begun to lag, takes room to decode.
func TestBudgetWhenADiskBeginsToLag(t *testing.T) {
	r := newRig(t, erasure.Geometry{K: 4, M: 1})
	data := pattern(chunk, 1)
	v := r.putInto(zoneA, data)
	read := newChunkRead(r.Store, r.cfg.Region.Layout(), v.Parts[0].Blob, 0, 0, chunk)
	if !read.direct() {
		t.Fatal("the read is not direct")
	}
	now := time.Now()
	for i, d := range read.peers() {
		took := time.Millisecond
		if i == 0 {
			took = time.Minute
		}
		for range windowLeast {
			r.reads.observe(d, now, took)
		}
	}
	r.buffers.peak = 0
	p, err := read.readWith(t.Context(), read.want.Len())
	if err != nil {
		t.Fatal(err)
	}
	defer p.free()
	if read.got == read.want {
		t.Fatal("nothing was decoded")
	}
	if r.buffers.peak > p.reserved {
		t.Errorf("%d bytes were lent, %d were reserved", r.buffers.peak, p.reserved)
	}
}

// TestReadWhileDisksGoDown: a read whose disks go down one after the other, while all memory
// is taken, is tried again until there is room for what is read in their place.
func TestReadWhileDisksGoDown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, erasure.Geometry{K: 2, M: 1}, budget(minBudget))
		data := pattern(chunk, 1)
		v := r.putInto(zoneA, data)
		const shard = chunk / 2
		down := []cluster.DiskID{r.of(v, 0)[0].disk.ID, r.of(v, 0)[2].disk.ID}
		r.shards.setHook(func(ctx context.Context, c call) (bool, error) {
			if slices.Contains(down, c.disk) {
				return late(ctx, time.Hour)
			}
			return true, nil
		})
		others := int64(minBudget - 2*shard) // enough for the shards of the range alone
		if err := r.reserve(t.Context(), others); err != nil {
			t.Fatal(err)
		}
		read := make(chan error)
		go func() {
			got, err := r.get(v, 0, v.Bytes)
			if err == nil && !bytes.Equal(got, data) {
				err = errors.New("wrong bytes")
			}
			read <- err
		}()
		for _, d := range down {
			time.Sleep(r.cfg.HedgeFloor / 10)
			synctest.Wait()
			r.region.set(func(region *fakeRegion) { region.disks[d] = true })
			synctest.Wait()
			r.release(2 * shard) // just enough for what the next try begins with
			others -= 2 * shard
		}
		time.Sleep(time.Second)
		r.release(others)
		if err := <-read; err != nil {
			t.Error(err)
		}
	})
}

// TestBusy: back-pressure, then an answer; never more memory.
func TestBusy(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, erasure.Geometry{K: 2, M: 1}, budget(minBudget))
		data := pattern(chunk, 1)
		v := r.mustPut("k", data)
		if err := r.reserve(t.Context(), minBudget); err != nil {
			t.Fatal(err)
		}
		began := time.Now()
		if _, err := r.put("p", data); !errors.Is(err, ErrBusy) {
			t.Error(err)
		}
		if _, err := r.get(v, 0, 1); !errors.Is(err, ErrBusy) {
			t.Error(err)
		}
		if took := time.Since(began); took != 20*time.Second {
			t.Errorf("took %v", took)
		}
		if _, err := r.put("small", []byte("inline objects need no room")); err != nil {
			t.Error(err)
		}
		time.AfterFunc(5*time.Second, func() { r.release(minBudget) })
		began = time.Now()
		r.mustPut("p", data)
		if took := time.Since(began); took != 5*time.Second {
			t.Errorf("took %v", took)
		}
		// A client that goes away while it waits is not "busy".
		if err := r.reserve(t.Context(), minBudget); err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		_, err := r.PutObject(ctx, PutRequest{Bucket: "bucket", Key: "p", Bytes: chunk, Body: newBody(data)})
		if errors.Is(err, ErrBusy) || !errors.Is(err, context.DeadlineExceeded) {
			t.Error(err)
		}
		r.release(minBudget)
	})
}

// TestSlowClientsHoldLittle: a reader keeps two chunks at most, however slow.
func TestSlowClientsHoldLittle(t *testing.T) {
	r := newRig(t, erasure.Geometry{K: 1})
	v := r.mustPut("k", pattern(6*chunk, 1))
	rd, err := r.OpenObject(t.Context(), v, 0, v.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	r.buffers.mu.Lock()
	r.buffers.peak = 0
	r.buffers.mu.Unlock()
	if _, err := io.Copy(io.Discard, struct{ io.Reader }{rd}); err != nil {
		t.Fatal(err)
	}
	if err := rd.Close(); err != nil {
		t.Fatal(err)
	}
	if r.buffers.peak > 4*chunk { // a chunk that is decoded takes twice its size
		t.Errorf("%d bytes at once", r.buffers.peak)
	}
}
