package object

import (
	"bytes"
	"context"
	"crypto/md5"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	mrand "math/rand/v2"
	"sync"
	"testing"
	"time"
	"unsafe"

	"bivalve/cluster"
	"bivalve/cluster/placement"
	"bivalve/erasure"
	"bivalve/metadata"
	"bivalve/metadata/catalog"
	"bivalve/metadata/catalog/catalogtest"

	"go.uber.org/goleak"
	"golang.org/x/sync/semaphore"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// costly are the geometries that a test of much memory tries: one with -short, as the race
// detector runs, which makes each large buffer cost many times as much.
func costly(all ...erasure.Geometry) []erasure.Geometry {
	if testing.Short() {
		return all[1:2]
	}
	return all
}

// op names a call in hooks.
type op string

const (
	opAppend op = "append"
	opRead   op = "read"
	opDelete op = "delete"
)

// call is one call of the engine to a disk.
type call struct {
	op    op
	node  cluster.NodeID
	disk  cluster.DiskID
	key   cluster.ShardKey
	rows  cluster.BlockRange
	bytes int // of dst
}

// hook decides about a call: whether it takes effect, and what the caller hears.
type hook func(ctx context.Context, c call) (apply bool, err error)

type stored struct {
	payload []byte
	sums    []uint64
}

// fakeShards keeps shards by disk, as the disks of a region would.
type fakeShards struct {
	region *fakeRegion

	mu    sync.Mutex
	disks map[cluster.DiskID]map[cluster.ShardKey]stored
	epoch map[cluster.NodeID]cluster.Epoch // what a node believes; absent: the region's
	hook  hook
	calls []call
}

func (f *fakeShards) setHook(h hook) {
	f.mu.Lock()
	f.hook, f.calls = h, nil
	f.mu.Unlock()
}

// late waits for d, in a hook: the call takes effect then, or its context ends before. It
// makes no timer that is due already: in a synctest bubble, receivers from such run the
// timer themselves, several at a time, all with the one context that the race detector has
// for a bubble's timers, and it crashes (go1.26, runtime/time.go, maybeRunChan).
func late(ctx context.Context, d time.Duration) (bool, error) {
	if d <= 0 {
		return ctx.Err() == nil, ctx.Err()
	}
	select {
	case <-time.After(d):
		return true, nil
	case <-ctx.Done():
		return false, ctx.Err()
	}
}

func (f *fakeShards) enter(ctx context.Context, c call) (bool, error) {
	f.mu.Lock()
	f.calls = append(f.calls, c)
	h := f.hook
	f.mu.Unlock()
	if !f.region.reachable(c.node) {
		return false, fmt.Errorf("%w: %s", cluster.ErrUnreachable, c.node)
	}
	if h == nil {
		return true, nil
	}
	return h(ctx, c)
}

func (f *fakeShards) AppendShards(ctx context.Context, to cluster.NodeID, epoch cluster.Epoch, disks []cluster.DiskID, shards []cluster.Shard) []error {
	errs := make([]error, len(shards))
	for i, s := range shards {
		apply, err := f.enter(ctx, call{opAppend, to, disks[i], s.Key, cluster.BlockRange{}, len(s.Payload)})
		f.mu.Lock()
		believed, differs := f.epoch[to]
		f.mu.Unlock()
		switch _, ok := erasure.Verify(s.Payload, s.Sums); {
		case !ok:
			err, apply = cluster.ErrInvalid, false
		case differs && believed != epoch, f.region.Layout().Epoch != epoch, !f.region.Layout().Owns(disks[i], s.Key.PG, s.Key.Index):
			err, apply = cluster.ErrWrongEpoch, false
		}
		if apply {
			f.put(disks[i], s.Key, s.Payload, s.Sums)
		}
		errs[i] = err
	}
	return errs
}

func (f *fakeShards) put(d cluster.DiskID, k cluster.ShardKey, payload []byte, sums []uint64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.disks[d] == nil {
		f.disks[d] = map[cluster.ShardKey]stored{}
	}
	f.disks[d][k] = stored{bytes.Clone(payload), append([]uint64(nil), sums...)}
}

func (f *fakeShards) ReadShard(ctx context.Context, to cluster.NodeID, d cluster.DiskID, key cluster.ShardKey, r cluster.BlockRange, dst []byte) (cluster.BlockRead, error) {
	apply, err := f.enter(ctx, call{opRead, to, d, key, r, len(dst)})
	if !apply || err != nil {
		scribble(dst) // a call that fails may have written all over it
		if err == nil {
			err = cluster.ErrUnreachable
		}
		return cluster.BlockRead{}, err
	}
	f.mu.Lock()
	s, ok := f.disks[d][key]
	f.mu.Unlock()
	if !ok {
		return cluster.BlockRead{}, cluster.ErrNotFound
	}
	from := int(r.First) * erasure.BlockBytes
	to2 := len(s.payload)
	if r.Count > 0 {
		to2 = min(to2, int(r.First+r.Count)*erasure.BlockBytes)
	}
	if from >= len(s.payload) || to2-from > len(dst) {
		return cluster.BlockRead{}, cluster.ErrInvalid
	}
	n := copy(dst, s.payload[from:to2])
	return cluster.BlockRead{ShardBytes: len(s.payload), Bytes: n, Sums: s.sums[r.First : int(r.First)+cluster.Blocks(n)]}, nil
}

func scribble(b []byte) {
	if len(b) == 0 {
		return
	}
	b[0] = 0xA5
	for n := 1; n < len(b); n *= 2 { // a byte at a time is slow under -race
		copy(b[n:], b[:n])
	}
}

func (f *fakeShards) DeleteShards(ctx context.Context, to cluster.NodeID, d cluster.DiskID, keys []cluster.ShardKey) error {
	for _, k := range keys {
		apply, err := f.enter(ctx, call{op: opDelete, node: to, disk: d, key: k})
		if apply {
			f.mu.Lock()
			delete(f.disks[d], k)
			f.mu.Unlock()
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// count is how many shards lie on all disks.
func (f *fakeShards) count() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	n := 0
	for _, d := range f.disks {
		n += len(d)
	}
	return n
}

// damage changes what lies under a shard's key; nil removes it.
func (f *fakeShards) damage(c place2, change func(*stored)) {
	f.mu.Lock()
	defer f.mu.Unlock()
	s, ok := f.disks[c.disk.ID][c.key]
	if !ok {
		return
	}
	if change == nil {
		delete(f.disks[c.disk.ID], c.key)
		return
	}
	s.payload = bytes.Clone(s.payload)
	s.sums = append([]uint64(nil), s.sums...)
	change(&s)
	f.disks[c.disk.ID][c.key] = s
}

func (f *fakeShards) callsOf(o op) []call {
	f.mu.Lock()
	defer f.mu.Unlock()
	var out []call
	for _, c := range f.calls {
		if c.op == o {
			out = append(out, c)
		}
	}
	return out
}

// place2 is one shard of one chunk: where, and under which key.
type place2 struct {
	disk cluster.Disk
	key  cluster.ShardKey
	zone cluster.Zone
}

// fakeRegion is what is agreed and what gossip says, both set by the test.
type fakeRegion struct {
	mu      sync.Mutex
	layout  *cluster.Layout
	zoneOf  map[cluster.NodeID]cluster.Zone
	agreed  map[cluster.Zone]bool
	dead    map[cluster.NodeID]bool // does not answer
	suspect map[cluster.NodeID]bool // gossip gave it up
	disks   map[cluster.DiskID]bool // out of service, known at once
	slow    map[cluster.DiskID]bool // agreed to be slow
	changed chan struct{}

	stranded error // nothing can be committed, and nobody is told
}

func (r *fakeRegion) Layout() *cluster.Layout {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.layout
}

func (r *fakeRegion) ZoneDown(z cluster.Zone) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.agreed[z]
}

func (r *fakeRegion) DiskUp(d cluster.Disk) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return !r.suspect[d.Node] && !r.agreed[r.zoneOf[d.Node]] && !r.disks[d.ID]
}

func (r *fakeRegion) DiskSlow(d cluster.Disk) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.slow[d.ID]
}

