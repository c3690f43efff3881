package object

import (
	"bytes"
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"bivalve/cluster"
	"bivalve/erasure"
)

// TestReadsWithLosses takes shards away in every way that they can be lost, up to
// the limit of the code, at random.
func TestReadsWithLosses(t *testing.T) {
	ways := map[string]func(*stored){
		"missing":   nil,
		"flipped":   func(s *stored) { s.payload[rand.IntN(len(s.payload))] ^= 1 },
		"wrong sum": func(s *stored) { s.sums[len(s.sums)-1]++ },
		"shorter": func(s *stored) {
			s.payload = s.payload[:len(s.payload)-1]
			s.sums = erasure.Sums(nil, s.payload)
		},
		"longer": func(s *stored) {
			s.payload = append(s.payload, 0)
			s.sums = erasure.Sums(nil, s.payload)
		},
		"one block only": func(s *stored) {
			s.payload = s.payload[:min(len(s.payload), 65536)-1]
			s.sums = erasure.Sums(nil, s.payload)
		},
		"no sums": func(s *stored) { s.sums = make([]uint64, len(s.sums)) },
	}
	for _, geo := range geometries {
		r := newRig(t, geo)
		reported := 0
		for _, way := range ways {
			data := pattern(chunk+333_333, 2)
			v := r.mustPut("k", data)
			for _, c := range []uint32{0, 1} {
				shards := r.of(v, c)
				for _, i := range rand.Perm(len(shards))[:geo.Survives()] {
					r.shards.damage(shards[i], way)
				}
			}
			r.check(v, data, 0, v.Bytes)
			for range 10 {
				off := rand.Int64N(v.Bytes)
				r.check(v, data, off, 1+rand.Int64N(v.Bytes-off))
			}
			reported += r.damage.count()
			clear(r.damage.seen)
		}
		if reported == 0 {
			t.Errorf("%+v: no damage was reported", geo)
		}
	}
}

// TestTooManyLost: an error before the first byte, never junk (F21).
func TestTooManyLost(t *testing.T) {
	geo := erasure.Geometry{K: 2, M: 1}
	r := newRig(t, geo)
	data := pattern(chunk+1000, 2)
	v := r.mustPut("k", data)
	for _, s := range r.of(v, 0)[:geo.Survives()+1] {
		r.shards.damage(s, func(s *stored) { s.payload[0] ^= 1 })
	}
	if _, err := r.OpenObject(t.Context(), v, 0, v.Bytes); !errors.Is(err, ErrNoQuorum) || !errors.Is(err, cluster.ErrCorrupt) {
		t.Errorf("open: %v", err)
	}
	r.check(v, data, chunk, 1000)
	// A later chunk that cannot be read breaks the stream where it begins.
	v = r.mustPut("k2", data)
	for _, s := range r.of(v, 1) {
		r.shards.damage(s, nil)
	}
	rd, err := r.OpenObject(t.Context(), v, 0, v.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	got, err := io.ReadAll(rd)
	if !errors.Is(err, ErrNoQuorum) || !bytes.Equal(got, data[:chunk]) {
		t.Errorf("%d bytes, %v", len(got), err)
	}
	if _, again := rd.Read(make([]byte, 1)); !errors.Is(again, ErrNoQuorum) {
		t.Errorf("a broken stream goes on with %v", again)
	}
	if err := rd.Close(); err != nil {
		t.Error(err)
	}
}

// TestZoneGone reads from either zone alone.
func TestZoneGone(t *testing.T) {
	for _, geo := range geometries {
		for _, z := range []cluster.Zone{zoneA, zoneB} {
			synctest.Test(t, func(t *testing.T) {
				r := newRig(t, geo)
				data := pattern(chunk+70_000, 8)
				v := r.mustPut("k", data)
				r.region.killZone(z, true)
				began := time.Now()
				r.check(v, data, 0, v.Bytes)
				if took := time.Since(began); took != 0 {
					t.Errorf("refused calls were waited for: %v", took)
				}
				r.region.agree(z, true)
				r.check(v, data, 100, v.Bytes-200)
			})
		}
	}
}

// TestReadWaitsForItsShards: both zones out of reach, then one comes back.
func TestReadWaitsForItsShards(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, erasure.Geometry{K: 2, M: 1})
		data := pattern(70_000, 8)
		v := r.mustPut("k", data)
		r.region.killZone(zoneA, true)
		r.region.killZone(zoneB, true)
		time.AfterFunc(4*time.Second, func() { r.region.killZone(zoneB, false) })
		began := time.Now()
		r.check(v, data, 0, v.Bytes)
		if took := time.Since(began); took != 4*time.Second {
			t.Errorf("waited %v", took)
		}
		r.region.killZone(zoneB, true)
		began = time.Now()
		_, err := r.get(v, 0, 1)
		if took := time.Since(began); !errors.Is(err, ErrNoQuorum) || took < 10*time.Second || took > 11*time.Second {
			t.Errorf("after %v: %v", took, err)
		}
	})
}

