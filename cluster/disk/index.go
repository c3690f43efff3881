package disk

import (
	"cmp"
	"slices"
	"sync"

	"bivalve/cluster"
)

// place says where the one live record of a key lies, and what is in it.
type place struct {
	segment uint64
	offset  int64
	length  uint32 // of the payload
	gen     uint32
	profile cluster.Profile
	flags   uint8
	prior   uint64 // header.target: where the one older record of the key lies
	seq     uint64
	content uint64 // contentHash
}

// segmentState is what a checkpoint keeps of a segment: records before end are
// in the table.
type segmentState struct {
	end, live, tombs, punched, shards int64
}

// checkpointMeta goes with the rows of a checkpoint, in one transaction.
type checkpointMeta struct {
	seq      uint64
	complete bool // false while a rebuild is under way
	segments map[uint64]segmentState
}

// table is the part of the index that survives a restart: bbolt on a real disk,
// a map elsewhere. It is a cache of the segments. Safe for concurrent use.
type table interface {
	get(cluster.ShardKey) (place, bool, error)
	// scan calls fn in key order for the rows of pg after the given key.
	scan(pg cluster.PG, after *cluster.ShardKey, fn func(cluster.ShardKey, place) bool) error
	// write applies all changes and the meta, or nothing.
	write(changes overlay, meta checkpointMeta) error
	// meta is that of the last write; complete is false for a new table.
	meta() (checkpointMeta, error)
	close() error
}

// change is a row that the table does not have yet.
type change struct {
	place   place
	deleted bool
}

// overlay holds changes by placement group, so that a list of one group does not
// walk the others.
type overlay map[cluster.PG]map[cluster.ShardKey]change

func (o overlay) set(k cluster.ShardKey, c change) (added int) {
	m := o[k.PG]
	if m == nil {
		m = map[cluster.ShardKey]change{}
		o[k.PG] = m
	}
	before := len(m)
	m[k] = c
	return len(m) - before
}

// index is the table and, over it, two layers of changes: fresh takes new ones,
// frozen is on its way into the table.
type index struct {
	mu     *sync.RWMutex // Disk.mu
	fresh  overlay
	frozen overlay
	count  int // rows in fresh
	table  table
}

// get looks the key up. The caller does not hold mu.
func (x *index) get(k cluster.ShardKey) (place, bool, error) {
	x.mu.RLock()
	c, known := x.changed(k)
	x.mu.RUnlock()
	if known {
		return c.place, !c.deleted, nil
	}
	// A change that is gone from both layers by now is in the table.
	return x.table.get(k)
}

func (x *index) changed(k cluster.ShardKey) (change, bool) {
	if c, ok := x.fresh[k.PG][k]; ok {
		return c, true
	}
	c, ok := x.frozen[k.PG][k]
	return c, ok
}

// put and drop change a row; the caller holds mu for writing.
func (x *index) put(k cluster.ShardKey, p place) { x.count += x.fresh.set(k, change{place: p}) }
func (x *index) drop(k cluster.ShardKey)         { x.count += x.fresh.set(k, change{deleted: true}) }

type row struct {
	key   cluster.ShardKey
	place place
}

// list returns up to limit live rows of pg after the given key, in key order.
func (x *index) list(pg cluster.PG, after *cluster.ShardKey, limit int) ([]row, error) {
	x.mu.RLock()
	changes := map[cluster.ShardKey]change{}
	for _, layer := range []overlay{x.frozen, x.fresh} {
		for k, c := range layer[pg] {
			if after == nil || compareKeys(k, *after) > 0 {
				changes[k] = c
			}
		}
	}
	x.mu.RUnlock()
	rows := make([]row, 0, len(changes))
	for k, c := range changes {
		if !c.deleted {
			rows = append(rows, row{k, c.place})
		}
	}
	slices.SortFunc(rows, func(a, b row) int { return compareKeys(a.key, b.key) })
	if len(rows) > limit {
		rows = rows[:limit]
	}
	// Of the table's rows no more than limit can matter.
	n := 0
	err := x.table.scan(pg, after, func(k cluster.ShardKey, p place) bool {
		if _, known := changes[k]; !known {
			rows = append(rows, row{k, p})
			n++
		}
		return n < limit
	})
	if err != nil {
		return nil, err
	}
	slices.SortFunc(rows, func(a, b row) int { return compareKeys(a.key, b.key) })
	return rows[:min(limit, len(rows))], nil
}

func compareKeys(a, b cluster.ShardKey) int {
	return cmp.Or(cmp.Compare(a.PG, b.PG), slices.Compare(a.Blob[:], b.Blob[:]),
		cmp.Compare(a.Chunk, b.Chunk), cmp.Compare(a.Index, b.Index))
}

// memTable is a table that lives as long as the process.
type memTable struct {
	mu   sync.RWMutex
	rows overlay
	last checkpointMeta
}

func (t *memTable) get(k cluster.ShardKey) (place, bool, error) {
	t.mu.RLock()
	defer t.mu.RUnlock()
	c, ok := t.rows[k.PG][k]
	return c.place, ok, nil
}

func (t *memTable) scan(pg cluster.PG, after *cluster.ShardKey, fn func(cluster.ShardKey, place) bool) error {
	t.mu.RLock()
	var rows []row
	for k, c := range t.rows[pg] {
		if after == nil || compareKeys(k, *after) > 0 {
			rows = append(rows, row{k, c.place})
		}
	}
	t.mu.RUnlock()
	slices.SortFunc(rows, func(a, b row) int { return compareKeys(a.key, b.key) })
	for _, r := range rows {
		if !fn(r.key, r.place) {
			break
		}
	}
	return nil
}

func (t *memTable) write(changes overlay, meta checkpointMeta) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.rows == nil {
		t.rows = overlay{}
	}
	for pg, m := range changes {
		for k, c := range m {
			if c.deleted {
				delete(t.rows[pg], k)
			} else {
				t.rows.set(k, c)
			}
		}
	}
	t.last = meta
	return nil
}

func (t *memTable) meta() (checkpointMeta, error) {
	t.mu.RLock()
	defer t.mu.RUnlock()
	return t.last, nil
}

func (t *memTable) close() error { return nil }
