package upkeep

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"bivalve/cluster"
	"bivalve/cluster/disk"
	"bivalve/cluster/placement"
	"bivalve/erasure"
	"bivalve/metadata"

	"github.com/prometheus/client_golang/prometheus"
)

// mendRegion is the disks of a region and one mender, of the node of disk home.
type mendRegion struct {
	layout *cluster.Layout
	mender *Mender
	marks  *marked
	metric *prometheus.Registry

	mu      sync.Mutex
	disks   map[cluster.DiskID]*mendDisk
	home    []cluster.DiskID
	dead    map[cluster.DiskID]bool
	reports []string
	reads   []cluster.ShardKey
	listed  map[cluster.DiskID]int  // how often a disk was asked for a page
	lost    map[cluster.DiskID]bool // disks that know of a loss
	counts  fakeCounts
}

// mendDisk keeps shards, and remembers which are damaged.
type mendDisk struct {
	id      cluster.DiskID
	r       *mendRegion
	stored  map[cluster.ShardKey]cluster.Shard
	damaged []disk.DamagedShard
	news    chan struct{}
	full    bool
	mended  int
}

func (d *mendDisk) ID() cluster.DiskID { return d.id }
func (d *mendDisk) Failed() error      { return nil }

func (d *mendDisk) Damaged(limit int) []disk.DamagedShard {
	d.r.mu.Lock()
	defer d.r.mu.Unlock()
	return slices.Clone(d.damaged[:min(limit, len(d.damaged))])
}

func (d *mendDisk) DamageFound() <-chan struct{} {
	d.r.mu.Lock()
	defer d.r.mu.Unlock()
	return d.news
}

func (d *mendDisk) Mend(_ context.Context, s cluster.Shard) error {
	d.r.mu.Lock()
	defer d.r.mu.Unlock()
	old, lives := d.stored[s.Key]
	switch {
	case !lives:
		d.forget(s.Key)
		return cluster.ErrNotFound
	case d.full:
		return cluster.ErrDiskFull
	case !slices.Equal(s.Sums, old.Sums) || s.Profile != old.Profile:
		return cluster.ErrInvalid
	}
	s.Payload = slices.Clone(s.Payload)
	d.stored[s.Key] = s
	d.forget(s.Key)
	d.mended++
	return nil
}

func (d *mendDisk) Check(_ context.Context, key cluster.ShardKey) error {
	d.r.mu.Lock()
	s, ok := d.stored[key]
	d.r.mu.Unlock()
	if !ok {
		return cluster.ErrNotFound
	}
	if _, ok := erasure.Verify(s.Payload, s.Sums); ok {
		return nil
	}
	d.r.find(key)
	return cluster.ErrCorrupt
}

func (d *mendDisk) forget(k cluster.ShardKey) {
	d.damaged = slices.DeleteFunc(d.damaged, func(s disk.DamagedShard) bool { return s.Key == k })
}

func (r *mendRegion) ReadShard(_ context.Context, to cluster.NodeID, id cluster.DiskID, key cluster.ShardKey, br cluster.BlockRange, dst []byte) (cluster.BlockRead, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.dead[id] {
		return cluster.BlockRead{}, fmt.Errorf("%w: %s", cluster.ErrUnreachable, to)
	}
	r.reads = append(r.reads, key)
	s, ok := r.disks[id].stored[key]
	if !ok {
		return cluster.BlockRead{}, cluster.ErrNotFound
	}
	return cluster.BlockRead{ShardBytes: len(s.Payload), Bytes: copy(dst, s.Payload), Sums: s.Sums}, nil
}

func (r *mendRegion) Damaged(id cluster.DiskID, key cluster.ShardKey, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.reports = append(r.reports, fmt.Sprintf("shard %d: %v", key.Index, errors.Is(err, cluster.ErrCorrupt)))
}