func (r *fakeRegion) Stranded() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.stranded
}

func (r *fakeRegion) NodeUp(n cluster.NodeID) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return !r.suspect[n] && !r.agreed[r.zoneOf[n]]
}

func (r *fakeRegion) Changed() <-chan struct{} {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.changed
}

func (r *fakeRegion) reachable(n cluster.NodeID) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return !r.dead[n]
}

// set changes the region and tells everybody.
func (r *fakeRegion) set(change func(*fakeRegion)) {
	r.mu.Lock()
	defer r.mu.Unlock()
	change(r)
	close(r.changed)
	r.changed = make(chan struct{})
}

// killZone silences every node of a zone; agreed and gossip stay as they are.
func (r *fakeRegion) killZone(z cluster.Zone, dead bool) {
	r.set(func(r *fakeRegion) {
		for n, zone := range r.zoneOf {
			if zone == z {
				r.dead[n] = dead
			}
		}
	})
}

func (r *fakeRegion) agree(z cluster.Zone, down bool) {
	r.set(func(r *fakeRegion) { r.agreed[z] = down })
}

// fakeBuffers counts what is lent, catches what is given back twice, and spoils
// what is given back, so that a use after that shows.
type fakeBuffers struct {
	t *testing.T

	mu    sync.Mutex
	lent  map[*byte]int
	bytes int64
	peak  int64
	gets  int
}

