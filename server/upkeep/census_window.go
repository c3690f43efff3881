package upkeep

import (
	"context"
	"errors"
	"fmt"
	"math"
	"math/bits"
	"slices"
	"sync"

	"bivalve/cluster"
	"bivalve/metadata"
	"bivalve/metadata/replica"

	"golang.org/x/sync/errgroup"
)

// censusWindow is some blobs of a partition whose ids follow each other, with what
// should be on the disks of them, and the lists of the disks between the same ids.
type censusWindow struct {
	c        *Census
	g        replica.GroupID
	layout   *cluster.Layout
	from, to cluster.BlobID // exclusive, inclusive
	rows     map[cluster.BlobID]metadata.BlobRow
	chunks   map[chunkRef]*censusChunk

	mu      sync.Mutex
	unheard map[cluster.DiskID]error // lists that could not be had
	strays  map[metadata.BlobID]int64
	sum     CensusReport // of this window
}

type chunkRef struct {
	blob  cluster.BlobID
	chunk uint32
}

// censusChunk is one chunk; the sets are of shard indices.
type censusChunk struct {
	pg      cluster.PG
	whole   uint64
	noted   uint64 // as missing
	seen    uint64
	unheard uint64
}

// doubtful tells that record and disks do not agree.
func (x *censusChunk) doubtful() bool { return x.missing()|x.there() != 0 }
func (x *censusChunk) missing() uint64 {
	return x.whole &^ x.noted &^ x.seen &^ x.unheard
}
func (x *censusChunk) there() uint64 { return x.noted & x.seen }

// layoutTries is how often a window is looked at again under a newer layout.
const layoutTries = 5

// errNewLayout: what was seen is not worth anything.
var errNewLayout = errors.New("the layout changes too often for a census")

// partition goes through all blobs of a partition, window by window. The last window
// reaches to the end of the ids that name the partition.
func (c *Census) partition(ctx context.Context, g replica.GroupID, fix bool) error {
	from := lastOf(uint16(g) - 1)
	for more := true; more; {
		var rows []metadata.BlobRow
		var chunks int
		more = false
		err := c.rows(ctx, g, from[:], func(row metadata.BlobRow) bool {
			if chunks >= c.cfg.Window {
				more = true
				return false
			}
			rows = append(rows, row)
			chunks += 1 + int(row.Blob.Bytes/metadata.ChunkBytes)
			return true
		})
		if err != nil {
			return err
		}
		to := lastOf(uint16(g))
		if more {
			to = cluster.BlobID(rows[len(rows)-1].Blob.ID)
		}
		err = errNewLayout
		for try := 0; try < layoutTries && errors.Is(err, errNewLayout); try++ {
			err = c.window(ctx, g, from, to, rows, fix)
		}
		if err != nil {
			return fmt.Errorf("partition %d: %w", g, err)
		}
		from = to
	}
	return nil
}

// lastOf is the greatest id that a blob of a partition can have.
func lastOf(partition uint16) cluster.BlobID {
	id := cluster.BlobID(slices.Repeat([]byte{0xff}, len(cluster.BlobID{})))
	id[0], id[1] = byte(partition>>8), byte(partition)
	return id
}

// window compares the records of a window with the lists. Where they do not agree the
// lists are gone through once more, and then the records are read again: a shard that
// the same record has wanted before and after, and that twice was on none of the disks
// that hold its place, is not there. (Once is not enough: a shard that moves to another
// disk may be missed by looking there before and here after it moved.)
func (c *Census) window(ctx context.Context, g replica.GroupID, from, to cluster.BlobID, rows []metadata.BlobRow, fix bool) error {
	layout, err := c.cfg.Layout(ctx)
	if err != nil {
		return err
	}
	w := &censusWindow{c: c, g: g, layout: layout, from: from, to: to, rows: map[cluster.BlobID]metadata.BlobRow{},
		chunks: map[chunkRef]*censusChunk{}, unheard: map[cluster.DiskID]error{}, strays: map[metadata.BlobID]int64{}}
	for _, row := range rows {
		w.expect(row)
	}
	all := make([]cluster.PG, len(layout.Groups))
	for i := range all {
		all[i] = cluster.PG(i)
	}
	if err := w.pass(ctx, all, true); err != nil {
		return err
	}
	if groups := w.doubts(); len(groups) > 0 {
		if err := w.pass(ctx, groups, false); err != nil {
			return err
		}
		if err := w.readAgain(ctx); err != nil {
			return err
		}
		now, err := c.cfg.Layout(ctx)
		if err != nil {
			return err
		}
		if now.Epoch != layout.Epoch {
			return errNewLayout
		}
	}
	if err := w.askStrays(ctx); err != nil {
		return err
	}
	missing := w.add()
	if fix && len(missing) > 0 {
		states, err := markMissing(ctx, c.cfg.Index, c.cfg.Partitions, layout, missing)
		if err != nil {
			return err
		}
		for _, s := range states {
			if s == metadata.BlobHeld {
				w.sum.Fixed++
			}
		}
	}
	c.change(func(r *CensusReport) { r.take(&w.sum) })
	return nil
}

// expect takes a row into the window.
func (w *censusWindow) expect(row metadata.BlobRow) {
	id := cluster.BlobID(row.Blob.ID)
	w.rows[id] = row
	if len(row.Owners) == 0 {
		return
	}
	b := &row.Blob
	notes := b.Notes
	for n := range chunksOf(b) {
		note := metadata.ChunkNote{Chunk: n}
		if len(notes) > 0 && notes[0].Chunk == n {
			note, notes = notes[0], notes[1:]
		}
		w.chunks[chunkRef{id, n}] = &censusChunk{pg: groupOf(w.layout, b, note), whole: b.Profile.Whole(), noted: note.Missing}
	}
}