// newMendRegion has one disk per node and as many nodes as the profile needs. The
// mender runs on the node of the first disk of zone a.
func newMendRegion(t *testing.T, p cluster.Profile) *mendRegion {
	t.Helper()
	r := &mendRegion{disks: map[cluster.DiskID]*mendDisk{}, dead: map[cluster.DiskID]bool{}, listed: map[cluster.DiskID]int{}, lost: map[cluster.DiskID]bool{}, metric: prometheus.NewRegistry(),
		marks: &marked{held: map[cluster.BlobID]metadata.BlobState{}, bits: map[cluster.ShardKey]uint64{}}}
	var members []cluster.Member
	for _, z := range zones {
		for n := range p.PerZone() {
			id := cluster.NodeID(fmt.Sprint(z, n))
			d := cluster.Disk{ID: cluster.DiskID{z[0], byte(n)}, Node: id, Weight: 1}
			members = append(members, cluster.Member{ID: id, Zone: z, Role: cluster.RoleStorage, Disks: []cluster.Disk{d}})
			r.disks[d.ID] = &mendDisk{id: d.ID, r: r, stored: map[cluster.ShardKey]cluster.Shard{}, news: make(chan struct{})}
		}
	}
	var err error
	if r.layout, err = placement.Compute(placement.Input{Members: members, Zones: zones, Profile: p, PGs: 8, Epoch: 1}); err != nil {
		t.Fatal(err)
	}
	r.home = []cluster.DiskID{{'a', 0}}
	r.mender, err = NewMender(MenderConfig{
		Disks: func() (out []MendDisk) {
			for _, id := range r.home {
				out = append(out, r.disks[id])
			}
			return out
		},
		Dir: t.TempDir(), Shards: r, Layout: func() *cluster.Layout { return r.layout }, Reports: r, Zone: "a",
		DiskUp: func(d cluster.Disk) bool { r.mu.Lock(); defer r.mu.Unlock(); return !r.dead[d.ID] },
		Logger: quiet, Registry: r.metric, Now: time.Now,
	})
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// write stores a chunk and returns the key of the home disk's shard.
func (r *mendRegion) write(t *testing.T, pg cluster.PG, size int) cluster.ShardKey {
	t.Helper()
	geo := erasure.Geometry{K: int(r.layout.Profile.K), M: int(r.layout.Profile.M)}
	codec, err := erasure.NewCodec(geo)
	if err != nil {
		t.Fatal(err)
	}
	shards := make([][]byte, geo.Shards())
	for i := range shards {
		shards[i] = bytes.Repeat([]byte{byte(i), byte(pg), 7}, size)[:size]
	}
	if err := codec.Encode(shards); err != nil {
		t.Fatal(err)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	var home cluster.ShardKey
	for i, payload := range shards {
		s := cluster.Shard{Key: cluster.ShardKey{PG: pg, Blob: cluster.BlobID{9}, Chunk: 3, Index: cluster.ShardIndex(i)},
			Profile: r.layout.Profile, Sums: erasure.Sums(nil, payload), Payload: payload}
		id := r.layout.Disk(pg, s.Key.Index).ID
		r.disks[id].stored[s.Key] = s
		if id == r.home[0] {
			home = s.Key
		}
	}
	return home
}

// flip damages a stored shard; find makes the home disk know it.
func (r *mendRegion) flip(key cluster.ShardKey) {
	r.mu.Lock()
	defer r.mu.Unlock()
	d := r.disks[r.layout.Disk(key.PG, key.Index).ID]
	s := d.stored[key]
	s.Payload = slices.Clone(s.Payload)
	s.Payload[len(s.Payload)/2] ^= 4
	d.stored[key] = s
}

func (r *mendRegion) find(key cluster.ShardKey) {
	r.mu.Lock()
	defer r.mu.Unlock()
	d := r.disks[r.home[0]]
	s := d.stored[key]
	d.damaged = append(d.damaged, disk.DamagedShard{Key: key, Profile: r.layout.Profile, Bytes: len(s.Payload), Since: time.Now()})
	close(d.news)
	d.news = make(chan struct{})
}

func (r *mendRegion) other(key cluster.ShardKey, n int) cluster.ShardKey {
	for i := range cluster.ShardIndex(2 * r.layout.Profile.PerZone()) {
		if i != key.Index && r.layout.ZoneOf(key.PG, i) == "a" {
			if n == 0 {
				key.Index = i
				return key
			}
			n--
		}
	}
	panic("no such shard in zone a")
}

// whole fails unless the home shard is what its sums say and nothing is damaged.
func (r *mendRegion) whole(t *testing.T, key cluster.ShardKey) {
	t.Helper()
	r.mu.Lock()
	defer r.mu.Unlock()
	d := r.disks[r.home[0]]
	s := d.stored[key]
	if _, ok := erasure.Verify(s.Payload, s.Sums); !ok || s.Generation != 1 || len(d.damaged) != 0 {
		t.Errorf("verified %v, generation %d, %d damaged", ok, s.Generation, len(d.damaged))
	}
}

func (r *mendRegion) counter(t *testing.T, name, from string) float64 {
	t.Helper()
	families, err := r.metric.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		for _, m := range f.Metric {
			if f.GetName() == name && (from == "" || m.Label[0].GetValue() == from) {
				return m.Counter.GetValue()
			}
		}
	}
	return 0
}

// mending runs a mender in a bubble of its own.
func mending(t *testing.T, name string, p cluster.Profile, body func(t *testing.T, r *mendRegion)) {
	t.Run(name, func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			r := newMendRegion(t, p)
			run(t, r.mender.Run)
			pass(time.Second)
			body(t, r)
		})
	})
}