// TestReadWaitsBesideLosses: of many errors one that may pass is enough to wait.
func TestReadWaitsBesideLosses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, erasure.Geometry{K: 4, M: 1})
		data := pattern(100_000, 8)
		v := r.mustPut("k", data)
		for _, s := range r.of(v, 0) {
			if s.zone == zoneA {
				r.shards.damage(s, nil)
			}
		}
		r.region.killZone(zoneB, true)
		time.AfterFunc(4*time.Second, func() { r.region.killZone(zoneB, false) })
		r.check(v, data, 0, v.Bytes)
	})
}

// TestHedge: a shard that is slow gets a second beside it and is not waited for;
// its buffer is not lent again until its call returned, whatever that still writes.
func TestHedge(t *testing.T) {
	for _, geo := range []erasure.Geometry{{K: 1}, {K: 2, M: 1}, {K: 4, M: 1}} {
		synctest.Test(t, func(t *testing.T) {
			r := newRig(t, geo)
			data := pattern(chunk, 8)
			v := r.putInto(zoneA, data)
			slow := r.of(v, 0)[0]
			var late atomic.Bool
			r.shards.setHook(func(ctx context.Context, c call) (bool, error) {
				if c.op == opRead && c.key == slow.key {
					<-ctx.Done() // the reader has what it needs
					late.Store(true)
					return true, nil // and now the slow disk answers after all
				}
				return true, nil
			})
			began := time.Now()
			r.check(v, data, 0, v.Bytes)
			if took := time.Since(began); took < 30*time.Millisecond || took > 200*time.Millisecond {
				t.Errorf("took %v", took)
			}
			synctest.Wait()
			if !late.Load() {
				t.Error("the slow read did not end")
			}
			if len(r.shards.callsOf(opRead)) <= geo.K {
				t.Error("no second request")
			}
			r.settled()
		})
	}
}

// TestHedgesAreFew: without credit a slow region is not loaded further.
func TestHedgesAreFew(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		geo := erasure.Geometry{K: 2, M: 1}
		r := newRig(t, geo)
		data := pattern(100_000, 8)
		v := r.putInto(zoneA, data)
		r.noHedges()
		r.shards.setHook(func(context.Context, call) (bool, error) { time.Sleep(time.Second); return true, nil })
		for range 100 {
			r.check(v, data, 0, v.Bytes)
		}
		if got := len(r.shards.callsOf(opRead)); got > 100*geo.K+100*geo.K/10 {
			t.Errorf("%d reads for 100 chunks of %d shards", got, geo.K)
		}
		time.Sleep(time.Second) // until what was left behind has ended
		synctest.Wait()
	})
}

// TestCancelledRead gives everything back.
func TestCancelledRead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, erasure.Geometry{K: 2, M: 1})
		v := r.mustPut("k", pattern(3*chunk, 8))
		for _, chunks := range []int{0, 1} {
			n := 0
			r.shards.setHook(func(ctx context.Context, c call) (bool, error) {
				if int(c.key.Chunk) >= chunks {
					<-ctx.Done()
					return false, ctx.Err()
				}
				return true, nil
			})
			ctx, cancel := context.WithCancel(t.Context())
			time.AfterFunc(time.Second, cancel)
			rd, err := r.OpenObject(ctx, v, 0, v.Bytes)
			if err == nil {
				var got int64
				got, err = io.Copy(io.Discard, rd)
				n = int(got)
				if cerr := rd.Close(); cerr != nil {
					t.Error(cerr)
				}
			}
			if !errors.Is(err, context.Canceled) || n != chunks*chunk {
				t.Errorf("%d bytes, %v", n, err)
			}
			r.settled()
		}
	})
}

// TestPrefetchThatFoundNoRoom: a client that is slow while memory is short does
// not lose its stream for what was tried ahead of its need.
func TestPrefetchThatFoundNoRoom(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, erasure.Geometry{K: 1}, budget(minBudget))
		data := pattern(2*chunk, 8)
		v := r.putInto(zoneA, data)
		for r.of(v, 1)[0].zone != zoneA { // which need no decoding, so one chunk of room
			v = r.putInto(zoneA, data)
		}
		const others = minBudget - 2*chunk + 1
		if err := r.reserve(t.Context(), others); err != nil {
			t.Fatal(err)
		}
		rd, err := r.OpenObject(t.Context(), v, 0, v.Bytes)
		if err != nil {
			t.Fatal(err)
		}
		time.Sleep(20 * time.Second) // of the bubble: the prefetch gave up
		got, err := io.ReadAll(rd)
		if err != nil || !bytes.Equal(got, data) {
			t.Errorf("%d bytes, %v", len(got), err)
		}
		if err := rd.Close(); err != nil {
			t.Error(err)
		}
		r.release(others)
	})
}