func (b *fakeBuffers) Get(n int) []byte {
	buf := make([]byte, n)
	scribble(buf)
	b.mu.Lock()
	defer b.mu.Unlock()
	b.lent[unsafe.SliceData(buf)] = n
	b.gets++
	b.bytes += int64(n)
	b.peak = max(b.peak, b.bytes)
	return buf
}

func (b *fakeBuffers) Put(buf []byte) {
	scribble(buf)
	b.mu.Lock()
	defer b.mu.Unlock()
	n, ok := b.lent[unsafe.SliceData(buf)]
	if !ok || n != len(buf) {
		b.t.Errorf("a buffer of %d bytes was given back that was not lent (%d)", len(buf), n)
		return
	}
	delete(b.lent, unsafe.SliceData(buf))
	b.bytes -= int64(n)
}

// fakeDamage keeps what readers reported.
type fakeDamage struct {
	mu   sync.Mutex
	seen map[cluster.ShardKey]error
}

func (d *fakeDamage) Damaged(_ cluster.DiskID, key cluster.ShardKey, err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.seen[key] = err
}

func (d *fakeDamage) count() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return len(d.seen)
}

// rig is a Store over fakes, with the real catalog and index.
type rig struct {
	*Store
	t       *testing.T
	geo     erasure.Geometry
	shards  *fakeShards
	region  *fakeRegion
	buffers *fakeBuffers
	damage  *fakeDamage
	groups  *catalogtest.Groups
	catalog *catalog.Catalog
}

const (
	zoneA cluster.Zone = "a"
	zoneB cluster.Zone = "b"
)

// rigOption changes a rig before it is built.
type rigOption func(*rigConfig)

type rigConfig struct {
	nodes, disks, pgs int // per zone, per node
	partitions        int
	Config
}

func nodes(n int) rigOption          { return func(c *rigConfig) { c.nodes = n } }
func budget(n int64) rigOption       { return func(c *rigConfig) { c.BudgetBytes = n } }
func with(f func(*Config)) rigOption { return func(c *rigConfig) { f(&c.Config) } }

