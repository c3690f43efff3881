package object

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"bivalve/cluster"
	"bivalve/erasure"
	"bivalve/metadata"
	"bivalve/metadata/catalog/catalogtest"
	"bivalve/metadata/replica"
)

// absent: the key has no version, and no shard lies anywhere but those of keep.
func (r *rig) absent(key string, shards int) {
	r.t.Helper()
	if _, err := r.HeadObject(r.t.Context(), "bucket", key, ""); !errors.Is(err, metadata.ErrNoSuchKey) {
		r.t.Errorf("head of %s: %v", key, err)
	}
	r.cleaning.Wait()
	if n := r.shards.count(); n != shards {
		r.t.Errorf("%d shards lie around, want %d", n, shards)
	}
	r.settled()
}

func TestPutWithZoneAgreedDown(t *testing.T) {
	for _, geo := range geometries {
		for _, z := range []cluster.Zone{zoneA, zoneB} {
			synctest.Test(t, func(t *testing.T) {
				r := newRig(t, geo)
				r.region.killZone(z, true)
				r.region.agree(z, true)
				data := pattern(2*chunk+50_000, 4)
				began := time.Now()
				v := r.mustPut("k", data)
				if took := time.Since(began); took != 0 {
					t.Errorf("took %v", took)
				}
				other := zoneA
				if z == zoneA {
					other = zoneB
				}
				b := v.Parts[0].Blob
				if !b.UnderProtected() || !slices.Equal(b.AtRisk, []string{string(other)}) || len(b.Notes) != 3 {
					t.Fatalf("%+v", b)
				}
				for c := range uint32(3) {
					for i, s := range r.of(v, c) {
						if got, want := b.Notes[c].Missing>>i&1 == 1, s.zone == z; got != want {
							t.Errorf("chunk %d shard %d in zone %s: missing %v", c, i, s.zone, got)
						}
					}
				}
				for _, call := range r.shards.callsOf(opAppend) {
					if r.region.zoneOf[call.node] == z {
						t.Errorf("%s was asked, of a zone that is down", call.node)
					}
				}
				r.check(v, data, 0, v.Bytes)
				stats, err := catalogtest.Stats(t.Context(), r.catalog)
				if err != nil || stats.UnderProtected != 1 || stats.AtRisk[string(other)] != 1 || stats.AtRisk[string(z)] != 0 {
					t.Errorf("%+v, %v", stats, err)
				}
			})
		}
	}
}

// TestPutWaitsForTheFact: a zone is dead but that is not agreed yet. The PUT must
// not be acknowledged before it is, however often its own calls failed.
func TestPutWaitsForTheFact(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, erasure.Geometry{K: 2, M: 1})
		r.region.killZone(zoneB, true)
		time.AfterFunc(time.Second, func() {
			r.region.set(func(r *fakeRegion) { r.suspect["b0"], r.suspect["b1"], r.suspect["b2"] = true, true, true })
		})
		time.AfterFunc(5*time.Second, func() { r.region.agree(zoneB, true) })
		data := pattern(chunk+50_000, 4)
		began := time.Now()
		v := r.mustPut("k", data)
		if took := time.Since(began); took != 5*time.Second {
			t.Errorf("acknowledged after %v", took)
		}
		if b := v.Parts[0].Blob; !slices.Equal(b.AtRisk, []string{"a"}) {
			t.Errorf("%+v", b)
		}
		r.check(v, data, 0, v.Bytes)
	})
}

// TestPutIntoACut: calls into the other zone hang, as they do when packets vanish,
// and then the node finds that it has no majority. It says so, and soon.
func TestPutIntoACut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, erasure.Geometry{K: 2, M: 1})
		r.shards.setHook(func(ctx context.Context, c call) (bool, error) {
			if r.region.zoneOf[c.node] == zoneB {
				<-ctx.Done()
				return false, context.Cause(ctx)
			}
			return true, nil
		})
		time.AfterFunc(time.Second, func() {
			r.region.mu.Lock()
			defer r.region.mu.Unlock()
			r.region.stranded = errors.New("no majority")
			r.region.suspect["b0"], r.region.suspect["b1"], r.region.suspect["b2"] = true, true, true
		})
		began := time.Now()
		_, err := r.put("k", pattern(chunk, 4))
		if !errors.Is(err, ErrNoQuorum) {
			t.Errorf("%v", err)
		}
		if took := time.Since(began); took > 2*time.Second {
			t.Errorf("gave up after %v", took)
		}
		r.absent("k", 0)
	})
}