func TestMender(t *testing.T) {
	standard, lean, mirror := cluster.Profile{K: 2, M: 1}, cluster.Profile{K: 2}, cluster.Profile{K: 1}
	const size = 100_000
	for _, pg := range []cluster.PG{0, 1} { // of each zone the systematic half once
		mending(t, fmt.Sprintf("at once, from its own zone, pg %d", pg), standard, func(t *testing.T, r *mendRegion) {
			key := r.write(t, pg, size)
			r.flip(key)
			r.find(key)
			synctest.Wait()
			r.whole(t, key)
			if own, other := r.counter(t, "bivalve_mended_bytes_total", "own"), r.counter(t, "bivalve_mended_bytes_total", "other"); own != 2*size || other != 0 {
				t.Errorf("%v bytes of its own zone, %v of the other", own, other)
			}
			if n := r.counter(t, "bivalve_mended_shards_total", ""); n != 1 {
				t.Errorf("%v shards mended", n)
			}
		})
	}
	mending(t, "m = 0: one shard must cross", lean, func(t *testing.T, r *mendRegion) {
		key := r.write(t, 0, size)
		r.flip(key)
		r.find(key)
		synctest.Wait()
		r.whole(t, key)
		if own, other := r.counter(t, "bivalve_mended_bytes_total", "own"), r.counter(t, "bivalve_mended_bytes_total", "other"); own != size || other != size {
			t.Errorf("%v bytes of its own zone, %v of the other", own, other)
		}
	})
	mending(t, "mirrors", mirror, func(t *testing.T, r *mendRegion) {
		key := r.write(t, 0, 1)
		r.flip(key)
		r.find(key)
		synctest.Wait()
		r.whole(t, key)
	})
	mending(t, "a corrupt source is left and reported", standard, func(t *testing.T, r *mendRegion) {
		key := r.write(t, 0, size)
		r.flip(key)
		bad := r.other(key, 0)
		r.flip(bad)
		r.find(key)
		pass(time.Second)
		r.whole(t, key)
		if want := fmt.Sprintf("shard %d: true", bad.Index); len(r.reports) != 1 || r.reports[0] != want {
			t.Errorf("%v, want %s", r.reports, want)
		}
		if other := r.counter(t, "bivalve_mended_bytes_total", "other"); other != size {
			t.Errorf("%v bytes of the other zone", other)
		}
	})
	mending(t, "too few within reach, then enough", standard, func(t *testing.T, r *mendRegion) {
		key := r.write(t, 1, size)
		r.flip(key)
		r.mu.Lock()
		for id := range r.disks {
			r.dead[id] = id != r.home[0]
		}
		delete(r.dead, r.layout.Disk(key.PG, r.other(key, 0).Index).ID)
		r.mu.Unlock()
		r.find(key)
		pass(10 * time.Minute)
		if s := r.mender.Stuck(r.home[0]); s.Shards != 1 || !strings.Contains(s.Why, "cannot be mended now: 1 of 2 shards") {
			t.Errorf("%+v", s)
		}
		if n := len(r.disks[r.home[0]].Damaged(9)); n != 1 || len(r.reads) > 20 {
			t.Errorf("%d damaged after %d reads", n, len(r.reads))
		}
		r.mu.Lock()
		clear(r.dead)
		r.mu.Unlock()
		pass(mendRetryMost)
		r.whole(t, key)
		if s := r.mender.Stuck(r.home[0]); s.Shards != 0 {
			t.Errorf("%+v", s)
		}
	})
	mending(t, "more damage than can be rebuilt stays, until a shard returns", standard, func(t *testing.T, r *mendRegion) {
		key := r.write(t, 0, size)
		for i := range cluster.ShardIndex(6) {
			if k := key; i != 5 || key.Index == 5 {
				k.Index = i
				r.flip(k)
			}
		}
		r.find(key)
		pass(time.Hour)
		d := r.disks[r.home[0]]
		if _, kept := d.stored[key]; !kept || len(d.Damaged(9)) != 1 || r.mender.Stuck(d.id).Shards != 1 {
			t.Fatalf("kept %v, %+v", kept, r.mender.Stuck(d.id))
		}
		again := key
		if again.Index = 0; key.Index == 0 {
			again.Index = 1
		}
		r.flip(again) // back
		pass(mendRetryMost)
		r.whole(t, key)
	})
	mending(t, "deleted meanwhile stays deleted", standard, func(t *testing.T, r *mendRegion) {
		key := r.write(t, 0, size)
		r.find(key)
		r.mu.Lock()
		delete(r.disks[r.home[0]].stored, key)
		r.mu.Unlock()
		synctest.Wait()
		d := r.disks[r.home[0]]
		if _, back := d.stored[key]; back || len(d.Damaged(9)) != 0 || r.mender.Stuck(d.id).Shards != 0 {
			t.Errorf("back %v, %+v", back, r.mender.Stuck(d.id))
		}
	})
	mending(t, "a wrong rebuild is refused", standard, func(t *testing.T, r *mendRegion) {
		key := r.write(t, 0, size)
		r.flip(key)
		for n := range 2 { // sources that verify, but are of another writing
			k := r.other(key, n)
			r.flip(k)
			d := r.disks[r.layout.Disk(k.PG, k.Index).ID]
			s := d.stored[k]
			s.Sums = erasure.Sums(nil, s.Payload)
			d.stored[k] = s
		}
		r.find(key)
		pass(time.Minute)
		d := r.disks[r.home[0]]
		if d.mended != 0 || d.stored[key].Generation != 0 || r.mender.Stuck(d.id).Shards != 1 {
			t.Errorf("mended %d times, %+v", d.mended, r.mender.Stuck(d.id))
		}
	})
	mending(t, "a full disk keeps its list", standard, func(t *testing.T, r *mendRegion) {
		key := r.write(t, 0, size)
		r.flip(key)
		r.mu.Lock()
		r.disks[r.home[0]].full = true
		r.mu.Unlock()
		r.find(key)
		pass(time.Minute)
		if s := r.mender.Stuck(r.home[0]); !strings.Contains(s.Why, cluster.ErrDiskFull.Error()) {
			t.Errorf("%+v", s)
		}
		r.mu.Lock()
		r.disks[r.home[0]].full = false
		r.mu.Unlock()
		pass(mendRetryMost)
		r.whole(t, key)
	})
	mending(t, "those that wait do not keep those behind them", standard, func(t *testing.T, r *mendRegion) {
		for i := range 2 * mendBatch {
			key := cluster.ShardKey{PG: 0, Blob: cluster.BlobID{byte(i), byte(i >> 8)}, Index: 0}
			r.disks[r.home[0]].stored[key] = cluster.Shard{Key: key, Payload: []byte("x")}
			r.find(key) // none of the others has anything of it
		}
		for pg := range cluster.PG(8) {
			key := r.write(t, pg, 300_000)
			r.flip(key)
			r.find(key)
		}
		pass(10 * time.Second)
		if n := r.counter(t, "bivalve_mended_shards_total", ""); n != 8 {
			t.Errorf("%v shards mended", n)
		}
		if s := r.mender.Stuck(r.home[0]); s.Shards != 2*mendBatch {
			t.Errorf("%+v", s)
		}
	})
}