// newRig makes a region of k+m nodes per zone with a disk each, and a store of a
// node in zone a.
func newRig(t *testing.T, geo erasure.Geometry, options ...rigOption) *rig {
	t.Helper()
	c := rigConfig{nodes: geo.PerZone(), disks: 1, pgs: 32, partitions: 1, Config: Config{Zone: zoneA}}
	for _, o := range options {
		o(&c)
	}
	r := &rig{t: t, geo: geo}
	r.region = &fakeRegion{zoneOf: map[cluster.NodeID]cluster.Zone{}, agreed: map[cluster.Zone]bool{}, dead: map[cluster.NodeID]bool{},
		suspect: map[cluster.NodeID]bool{}, disks: map[cluster.DiskID]bool{}, slow: map[cluster.DiskID]bool{}, changed: make(chan struct{})}
	r.region.layout = makeLayout(t, r.region, c, geo, 1, nil)
	r.shards = &fakeShards{region: r.region, disks: map[cluster.DiskID]map[cluster.ShardKey]stored{}, epoch: map[cluster.NodeID]cluster.Epoch{}}
	r.buffers = &fakeBuffers{t: t, lent: map[*byte]int{}}
	r.damage = &fakeDamage{seen: map[cluster.ShardKey]error{}}
	r.groups = catalogtest.Open(t, c.partitions)
	r.catalog = r.groups.Catalog(t)
	c.Versions, c.Buckets, c.Settings, c.Uploads, c.References, c.Usages = r.catalog, r.catalog, r.catalog, r.catalog, r.catalog, r.catalog
	c.Shards, c.Region, c.Damage, c.Buffers = r.shards, r.region, r.damage, r.buffers
	c.Random = func(p []byte) error { _, err := rand.Read(p); return err }
	var err error
	if r.Store, err = New(c.Config); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		r.settled()
		if err := r.Close(); err != nil {
			t.Error(err)
		}
	})
	if _, err := r.CreateBucket(t.Context(), "bucket"); err != nil {
		t.Fatal(err)
	}
	return r
}