// TestZoneComesBack while a PUT waits: it is written whole.
func TestZoneComesBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, erasure.Geometry{K: 2, M: 1})
		r.region.killZone(zoneB, true)
		time.AfterFunc(3*time.Second, func() { r.region.killZone(zoneB, false) })
		v := r.mustPut("k", pattern(chunk, 4))
		if b := v.Parts[0].Blob; len(b.Notes) != 0 {
			t.Errorf("%+v", b)
		}
	})
}

func TestFactThatNeverCame(t *testing.T) {
	for _, z := range []cluster.Zone{zoneA, zoneB} {
		synctest.Test(t, func(t *testing.T) {
			r := newRig(t, erasure.Geometry{K: 2, M: 1})
			r.region.killZone(z, true)
			began := time.Now()
			_, err := r.put("k", pattern(2*chunk, 4))
			var q *QuorumError
			if !errors.As(err, &q) || !errors.Is(err, ErrNoQuorum) || !errors.Is(err, cluster.ErrUnreachable) || q.Op != "write" {
				t.Errorf("%v", err)
			}
			if took := time.Since(began); took < 12*time.Second || took > 13*time.Second {
				t.Errorf("gave up after %v", took)
			}
			r.absent("k", 0)
		})
	}
}

// TestOneNodeDead: a large zone is routed around, a small one is written short.
func TestOneNodeDead(t *testing.T) {
	geo := erasure.Geometry{K: 2, M: 1}
	for _, n := range []int{3, 6} {
		synctest.Test(t, func(t *testing.T) {
			r := newRig(t, geo, nodes(n), func(c *rigConfig) { c.pgs = 256 })
			r.region.set(func(r *fakeRegion) { r.dead["b1"], r.suspect["b1"] = true, true })
			aside := 0
			for i := range 8 {
				data := pattern(chunk+50_000, uint64(i))
				v := r.mustPut("k", data)
				b := v.Parts[0].Blob
				if n > 3 {
					if b.UnderProtected() || len(b.AtRisk) > 0 {
						t.Fatalf("not routed around: %+v", b)
					}
					aside += len(b.Notes)
				} else if len(b.Notes) != 2 || b.Notes[0].Missing == 0 || b.Notes[1].Missing == 0 || len(b.AtRisk) > 0 {
					t.Fatalf("%+v", b)
				}
				r.check(v, data, 0, v.Bytes)
			}
			if n > 3 && aside == 0 {
				t.Error("no chunk stepped aside")
			}
		})
	}
}

// TestFailedPutThatStoodAside leaves nothing where it stood.
func TestFailedPutThatStoodAside(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, erasure.Geometry{K: 2, M: 1}, nodes(6), func(c *rigConfig) { c.pgs = 256 })
		r.region.set(func(r *fakeRegion) { r.suspect["b1"], r.suspect["b2"] = true, true })
		for i := range 10 {
			b := newBody(pattern(chunk+1, uint64(i)))
			b.err = errors.New("hash differs")
			if _, err := r.PutObject(t.Context(), PutRequest{Bucket: "bucket", Key: "k", Bytes: chunk + 1, Body: b}); !errors.Is(err, b.err) {
				t.Fatal(err)
			}
		}
		r.absent("k", 0)
		// The same, when the chunk itself fails half way.
		r.shards.setHook(func(_ context.Context, c call) (bool, error) {
			if c.op == opAppend && r.region.zoneOf[c.node] == zoneB && c.key.Chunk == 1 {
				return false, cluster.ErrDiskFailed
			}
			return true, nil
		})
		if _, err := r.put("k", pattern(2*chunk, 1)); !errors.Is(err, ErrNoQuorum) {
			t.Fatal(err)
		}
		r.absent("k", 0)
	})
}

// TestDiskThatLies: an append that happened and was reported failed must not be
// counted, nor lost when the write is given up.
func TestAppendDoneButReportedFailed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, erasure.Geometry{K: 2, M: 1})
		r.shards.setHook(func(_ context.Context, c call) (bool, error) {
			if c.op == opAppend && r.region.zoneOf[c.node] == zoneB {
				return true, cluster.ErrUnreachable
			}
			return true, nil
		})
		if _, err := r.put("k", pattern(chunk, 4)); !errors.Is(err, ErrNoQuorum) {
			t.Fatal(err)
		}
		r.absent("k", 0)
		var once atomic.Int32
		r.shards.setHook(func(ctx context.Context, c call) (bool, error) {
			if c.op == opAppend && once.Add(1) <= 6 {
				_, err := late(ctx, 5*time.Millisecond)
				return true, errors.Join(cluster.ErrUnreachable, err)
			}
			return true, nil
		})
		began := time.Now()
		v := r.mustPut("k", pattern(chunk, 4)) // appended again, which does no harm
		if took := time.Since(began); took > time.Second || len(v.Parts[0].Blob.Notes) != 0 {
			t.Errorf("%v, %+v", took, v.Parts[0].Blob)
		}
	})
}