// TestMenderRate: what is read stays below the rate.
func TestMenderRate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newMendRegion(t, cluster.Profile{K: 2, M: 1})
		r.mender.cfg.Rate = 1 << 20
		for pg := range cluster.PG(4) {
			key := r.write(t, pg, 1<<20)
			r.flip(key)
			r.find(key)
		}
		run(t, r.mender.Run)
		// Each repair reads 2 MiB: they begin after 0, 2, 4 and 6 seconds.
		pass(5 * time.Second)
		if n := r.counter(t, "bivalve_mended_shards_total", ""); n != 3 {
			t.Errorf("%v shards mended after 5s", n)
		}
		pass(2 * time.Second)
		if n := r.counter(t, "bivalve_mended_shards_total", ""); n != 4 {
			t.Errorf("%v shards mended after 7s", n)
		}
	})
}

// TestMenderFollowsDisks that come and go.
func TestMenderFollowsDisks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newMendRegion(t, cluster.Profile{K: 2, M: 1})
		home := r.home
		var mu sync.Mutex
		disks := r.mender.cfg.Disks
		r.mender.cfg.Disks = func() []MendDisk { mu.Lock(); defer mu.Unlock(); return disks() }
		set := func(ids []cluster.DiskID) { mu.Lock(); r.home = ids; mu.Unlock() }
		key := r.write(t, 0, 1000)
		r.flip(key)
		r.find(key)
		set(nil)
		run(t, r.mender.Run)
		pass(time.Minute)
		if n := r.counter(t, "bivalve_mended_shards_total", ""); n != 0 {
			t.Error("mended on a disk out of service")
		}
		set(home)
		pass(2 * time.Second)
		r.whole(t, key)
	})
}