func makeLayout(t *testing.T, region *fakeRegion, c rigConfig, geo erasure.Geometry, epoch cluster.Epoch, before *cluster.Layout) *cluster.Layout {
	t.Helper()
	in := placement.Input{Zones: [2]cluster.Zone{zoneA, zoneB}, Profile: cluster.Profile{K: uint8(geo.K), M: uint8(geo.M)},
		PGs: c.pgs, Epoch: epoch, Before: before}
	for _, z := range in.Zones {
		for n := range c.nodes {
			m := cluster.Member{ID: cluster.NodeID(fmt.Sprintf("%s%d", z, n)), Zone: z, Role: cluster.RoleStorage}
			region.zoneOf[m.ID] = z
			for d := range c.disks {
				m.Disks = append(m.Disks, cluster.Disk{ID: cluster.DiskID{z[0], byte(n + 1), byte(d)}, Node: m.ID, Weight: 1})
			}
			in.Members = append(in.Members, m)
		}
	}
	l, err := placement.Compute(in)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// settled checks that all memory and all of the budget came back.
func (r *rig) settled() {
	r.t.Helper()
	r.cleaning.Wait()
	lent, whole := 0, false
	for range 3 * callLife / (10 * time.Millisecond) { // calls that were left behind end by themselves
		r.buffers.mu.Lock()
		lent = len(r.buffers.lent)
		r.buffers.mu.Unlock()
		if whole = r.budget.TryAcquire(r.cfg.BudgetBytes); whole {
			r.budget.Release(r.cfg.BudgetBytes)
		}
		if lent == 0 && whole {
			r.sharesWhole()
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	r.t.Errorf("%d buffers were not given back; the budget is whole: %v", lent, whole)
}

// sharesWhole checks that nobody holds a share of the budget.
func (r *rig) sharesWhole() {
	r.t.Helper()
	for name, share := range map[string]struct {
		of   *semaphore.Weighted
		size int64
	}{
		"arriving":  {r.intakes.arriving, r.cfg.BudgetBytes * arrivingEighths / 8},
		"moderate":  {r.intakes.moderate, r.cfg.BudgetBytes * moderateEighths / 8},
		"slowReads": {r.slowReads, r.cfg.BudgetBytes * readersShare / 16},
	} {
		if !share.of.TryAcquire(share.size) {
			r.t.Errorf("the share %s is not whole", name)
			continue
		}
		share.of.Release(share.size)
	}
	r.left.mu.Lock()
	defer r.left.mu.Unlock()
	if slow := r.slowHeld(); slow != 0 || r.left.bytes != 0 || r.left.chunks != 0 || r.waiters.Load() != 0 {
		r.t.Errorf("still counted: %d bytes of slow bodies, %d of calls left behind, of %d chunks; %d wait", slow, r.left.bytes, r.left.chunks, r.waiters.Load())
	}
}

// body is a Body over bytes; err takes the place of io.EOF.
type body struct {
	io.Reader
	err error
	md5 string
}

func newBody(data []byte) *body {
	sum := md5.Sum(data)
	return &body{Reader: bytes.NewReader(data), md5: hex.EncodeToString(sum[:])}
}

func (b *body) Read(p []byte) (int, error) {
	n, err := b.Reader.Read(p)
	if err == io.EOF && b.err != nil {
		err = b.err
	}
	return n, err
}

func (b *body) Sums() metadata.Sums { return metadata.Sums{MD5: b.md5} }

// pattern is n bytes that differ everywhere, from a seed.
func pattern(n int, seed uint64) []byte {
	out := make([]byte, n)
	c := mrand.NewChaCha8([32]byte{byte(seed), byte(seed >> 8), byte(seed >> 16), 7})
	_, _ = c.Read(out) // never fails
	return out
}

func (r *rig) put(key string, data []byte) (metadata.Version, error) {
	return r.PutObject(r.t.Context(), PutRequest{Bucket: "bucket", Key: key, Bytes: int64(len(data)), Body: newBody(data)})
}

func (r *rig) mustPut(key string, data []byte) metadata.Version {
	r.t.Helper()
	v, err := r.put(key, data)
	if err != nil {
		r.t.Fatal(err)
	}
	return v
}

func (r *rig) get(v metadata.Version, off, n int64) ([]byte, error) {
	rd, err := r.OpenObject(r.t.Context(), v, off, n)
	if err != nil {
		return nil, err
	}
	out, err := io.ReadAll(rd)
	return out, errors.Join(err, rd.Close())
}

// check reads a range and compares.
func (r *rig) check(v metadata.Version, data []byte, off, n int64) {
	r.t.Helper()
	got, err := r.get(v, off, n)
	if err != nil {
		r.t.Fatalf("bytes [%d, +%d) of %d: %v", off, n, len(data), err)
	}
	if !bytes.Equal(got, data[off:off+n]) {
		r.t.Fatalf("bytes [%d, +%d) of %d differ", off, n, len(data))
	}
}

// of lists the shards of one chunk of a version's first blob.
func (r *rig) of(v metadata.Version, chunk uint32) []place2 {
	b := v.Parts[0].Blob
	p, _ := find(r.region.Layout(), b, chunk)
	var out []place2
	for i := range p.geo.Shards() {
		out = append(out, place2{p.disk(i), p.key(cluster.BlobID(b.ID), chunk, i), p.zones()[p.half(i)]})
	}
	return out
}

// putInto stores an object whose first chunk has its systematic shards in zone z.
func (r *rig) putInto(z cluster.Zone, data []byte) metadata.Version {
	r.t.Helper()
	for i := range 200 {
		v := r.mustPut(fmt.Sprintf("k%d", i), data)
		if r.of(v, 0)[0].zone == z {
			return v
		}
	}
	r.t.Fatal("200 objects in the other zone")
	return metadata.Version{}
}