// TestFailedBesideHung: shards that failed are sent again though another call hangs.
func TestFailedBesideHung(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, erasure.Geometry{K: 2, M: 1})
		var failed atomic.Bool
		r.shards.setHook(func(ctx context.Context, c call) (bool, error) {
			switch {
			case c.op != opAppend:
			case c.node == "b1":
				return late(ctx, time.Minute)
			case c.node == "b2" && failed.CompareAndSwap(false, true):
				return false, cluster.ErrUnreachable
			}
			return true, nil
		})
		began := time.Now()
		v := r.mustPut("k", pattern(chunk, 4))
		if took := time.Since(began); !failed.Load() || took > 5*time.Second || v.Parts[0].Blob.Notes[0].Missing == 0 {
			t.Errorf("%v, %+v", took, v.Parts[0].Blob)
		}
	})
}

func TestFullDisks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, erasure.Geometry{K: 2, M: 1})
		r.shards.setHook(func(_ context.Context, c call) (bool, error) {
			if c.op == opAppend {
				return false, cluster.ErrDiskFull
			}
			return true, nil
		})
		if _, err := r.put("k", pattern(chunk, 4)); !errors.Is(err, ErrFull) || !errors.Is(err, ErrNoQuorum) {
			t.Error(err)
		}
		r.absent("k", 0)
	})
}

// TestStragglers: a slow disk gets a grace, then counts as missing; its call goes on
// for a while and keeps its own memory.
func TestStragglers(t *testing.T) {
	for _, c := range []struct {
		delay, took time.Duration
		missing     int
	}{{2 * time.Second, 2 * time.Second, 0}, {time.Minute, 3 * time.Second, 1}} {
		synctest.Test(t, func(t *testing.T) {
			r := newRig(t, erasure.Geometry{K: 2, M: 1})
			r.shards.setHook(func(ctx context.Context, call call) (bool, error) {
				if call.node != "b1" || call.op != opAppend {
					return true, nil
				}
				return late(ctx, c.delay)
			})
			began := time.Now()
			v := r.mustPut("k", pattern(chunk, 1))
			if took := time.Since(began); took != c.took {
				t.Errorf("took %v", took)
			}
			got := 0
			for _, n := range v.Parts[0].Blob.Notes {
				got += erasure.ShardSet(n.Missing).Len()
			}
			if got != c.missing {
				t.Errorf("%d missing", got)
			}
		})
	}
}

// TestWrongEpoch: a node refuses the old layout; the chunk goes where the new one
// says once this node has it too.
func TestWrongEpoch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		geo := erasure.Geometry{K: 2, M: 1}
		r := newRig(t, geo)
		for n := range r.region.zoneOf {
			r.shards.epoch[n] = 2
		}
		old := r.region.Layout()
		next := makeLayout(t, r.region, rigConfig{nodes: 5, disks: 1, pgs: 32}, geo, 2, old)
		time.AfterFunc(2*time.Second, func() { r.region.set(func(r *fakeRegion) { r.layout = next }) })
		data := pattern(2*chunk, 6)
		v := r.mustPut("k", data)
		if len(v.Parts[0].Blob.Notes) != 0 {
			t.Errorf("%+v", v.Parts[0].Blob)
		}
		r.check(v, data, 0, v.Bytes)
	})
	// Some nodes were quick and took shards under the old layout.
	synctest.Test(t, func(t *testing.T) {
		geo := erasure.Geometry{K: 2, M: 1}
		r := newRig(t, geo)
		r.shards.epoch["b0"], r.shards.epoch["b1"], r.shards.epoch["b2"] = 2, 2, 2
		next := makeLayout(t, r.region, rigConfig{nodes: 5, disks: 1, pgs: 32}, geo, 2, r.region.Layout())
		time.AfterFunc(2*time.Second, func() { r.region.set(func(r *fakeRegion) { r.layout = next }) })
		data := pattern(2*chunk, 6)
		v := r.mustPut("k", data)
		for c := range uint32(2) {
			for _, s := range r.of(v, c) {
				if _, ok := r.shards.disks[s.disk.ID][s.key]; !ok {
					t.Errorf("%s is not where the new layout says", s.key)
				}
			}
		}
		r.check(v, data, 0, v.Bytes)
	})
}

