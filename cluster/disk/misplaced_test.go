package disk

import (
	"errors"
	"io"
	"log/slog"
	"testing"

	"bivalve/cluster"
	"bivalve/cluster/disk/disktest"
	"bivalve/cluster/disk/vfs"
)

// twin is a disk in memory on which the same calls have put other bytes to the
// same places.
type twin struct {
	t     *testing.T
	mem   *vfs.MemFS
	cfg   Config
	index *memTable
	size  int
	at    map[cluster.ShardKey]place
}

// twinKeys lie on each twin, several to a segment.
const twinKeys = 12

func newTwin(t *testing.T, size int, o owner, payloads uint64, gen uint32) *twin {
	w := &twin{t: t, mem: vfs.NewMemFS(1<<30, true), index: &memTable{}, size: size, at: map[cluster.ShardKey]place{}}
	w.cfg = testConfig(t, w.mem)
	w.cfg.Cluster, w.cfg.ID, w.cfg.table = o.cluster, o.disk, w.index
	w.cfg.SegmentBytes = max(minSegmentBytes, int64(size)*4)
	mustFormat(t, w.cfg)
	d := mustOpen(t, w.cfg)
	for i := range twinKeys {
		add(t, d, w.shard(i, payloads, gen))
		w.at[w.key(i)], _, _ = d.lookup(w.key(i))
	}
	mustClose(t, d)
	return w
}

func (w *twin) key(i int) cluster.ShardKey { return disktest.Key(1, i) }

func (w *twin) shard(i int, payloads uint64, gen uint32) cluster.Shard {
	s := disktest.Shard(w.key(i), w.size, payloads+uint64(i))
	s.Generation = gen
	return s
}

func (w *twin) path(p place) string { return w.cfg.Dir + "/" + segmentName(p.segment, w.kind()) }

func (w *twin) kind() segmentKind {
	if w.size >= LargeBytes {
		return largeSegment
	}
	return smallSegment
}

// record is the bytes of a record with its padding, put writes them elsewhere.
func (w *twin) record(p place) []byte {
	f, err := w.mem.OpenRead(w.path(p))
	if err != nil {
		w.t.Fatal(err)
	}
	b := make([]byte, shapeOf(w.kind()).size(p.length))
	if _, err := f.ReadVec([][]byte{b}, p.offset); err != nil && err != io.EOF {
		w.t.Fatal(err)
	}
	return b
}

func (w *twin) put(p place, b []byte) {
	f, err := w.mem.OpenWrite(w.path(p), false)
	if err == nil {
		_, err = f.WriteVec([][]byte{b}, p.offset)
	}
	if err != nil {
		w.t.Fatal(err)
	}
}

// A valid record in the place of another is found out: it may come from another
// place, segment, disk or cluster, or be of another generation of the same shard,
// as after a misdirected write or a copied file.
func TestMisplacedRecords(t *testing.T) {
	here := owner{[16]byte{1}, cluster.DiskID{2}}
	const victim = 4
	for _, size := range []int{15_000, 70_000} {
		for name, from := range map[string]struct {
			o   owner
			gen uint32
			key int // whose record it is
		}{
			"another place":                       {here, 1, victim - 1},
			"another segment":                     {here, 1, -1},
			"another disk":                        {owner{here.cluster, cluster.DiskID{3}}, 1, victim},
			"another cluster":                     {owner{[16]byte{4}, here.disk}, 1, victim},
			"another generation, of another disk": {owner{here.cluster, cluster.DiskID{3}}, 0, victim},
			"a newer generation, of another disk": {owner{here.cluster, cluster.DiskID{3}}, 2, victim},
		} {
			w := newTwin(t, size, here, 0, 1)
			source := newTwin(t, size, from.o, 100, from.gen)
			if from.o == here {
				source = w
			}
			target := w.at[w.key(victim)]
			if from.key < 0 { // the same offset of another segment
				for i := range twinKeys {
					if p := w.at[w.key(i)]; p.offset == target.offset && p.segment != target.segment {
						from.key = i
					}
				}
			}
			b := source.record(source.at[w.key(from.key)])
			d := mustOpen(t, w.cfg)
			w.put(target, b)
			w.mustNotice(name+", open", d, victim, false)
			mustClose(t, d)
			for _, table := range []*memTable{w.index, {}} {
				a := &alarms{}
				w.cfg.table, w.cfg.Logger = table, slog.New(a)
				d = mustOpen(t, w.cfg)
				lost := table != w.index
				w.mustNotice(name+", opened again", d, victim, lost)
				mustClose(t, d)
				if err := a.err(func(string) bool { return false }); lost && err == nil {
					t.Errorf("%s, %d bytes: nothing was reported when the index was rebuilt", name, size)
				}
			}
		}
	}
}

// mustNotice reads all: the victim is corrupt, or gone if the index is lost too;
// the others are as they were.
func (w *twin) mustNotice(name string, d *Disk, victim int, lost bool) {
	w.t.Helper()
	for i := range twinKeys {
		got, err := disktest.ReadWhole(w.t.Context(), d, w.key(i))
		switch {
		case i != victim && err != nil:
			w.t.Errorf("%s, %d bytes: shard %d: %v", name, w.size, i, err)
		case i == victim && !errors.Is(err, cluster.ErrCorrupt) && !(lost && errors.Is(err, cluster.ErrNotFound)):
			w.t.Errorf("%s, %d bytes: the wrong record was not noticed: %d bytes, %v", name, w.size, len(got), err)
		}
	}
}

// An older generation of the shard itself, written over the newer one.
func TestOlderGenerationOverNewer(t *testing.T) {
	for _, size := range []int{3000, 70_000} {
		w := newTwin(t, size, owner{[16]byte{1}, cluster.DiskID{2}}, 0, 1)
		older := w.at[w.key(4)]
		d := mustOpen(t, w.cfg)
		add(t, d, w.shard(4, 50, 2), w.shard(5, 50, 2))
		newer, _, _ := d.lookup(w.key(4))
		mustClose(t, d)
		w.put(newer, w.record(older))
		d = mustOpen(t, w.cfg)
		w.mustNotice("older over newer", d, 4, false)
		mustClose(t, d)
	}
}
