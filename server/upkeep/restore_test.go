package upkeep

import (
	"bytes"
	"context"
	"fmt"
	"maps"
	"slices"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"bivalve/cluster"
	"bivalve/cluster/disk"
	"bivalve/erasure"
)

// lossy is the home disk after a loss.
type lossy struct {
	*mendDisk
	loss *atomic.Pointer[disk.Loss]
}

func (d lossy) Loss() *disk.Loss { return d.loss.Load() }

func (d lossy) Restored(l *disk.Loss) error {
	d.loss.CompareAndSwap(l, nil)
	return nil
}

func (d lossy) Stat(k cluster.ShardKey) (cluster.ShardInfo, error) {
	d.r.mu.Lock()
	defer d.r.mu.Unlock()
	s, ok := d.stored[k]
	if !ok {
		return cluster.ShardInfo{}, cluster.ErrNotFound
	}
	return cluster.ShardInfo{Key: k, Profile: s.Profile, Bytes: len(s.Payload)}, nil
}

func (d lossy) Append(_ context.Context, shards []cluster.Shard) error {
	d.r.mu.Lock()
	defer d.r.mu.Unlock()
	for _, s := range shards {
		s.Payload = slices.Clone(s.Payload)
		d.stored[s.Key] = s
	}
	return nil
}

func (r *mendRegion) ListShards(_ context.Context, to cluster.NodeID, id cluster.DiskID, pg cluster.PG, after *cluster.ShardKey, limit int) ([]cluster.ShardInfo, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.dead[id] {
		return nil, fmt.Errorf("%w: %s", cluster.ErrUnreachable, to)
	}
	var out []cluster.ShardInfo
	for k, s := range r.disks[id].stored {
		if k.PG == pg && (after == nil || compareChunks(k, *after) > 0) {
			out = append(out, cluster.ShardInfo{Key: k, Profile: s.Profile, Generation: s.Generation, Bytes: len(s.Payload)})
		}
	}
	slices.SortFunc(out, func(a, b cluster.ShardInfo) int { return compareChunks(a.Key, b.Key) })
	return out[:min(len(out), limit)], nil
}

// restoring is a region of which every group holds chunks, and a home disk that
// has lost all but a few of its shards.
func restoring(t *testing.T, p cluster.Profile) (*mendRegion, lossy, map[cluster.ShardKey]cluster.Shard, *Restorer) {
	t.Helper()
	r := newMendRegion(t, p)
	for pg := range r.layout.Groups {
		for n := range 3 {
			r.writeBlob(t, cluster.PG(pg), cluster.BlobID{byte(n)}, 1000+n)
		}
	}
	home := r.disks[r.home[0]]
	had := maps.Clone(home.stored)
	for k := range home.stored {
		if k.PG != 0 {
			delete(home.stored, k)
		}
	}
	if len(had) < 6 || len(home.stored) == len(had) {
		t.Fatalf("%d shards, %d left: the test shows nothing", len(had), len(home.stored))
	}
	d := lossy{home, &atomic.Pointer[disk.Loss]{}}
	d.loss.Store(&disk.Loss{Reason: "lost", Since: time.Now()})
	re, err := NewRestorer(RestorerConfig{Disks: func() []RestoreDisk { return []RestoreDisk{d} }, Lists: r, Mender: r.mender, Logger: quiet, Now: time.Now})
	if err != nil {
		t.Fatal(err)
	}
	return r, d, had, re
}

// writeBlob is write for a blob of a name.
func (r *mendRegion) writeBlob(t *testing.T, pg cluster.PG, blob cluster.BlobID, size int) {
	t.Helper()
	geo := erasure.Geometry{K: int(r.layout.Profile.K), M: int(r.layout.Profile.M)}
	codec, err := erasure.NewCodec(geo)
	if err != nil {
		t.Fatal(err)
	}
	shards := make([][]byte, geo.Shards())
	for i := range shards {
		shards[i] = bytes.Repeat([]byte{byte(i), byte(pg), blob[0]}, size)[:size]
	}
	if err := codec.Encode(shards); err != nil {
		t.Fatal(err)
	}
	for i, payload := range shards {
		s := cluster.Shard{Key: cluster.ShardKey{PG: pg, Blob: blob, Index: cluster.ShardIndex(i)},
			Profile: r.layout.Profile, Sums: erasure.Sums(nil, payload), Payload: payload}
		r.disks[r.layout.Disk(pg, s.Key.Index).ID].stored[s.Key] = s
	}
}

func TestRestore(t *testing.T) {
	for _, p := range []cluster.Profile{{K: 1}, {K: 2}, {K: 2, M: 1}} {
		synctest.Test(t, func(t *testing.T) {
			r, d, had, re := restoring(t, p)
			// A shard of which only one other is left is a rest of what was deleted.
			rest := cluster.ShardKey{PG: 1, Blob: cluster.BlobID{77}}
			if p.K > 1 {
				for i := range 2 * p.PerZone() {
					if rest.Index = cluster.ShardIndex(i); r.layout.Disk(1, rest.Index).ID != r.home[0] {
						break
					}
				}
				r.disks[r.layout.Disk(1, rest.Index).ID].stored[rest] = cluster.Shard{Key: rest, Profile: p, Payload: []byte{1}}
			}
			// With one owner away, what the others know is restored, and the loss stays.
			away := cluster.DiskID{'b', 0}
			r.dead[away] = true
			run(t, re.Run)
			pass(3 * time.Second)
			if d.Loss() == nil {
				t.Fatal("done without having heard every owner")
			}
			if p, ok := re.Progress(d.ID()); !ok || p.Waiting == "" || p.Groups == 0 || p.Done == p.Groups {
				t.Fatalf("%v %+v", ok, p)
			}
			r.mu.Lock()
			clear(r.dead)
			r.mu.Unlock()
			pass(time.Minute)
			if d.Loss() != nil {
				p, _ := re.Progress(d.ID())
				t.Fatalf("not done: %+v", p)
			}
			r.mu.Lock()
			defer r.mu.Unlock()
			if len(d.stored) != len(had) {
				t.Errorf("%d shards, had %d", len(d.stored), len(had))
			}
			for k, s := range had {
				if got := d.stored[k]; !bytes.Equal(got.Payload, s.Payload) || !slices.Equal(got.Sums, s.Sums) || got.Profile != p {
					t.Errorf("%s: %d bytes", k, len(got.Payload))
				}
			}
		})
	}
}

// A damaged source is not trusted: another takes its place, or the shard waits.
func TestRestoreTrustsNobody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, d, had, re := restoring(t, cluster.Profile{K: 2})
		var bad cluster.ShardKey
		for k := range had {
			if k.PG != 0 {
				bad = k
				break
			}
		}
		flipped := 0
		for i := range cluster.ShardIndex(4) {
			if k := bad; i != bad.Index && flipped < 2 {
				k.Index = i
				r.flip(k)
				flipped++
			}
		}
		run(t, re.Run)
		pass(time.Minute)
		r.mu.Lock()
		_, there := d.stored[bad]
		n := len(d.stored)
		r.mu.Unlock()
		if d.Loss() == nil || there || n != len(had)-1 {
			t.Fatalf("loss %v, there %v, %d of %d shards", d.Loss(), there, n, len(had))
		}
	})
}