// TestLayoutInGrace: a new layout that comes while a durable chunk waits for its last
// shard leaves it nothing; it is acknowledged once it is durable again.
func TestLayoutInGrace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, erasure.Geometry{K: 2, M: 1})
		next := *r.region.Layout() // every shard on another disk of its zone
		next.Epoch, next.Groups = 2, slices.Clone(next.Groups)
		for pg, g := range next.Groups {
			next.Groups[pg] = []uint16{g[1], g[2], g[0], g[4], g[5], g[3]}
		}
		began := time.Now()
		r.shards.setHook(func(ctx context.Context, c call) (bool, error) {
			d := time.Duration(0)
			switch {
			case c.op != opAppend:
			case r.region.Layout().Epoch == 2:
				d = time.Until(began.Add(7 * time.Second))
			case c.node == "b1":
				d = time.Minute
			}
			return late(ctx, d)
		})
		time.AfterFunc(time.Second, func() { r.region.set(func(r *fakeRegion) { r.layout = &next }) })
		data := pattern(chunk, 6)
		v := r.mustPut("k", data)
		if took := time.Since(began); took < 7*time.Second {
			t.Errorf("acknowledged after %v, when nothing was where it belongs", took)
		}
		r.check(v, data, 0, v.Bytes)
	})
}

// TestBadBodies: no version, no shards.
func TestBadBodies(t *testing.T) {
	r := newRig(t, erasure.Geometry{K: 2, M: 1})
	bad := errors.New("what came is not what was declared")
	for _, n := range []int64{1, 100, 16 << 10, 16<<10 + 1, chunk / 2, chunk, chunk + 1, 3*chunk + 10} {
		for name, c := range map[string]struct {
			sent int64
			err  error
			want error
		}{
			"short":            {n - 1, nil, io.ErrUnexpectedEOF},
			"empty":            {0, nil, io.ErrUnexpectedEOF},
			"long":             {n + 1, nil, cluster.ErrInvalid},
			"breaks at end":    {n, bad, bad},
			"breaks in midst":  {n / 2, bad, bad},
			"breaks past end":  {n + 1, bad, cluster.ErrInvalid},
			"breaks at a seam": {min(n, chunk), bad, bad},
		} {
			t.Run(fmt.Sprintf("%d %s", n, name), func(t *testing.T) {
				b := newBody(pattern(int(c.sent), 1))
				b.err = c.err
				_, err := r.PutObject(t.Context(), PutRequest{Bucket: "bucket", Key: "k", Bytes: n, Body: b})
				if !errors.Is(err, c.want) || err == io.EOF {
					t.Errorf("%v, want %v", err, c.want)
				}
				r.absent("k", 0)
			})
		}
	}
}

// TestCommitOutcomes: shards go when the commit certainly did not happen, and
// stay when that is not known (law L5).
func TestCommitOutcomes(t *testing.T) {
	r := newRig(t, erasure.Geometry{K: 2, M: 1})
	data := pattern(70_000, 1)
	const whole = 6
	r.mustPut("there", data)
	_, err := r.PutObject(t.Context(), PutRequest{Bucket: "bucket", Key: "there", Bytes: 70_000, Body: newBody(data),
		Condition: metadata.Condition{IfNoneMatchAny: true}})
	if !errors.Is(err, metadata.ErrConditionFailed) {
		t.Error(err)
	}
	r.absent("other", whole)

	var answer error
	apply := false
	r.groups.OnPropose = func(_ context.Context, _ replica.GroupID, kind metadata.CommandKind, _ metadata.Command) (bool, error) {
		if kind == metadata.CmdPutVersion || kind == metadata.CmdPutPart {
			return apply, answer
		}
		return true, nil
	}
	answer = fmt.Errorf("no quorum: %w", replica.ErrUnavailable)
	if _, err := r.put("k", data); !errors.Is(err, metadata.ErrUnavailable) {
		t.Error(err)
	}
	r.absent("k", whole)

	answer = fmt.Errorf("lost the leader: %w", replica.ErrUnknown)
	if _, err := r.put("k", data); !errors.Is(err, metadata.ErrUnknownOutcome) || errors.Is(err, metadata.ErrUnavailable) {
		t.Error(err)
	}
	r.absent("k", 2*whole)

	apply = true
	if _, err := r.put("k", data); !errors.Is(err, metadata.ErrUnknownOutcome) {
		t.Error(err)
	}
	v, err := r.HeadObject(t.Context(), "bucket", "k", "")
	if err != nil {
		t.Fatal(err)
	}
	r.check(v, data, 0, v.Bytes)

	// The client is gone while the commit is under way: that too is not known.
	answer = fmt.Errorf("%w: %w", replica.ErrUnknown, context.Canceled)
	if _, err := r.put("k2", data); !errors.Is(err, metadata.ErrUnknownOutcome) {
		t.Error(err)
	}
	if v, err = r.HeadObject(t.Context(), "bucket", "k2", ""); err != nil {
		t.Fatal(err)
	}
	r.check(v, data, 0, v.Bytes)
}

