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

	"bivalve/cluster"
	"bivalve/erasure"
	"bivalve/metadata"
)

// faulty makes calls to disks fail in every way, one in so many of each, late or at once.
func faulty(rnd func(n int) int) hook {
	errs := []error{cluster.ErrUnreachable, cluster.ErrDiskFull, cluster.ErrDiskFailed, cluster.ErrCorrupt, cluster.ErrOverloaded, cluster.ErrNotFound, cluster.ErrWrongEpoch}
	return func(ctx context.Context, _ call) (bool, error) {
		var wait time.Duration
		switch rnd(20) {
		case 0:
			wait = time.Duration(rnd(3000)) * time.Millisecond
		case 1:
			wait = time.Hour
		}
		if ok, err := late(ctx, wait); !ok {
			return false, err
		}
		if rnd(6) == 0 {
			return rnd(2) == 0, errs[rnd(len(errs))]
		}
		return true, nil
	}
}

// TestNothingLeaks: after thousands of writes and reads that break in every way, all
// memory, the budget and each share of it are whole, and no byte that was read was wrong.
func TestNothingLeaks(t *testing.T) {
	t.Run("1+0", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) { leaks(t, newRig(t, erasure.Geometry{K: 1}, budget(minBudget), keyed)) })
	})
	t.Run("2+1 with relays", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			r, _ := relayRig(t, erasure.Geometry{K: 2, M: 1}, budget(minBudget), keyed)
			leaks(t, r)
		})
	})
	t.Run("4+1", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) { leaks(t, newRig(t, erasure.Geometry{K: 4, M: 1}, budget(minBudget), keyed)) })
	})
}

func leaks(t *testing.T, r *rig) {
	const seed, workers = 1, 16
	each := 40
	if testing.Short() {
		each = 10
	}
	var mu sync.Mutex
	shared := rand.New(rand.NewPCG(seed, 0))
	rnd := func(n int) int {
		mu.Lock()
		defer mu.Unlock()
		return shared.IntN(n)
	}
	sizes := []int{1, 20_000, 150_000, 500_000, chunk + 30_000}
	var objects []metadata.Version
	var data [][]byte
	for i, n := range sizes {
		data = append(data, pattern(n, uint64(i)))
		for _, w := range []metadata.SealWith{{}, byRegion} {
			v, err := r.PutObject(t.Context(), PutRequest{Bucket: "bucket", Key: fmt.Sprint("old", i, w.Kind), Bytes: int64(n), Body: newBody(data[i]), Seal: w})
			if err != nil {
				t.Fatal(err)
			}
			objects = append(objects, v)
		}
	}
	r.shards.setHook(faulty(rnd))
	done := map[string]int{}
	said := func(what string, err error) {
		mu.Lock()
		defer mu.Unlock()
		if err != nil {
			what += " failed"
		}
		done[what]++
	}
	put := func(ctx context.Context, key string) {
		i := rnd(len(sizes))
		b := newPaced(data[i], sizes[i], 1)
		size := int64(sizes[i])
		what := "put"
		switch rnd(6) {
		case 0:
			what = "put of a body that breaks"
			b.body.Reader = io.MultiReader(bytes.NewReader(data[i][:rnd(sizes[i])]), &body{Reader: bytes.NewReader(nil), err: io.ErrClosedPipe})
		case 1:
			what = "put of a body that is too short"
			size += int64(1 + rnd(100_000))
		case 2:
			what = "put of a body that is too long"
			size -= int64(rnd(sizes[i]))
		case 3:
			what = "put of a slow body"
			b.left, b.each = rnd(sizes[i]), 1+rnd(200_000)
		}
		time.AfterFunc(time.Duration(20+rnd(20))*time.Second, b.Interrupt)
		_, err := r.PutObject(ctx, PutRequest{Bucket: "bucket", Key: key, Bytes: size, Body: b, Seal: []metadata.SealWith{{}, byRegion}[rnd(2)]})
		said(what, err)
	}
	get := func(ctx context.Context) {
		i := rnd(len(objects))
		v, want := objects[i], data[i/2]
		off := rnd(len(want))
		want = want[off : off+1+rnd(len(want)-off)]
		rd, err := r.OpenObject(ctx, v, int64(off), int64(len(want)))
		if err != nil {
			said("get", err)
			return
		}
		s := newSink(1<<30, 0)
		what := "get"
		switch rnd(3) {
		case 0:
			what = "get of a slow client"
			s.first, s.each = rnd(len(want)), rnd(100_000)
		case 1:
			what = "get of a client that leaves"
			s.first = rnd(len(want))
			time.AfterFunc(time.Duration(rnd(5))*time.Second, s.Interrupt)
		}
		time.AfterFunc(time.Duration(20+rnd(20))*time.Second, s.Interrupt)
		if rnd(3) == 0 {
			_, err = io.Copy(s, struct{ io.Reader }{rd})
		} else {
			_, err = io.Copy(s, rd)
		}
		if err := errors.Join(err, rd.Close()); err == nil && !bytes.Equal(s.Bytes(), want) || !bytes.HasPrefix(want, s.Bytes()) {
			t.Errorf("%d bytes, %v: not those of the object", s.Len(), err)
		}
		said(what, err)
	}
	var all sync.WaitGroup
	for w := range workers {
		all.Go(func() {
			for n := range each {
				ctx, cancel := context.WithCancel(t.Context())
				if rnd(5) == 0 {
					time.AfterFunc(time.Duration(rnd(2000))*time.Millisecond, cancel)
				}
				if rnd(2) == 0 {
					put(ctx, fmt.Sprint(w, ".", n))
				} else {
					get(ctx)
				}
				cancel()
			}
		})
	}
	all.Wait()
	t.Log(done)
	r.shards.setHook(nil)
	r.settled()
	if most := r.mostLent(); r.cfg.Relays == nil && most > r.cfg.BudgetBytes { // relays here have the same buffers
		t.Errorf("%d bytes were lent, the budget is %d", most, r.cfg.BudgetBytes)
	}
}
