package upkeep

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"time"

	"bivalve/metadata"
	"bivalve/metadata/replica"
)

// What a census takes of the records at a time, how often it counts those of a
// partition again that changed meanwhile, and how long it waits before.
const (
	censusPage  = 1000
	censusTries = 10
	censusPause = 300 * time.Millisecond
)

// counters counts what a partition's records say and compares it with what the
// partition says that it is. Both are of one moment: nothing may have changed from
// before the first page until after the last.
func (c *Census) counters(ctx context.Context, g replica.GroupID) error {
	for try := range censusTries {
		if try > 0 && !sleep(ctx, censusPause) {
			return ctx.Err()
		}
		before, err := c.cfg.Index.GroupStats(ctx, g)
		if err != nil {
			return fmt.Errorf("counters of partition %d: %w", g, err)
		}
		slots, err := c.cfg.Index.Slots(ctx, g)
		if err != nil {
			return fmt.Errorf("places of partition %d: %w", g, err)
		}
		var sum recount
		if err := c.rows(ctx, g, nil, func(row metadata.BlobRow) bool { sum.add(row); return true }); err != nil {
			return err
		}
		after, err := c.cfg.Index.GroupStats(ctx, g)
		if err != nil {
			return fmt.Errorf("counters of partition %d: %w", g, err)
		}
		if before.Changes == after.Changes && before.Garbage == after.Garbage {
			differ := sum.compare(int(g), after, slots)
			c.change(func(r *CensusReport) { r.Objects += sum.stats.WithBlobs; r.Differ = append(r.Differ, differ...) })
			return nil
		}
	}
	c.change(func(r *CensusReport) { r.Busy = append(r.Busy, int(g)) })
	return nil
}

// rows goes through the blobs of a partition after an id, as long as visit wants more.
func (c *Census) rows(ctx context.Context, g replica.GroupID, after []byte, visit func(metadata.BlobRow) bool) error {
	for {
		page, err := c.cfg.Index.Blobs(ctx, g, after, censusPage)
		if err != nil {
			return fmt.Errorf("blobs of partition %d: %w", g, err)
		}
		for _, row := range page.Rows {
			if !visit(row) {
				return nil
			}
		}
		if !page.More || len(page.Rows) == 0 {
			return nil
		}
		id := page.Rows[len(page.Rows)-1].Blob.ID
		after = id[:]
	}
}

// recount is what the rows of a partition add up to.
type recount struct {
	stats metadata.Stats
	slots map[metadata.Slot]metadata.SlotCount
}

func (s *recount) add(row metadata.BlobRow) {
	if s.slots == nil {
		s.slots, s.stats.AtRisk = map[metadata.Slot]metadata.SlotCount{}, map[string]int64{}
	}
	if len(row.Owners) == 0 {
		s.stats.Garbage++
		return
	}
	if row.Blob.UnderProtected() {
		s.stats.Queued++
		if s.stats.Oldest == 0 || row.Since < s.stats.Oldest {
			s.stats.Oldest = row.Since
		}
	}
	for _, n := range row.Blob.Notes {
		for i := range row.Blob.Profile.Shards() {
			if n.Missing>>i&1 == 1 && len(n.Zones) == 2 {
				s.slot(metadata.Slot{PG: n.PG, Index: uint8(i)}, metadata.SlotCount{Missing: 1, Bytes: row.Blob.ShardBytes(n.Chunk)})
			}
		}
	}
	for _, o := range row.Owners {
		st := o.Standing
		if st == nil {
			continue
		}
		s.stats.WithBlobs++
		if st.Under {
			s.stats.UnderProtected++
			s.stats.UnderBytes += o.Bytes
		}
		if st.Unreadable {
			s.stats.Unreadable++
		}
		for _, z := range st.AtRisk {
			s.stats.AtRisk[z]++
		}
		for _, at := range st.Last {
			s.slot(at, metadata.SlotCount{Last: 1})
		}
	}
}

func (s *recount) slot(at metadata.Slot, add metadata.SlotCount) {
	c := s.slots[at]
	c.Last, c.Missing, c.Bytes = c.Last+add.Last, c.Missing+add.Missing, c.Bytes+add.Bytes
	s.slots[at] = c
}

// compare tells what differs.
func (s *recount) compare(partition int, kept metadata.Stats, slots []metadata.SlotCount) (out []CounterDiffers) {
	check := func(what string, counter, counted int64) {
		if counter != counted {
			out = append(out, CounterDiffers{Partition: partition, What: what, Counter: counter, Counted: counted})
		}
	}
	check("objects with bytes on disks", kept.WithBlobs, s.stats.WithBlobs)
	check("objects under-protected", kept.UnderProtected, s.stats.UnderProtected)
	check("bytes under-protected", kept.UnderBytes, s.stats.UnderBytes)
	check("objects unreadable", kept.Unreadable, s.stats.Unreadable)
	check("blobs queued to be healed", kept.Queued, s.stats.Queued)
	check("oldest of them", kept.Oldest, s.stats.Oldest)
	check("blobs of garbage", kept.Garbage, s.stats.Garbage)
	zones := maps.Clone(kept.AtRisk)
	if zones == nil {
		zones = map[string]int64{}
	}
	for z := range s.stats.AtRisk {
		zones[z] += 0
	}
	for _, z := range slices.Sorted(maps.Keys(zones)) {
		check("objects lost with zone "+z, kept.AtRisk[z], s.stats.AtRisk[z])
	}
	keptAt := map[metadata.Slot]metadata.SlotCount{}
	for _, c := range slots {
		keptAt[c.Slot] = c
		if _, counted := s.slots[c.Slot]; !counted {
			check(fmt.Sprintf("place %d/%d", c.Slot.PG, c.Slot.Index), c.Last+c.Missing, 0)
		}
	}
	for at, c := range s.slots {
		place := fmt.Sprintf("place %d/%d: ", at.PG, at.Index)
		check(place+"objects lost with it", keptAt[at].Last, c.Last)
		check(place+"shards missing", keptAt[at].Missing, c.Missing)
		check(place+"bytes missing", keptAt[at].Bytes, c.Bytes)
	}
	return out
}