// TestClientGone in the midst of a PUT: no version, no shards, nothing running.
func TestClientGone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, erasure.Geometry{K: 2, M: 1})
		for _, at := range []uint32{0, 1, 3} {
			ctx, cancel := context.WithCancel(t.Context())
			r.shards.setHook(func(c context.Context, call call) (bool, error) {
				if call.op == opAppend && call.key.Chunk == at {
					cancel()
					if call.key.Index == 0 {
						time.Sleep(time.Second) // of the bubble: it is done when the client is long gone
						return true, c.Err()
					}
					<-c.Done()
					return call.key.Index%2 == 0, c.Err() // done or not, nobody can tell
				}
				return true, nil
			})
			_, err := r.PutObject(ctx, PutRequest{Bucket: "bucket", Key: "k", Bytes: 4 * chunk, Body: newBody(pattern(4*chunk, 1))})
			if !errors.Is(err, context.Canceled) {
				t.Error(err)
			}
			r.absent("k", 0)
		}
	})
}

// TestBodyThatBreaksDoesNotWait: chunks on their way to a zone that is out of
// reach are given up when the body broke.
func TestBodyThatBreaksDoesNotWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, erasure.Geometry{K: 2, M: 1})
		r.region.killZone(zoneB, true)
		b := newBody(pattern(chunk+100, 1))
		b.err = errors.New("connection reset")
		began := time.Now()
		_, err := r.PutObject(t.Context(), PutRequest{Bucket: "bucket", Key: "k", Bytes: 4 * chunk, Body: b})
		if !errors.Is(err, b.err) || errors.Is(err, ErrNoQuorum) {
			t.Error(err)
		}
		if took := time.Since(began); took > time.Second {
			t.Errorf("took %v", took)
		}
		r.region.killZone(zoneB, false)
		r.absent("k", 0)
	})
}

func TestNoLayoutYet(t *testing.T) {
	r := newRig(t, erasure.Geometry{K: 1})
	l := r.region.layout
	r.region.set(func(r *fakeRegion) { r.layout = nil })
	if _, err := r.put("k", pattern(100_000, 1)); !errors.Is(err, metadata.ErrUnavailable) {
		t.Error(err)
	}
	if _, err := r.put("k", pattern(100, 1)); err != nil { // inline needs none
		t.Error(err)
	}
	r.region.set(func(r *fakeRegion) { r.layout = l })
}

// slowTail brings its last bytes late.
type slowTail struct {
	*body
	left int
	wait time.Duration
}

func (s *slowTail) Read(p []byte) (int, error) {
	if s.left <= 0 {
		time.Sleep(s.wait)
		s.wait = 0
	}
	n, err := s.body.Read(p)
	s.left -= n
	return n, err
}