func chunksOf(b *metadata.Blob) uint32 {
	return uint32((b.Bytes + metadata.ChunkBytes - 1) / metadata.ChunkBytes)
}

// pass goes through the lists of placement groups and notes what is seen. What lies
// there besides is counted in the first pass only.
func (w *censusWindow) pass(ctx context.Context, groups []cluster.PG, first bool) error {
	var work errgroup.Group
	work.SetLimit(w.c.cfg.Parallel)
	for _, pg := range groups {
		work.Go(func() error { return w.group(ctx, pg, first) })
	}
	return work.Wait()
}

// group goes through the lists of one placement group.
func (w *censusWindow) group(ctx context.Context, pg cluster.PG, first bool) error {
	var lists []*shardList
	per := len(w.chunks)/len(w.layout.Groups) + 64 // about what one list has of the window
	for i := range w.layout.Groups[pg] {
		slot := cluster.Slot{PG: pg, Index: cluster.ShardIndex(i)}
		for _, d := range w.layout.Holders(pg, slot.Index) {
			l := &shardList{lists: w.c.cfg.Lists, disk: d, slot: slot, limit: min(per, listPage), to: &w.to,
				after: &cluster.ShardKey{PG: pg, Blob: w.from, Chunk: math.MaxUint32, Index: math.MaxUint8}}
			if l.err = w.silent(d); l.err == nil && !w.c.cfg.DiskUp(d) {
				l.err = fmt.Errorf("%w: disk %s", cluster.ErrUnreachable, d.ID)
			}
			lists = append(lists, l)
		}
	}
	err := walk(ctx, lists, func(info cluster.ShardInfo, on []*shardList) error {
		x := w.chunks[chunkRef{info.Key.Blob, info.Key.Chunk}]
		if x == nil || x.pg != pg {
			if first {
				return w.stray(ctx, info.Key, int64(len(on)))
			}
			return nil
		}
		for _, l := range on {
			x.seen |= 1 << l.slot.Index // a chunk is of one group, and of one goroutine
		}
		return nil
	})
	if err != nil {
		return err
	}
	var unheard uint64
	for _, l := range lists {
		if l.err != nil {
			unheard |= 1 << l.slot.Index
			w.mute(l.disk, l.err)
		}
	}
	if unheard != 0 {
		for _, x := range w.chunks { // rare: a disk is away
			if x.pg == pg {
				x.unheard |= unheard
			}
		}
	}
	return nil
}

// silent is why a disk is not asked in this window any more.
func (w *censusWindow) silent(d cluster.Disk) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.unheard[d.ID]
}

func (w *censusWindow) mute(d cluster.Disk, err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.unheard[d.ID] = err
}

// doubts are the groups of chunks of which records and lists do not agree.
func (w *censusWindow) doubts() []cluster.PG {
	var out []cluster.PG
	for _, x := range w.chunks {
		if x.doubtful() {
			out = append(out, x.pg)
		}
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// readAgain takes out of doubt what has been deleted, marked or healed meanwhile.
func (w *censusWindow) readAgain(ctx context.Context) error {
	now := map[cluster.BlobID]metadata.BlobRow{}
	err := w.c.rows(ctx, w.g, w.from[:], func(row metadata.BlobRow) bool {
		id := cluster.BlobID(row.Blob.ID)
		if slices.Compare(id[:], w.to[:]) > 0 {
			return false
		}
		now[id] = row
		return true
	})
	if err != nil {
		return err
	}
	for ref, x := range w.chunks {
		if !x.doubtful() {
			continue
		}
		row := now[ref.blob]
		if len(row.Owners) == 0 {
			delete(w.chunks, ref)
			continue
		}
		var noted uint64
		for _, n := range row.Blob.Notes {
			if n.Chunk == ref.chunk {
				noted = n.Missing
			}
		}
		// What was marked or healed between the two readings says nothing.
		x.noted = (x.noted|noted)&^x.seen | x.noted&noted&x.seen
	}
	return nil
}

// add sums up the window and tells which shards are missing.
func (w *censusWindow) add() (missing []cluster.ShardKey) {
	blobs := map[cluster.BlobID]bool{}
	for ref, x := range w.chunks {
		blobs[ref.blob] = true
		w.sum.Chunks++
		count := func(sum *int64, set uint64) { *sum += int64(bits.OnesCount64(set)) }
		count(&w.sum.Shards, x.whole)
		count(&w.sum.Found, x.whole&x.seen)
		count(&w.sum.Noted, x.noted&^x.seen)
		count(&w.sum.Missing, x.missing())
		count(&w.sum.There, x.there())
		count(&w.sum.NotSeen, x.whole&^x.seen&^x.noted&x.unheard)
		if k := int(w.rows[ref.blob].Blob.Profile.K); bits.OnesCount64(x.whole&(x.seen|x.unheard)) < k {
			w.sum.Unreadable++
		}
		for i := range cluster.ShardIndex(64) {
			if x.missing()>>i&1 == 1 {
				missing = append(missing, cluster.ShardKey{PG: x.pg, Blob: ref.blob, Chunk: ref.chunk, Index: i})
			}
		}
	}
	w.sum.Blobs = int64(len(blobs))
	for _, k := range missing[:min(len(missing), censusExamples)] {
		w.sum.Examples = append(w.sum.Examples, MissingShard{Key: w.rows[k.Blob].Owners[0].Owner.Key, Disk: w.layout.Disk(k.PG, k.Index).ID, Shard: k.String()})
	}
	for d := range w.unheard {
		w.sum.Unheard = append(w.sum.Unheard, d.String())
	}
	return missing
}