// TestMenderRemembers over a restart what could not be mended, and only that.
func TestMenderRemembers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newMendRegion(t, cluster.Profile{K: 2, M: 1})
		d := r.disks[r.home[0]]
		for id := range r.disks {
			r.dead[id] = id != r.home[0]
		}
		var keys []cluster.ShardKey
		for pg := range cluster.PG(4) {
			keys = append(keys, r.write(t, pg, 1000))
			r.flip(keys[pg])
		}
		life := func(during func()) {
			ctx, end := context.WithCancel(t.Context())
			var wg sync.WaitGroup
			wg.Go(func() {
				if err := r.mender.Run(ctx); err != nil {
					t.Error(err)
				}
			})
			synctest.Wait()
			during()
			end()
			wg.Wait()
			r.mu.Lock()
			d.damaged = nil // the process ended
			r.mu.Unlock()
		}
		life(func() {
			for _, key := range keys {
				r.find(key)
				pass(time.Second)
			}
		})
		life(func() {
			if n := len(d.Damaged(9)); n != 4 {
				t.Errorf("%d of 4 damaged shards were remembered", n)
			}
			r.mu.Lock()
			delete(d.stored, keys[0])
			clear(r.dead)
			r.mu.Unlock()
			pass(mendRetryMost)
		})
		for _, key := range keys[1:] {
			r.whole(t, key)
		}
		life(func() {
			if n := len(d.Damaged(9)); n != 0 || len(r.reads) > 8 {
				t.Errorf("%d shards are damaged, %d reads", n, len(r.reads))
			}
		})
		if names, err := os.ReadDir(r.mender.cfg.Dir); err != nil || len(names) != 0 {
			t.Errorf("%v are left, %v", names, err)
		}
	})
}