// TestDiskGoesInALongWrite: a disk that has its shard of the first chunk, and goes before
// the last one was written, counts as lacking it from the acknowledgement on; one that is
// back by then, or whose zone is down, does not, nor in a short write, which nobody misses.
func TestDiskGoesInALongWrite(t *testing.T) {
	for name, c := range map[string]struct {
		took     time.Duration // between the chunks
		back     bool
		zoneDown bool
		missing  int
	}{
		"long": {25 * time.Second, false, false, 1}, "back again": {25 * time.Second, true, false, 0},
		"its zone is down": {25 * time.Second, false, true, 0}, "short": {5 * time.Second, false, false, 0},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := newRig(t, erasure.Geometry{K: 2, M: 1}, nodes(6))
				var gone cluster.NodeID
				data := pattern(4*chunk, 5)
				b := &pausing{body: newBody(data), every: chunk, pause: c.took, then: func(n int) {
					switch {
					case n == 1:
						r.shards.mu.Lock()
						for id, has := range r.shards.disks {
							if id[0] == zoneB[0] && len(has) > 0 {
								gone = cluster.NodeID(fmt.Sprintf("%s%d", zoneB, id[1]-1))
							}
						}
						r.shards.mu.Unlock()
						r.region.set(func(r *fakeRegion) { r.suspect[gone], r.dead[gone] = true, true })
					case n == 3 && c.back:
						r.region.set(func(r *fakeRegion) { r.suspect[gone], r.dead[gone] = false, false })
					case n == 3 && c.zoneDown:
						r.region.killZone(zoneB, true)
						r.region.agree(zoneB, true)
					}
				}}
				v, err := r.PutObject(t.Context(), PutRequest{Bucket: "bucket", Key: "k", Bytes: int64(len(data)), Body: b})
				if err != nil || gone == "" {
					t.Fatalf("%v; %q had nothing", err, gone)
				}
				n := note(v.Parts[0].Blob, 0)
				if got := erasure.ShardSet(n.Missing).Len(); got != c.missing {
					t.Errorf("%d missing of the first chunk, want %d: %+v", got, c.missing, v.Parts[0].Blob.Notes)
				}
				for _, i := range members(erasure.ShardSet(n.Missing)) {
					if d := r.region.layout.Disk(cluster.PG(n.PG), cluster.ShardIndex(i)); d.Node != gone {
						t.Errorf("shard %d of %s is noted", i, d.Node)
					}
				}
				if c.missing > 0 && v.Parts[0].Blob.Spare() != 3 {
					t.Errorf("%d shards to spare", v.Parts[0].Blob.Spare())
				}
			})
		})
	}
}

// pausing is a body that pauses before every so many bytes but the first.
type pausing struct {
	*body
	every, left int
	pause       time.Duration
	n           int
	then        func(n int) // after the n-th pause
}

func (p *pausing) Read(b []byte) (int, error) {
	if p.left == 0 {
		if p.left = p.every; p.n > 0 {
			time.Sleep(p.pause)
			p.then(p.n)
		}
		p.n++
	}
	n, err := p.body.Read(b[:min(len(b), p.left)])
	p.left -= n
	return n, err
}

// TestZoneFallsInAChunk: what a zone has stored of a chunk when it falls counts as missing,
// if it is less than k shards, though the upload ends when the zone has long been back: no
// list of the zone names the chunk but those of these few.
func TestZoneFallsInAChunk(t *testing.T) {
	for took := range 3 { // disks of zone b that have stored their shards
		synctest.Test(t, func(t *testing.T) {
			r := newRig(t, erasure.Geometry{K: 2, M: 1})
			var mu sync.Mutex
			had := map[cluster.DiskID]bool{}
			r.shards.setHook(func(_ context.Context, c call) (bool, error) {
				mu.Lock()
				defer mu.Unlock()
				switch {
				case c.op != opAppend || r.region.zoneOf[c.node] != zoneB || c.key.Chunk > 0:
				case len(had) < took || had[c.disk]:
					had[c.disk] = true
				default:
					return false, fmt.Errorf("%w: %s", cluster.ErrUnreachable, c.node)
				}
				return true, nil
			})
			time.AfterFunc(3*time.Second, func() { r.region.agree(zoneB, true) })
			time.AfterFunc(5*time.Second, func() { r.region.agree(zoneB, false) })
			data := pattern(2*chunk, 4)
			v, err := r.PutObject(t.Context(), PutRequest{Bucket: "bucket", Key: "k", Bytes: int64(len(data)),
				Body: &slowTail{body: newBody(data), left: len(data) - 100, wait: 25 * time.Second}})
			if err != nil {
				t.Fatal(err)
			}
			mu.Lock()
			defer mu.Unlock()
			b := v.Parts[0].Blob
			if len(had) != took || len(b.Notes) != 1 || b.Notes[0].Chunk != 0 {
				t.Fatalf("%d disks stored their shards; %+v", len(had), b.Notes)
			}
			for i, s := range r.of(v, 0) {
				want := s.zone == zoneB && (took < 2 || !had[s.disk.ID])
				if got := b.Notes[0].Missing>>i&1 == 1; got != want {
					t.Errorf("%d stored: shard %d in zone %s: missing %v", took, i, s.zone, got)
				}
			}
		})
	}
}
