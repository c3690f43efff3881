package upkeep

import (
	"context"
	"fmt"

	"bivalve/cluster"
	"bivalve/metadata"
	"bivalve/metadata/replica"
)

// ShardCounts is what the partitions count of the shards that they know to be missing.
type ShardCounts interface {
	Slots(ctx context.Context, g replica.GroupID) ([]metadata.SlotCount, error)
	GroupStats(ctx context.Context, g replica.GroupID) (metadata.Stats, error)
}

// groupLists are the lists of all who hold shards of a group, as one slot of it sees
// them.
type groupLists struct {
	before []*shardList // of the slot itself, on other disks: who held it
	own    []*shardList // of other slots in its zone
	far    []*shardList // of those in the other zone
}

// listsOf are the lists of a slot's group but that of disk but.
func listsOf(lists ShardLister, l *cluster.Layout, slot cluster.Slot, but cluster.DiskID) (out groupLists) {
	for i := range l.Groups[slot.PG] {
		s := cluster.Slot{PG: slot.PG, Index: cluster.ShardIndex(i)}
		for _, d := range l.Holders(s.PG, s.Index) {
			list := &shardList{lists: lists, disk: d, slot: s}
			switch {
			case s == slot && d.ID == but:
			case s == slot:
				out.before = append(out.before, list)
			case sameZone(l, s, slot):
				out.own = append(out.own, list)
			default:
				out.far = append(out.far, list)
			}
		}
	}
	return out
}

// others are the lists of all slots but this one.
func (g groupLists) others() []*shardList { return append(g.own[:len(g.own):len(g.own)], g.far...) }

// sameZone tells whether two slots of a group lie in one zone.
func sameZone(l *cluster.Layout, a, b cluster.Slot) bool {
	return l.ZoneOf(a.PG, a.Index) == l.ZoneOf(b.PG, b.Index)
}

// sure tells whether lists that were walked to their ends were heard, of disks without
// a loss.
func sure(lists []*shardList) bool {
	for _, l := range lists {
		if l.err != nil || l.doubtful {
			return false
		}
	}
	return true
}

// gaps are the places of which the partitions know shards to be missing. nil: that is
// not known.
type gaps map[cluster.Slot]bool

// gapsOf asks all partitions. What they say is of a time between call and answer.
func gapsOf(ctx context.Context, counts ShardCounts, partitions int) (gaps, error) {
	ctx, cancel := context.WithTimeout(ctx, listTimeout)
	defer cancel()
	out := gaps{}
	for g := replica.GroupID(1); int(g) <= partitions; g++ {
		stats, err := counts.GroupStats(ctx, g)
		if err != nil {
			return nil, fmt.Errorf("partition %d: %w", g, err)
		}
		slots, err := counts.Slots(ctx, g)
		if err != nil {
			return nil, fmt.Errorf("partition %d: %w", g, err)
		}
		missing := false
		for _, s := range slots {
			if s.Missing != 0 {
				missing = true
				out[cluster.Slot{PG: cluster.PG(s.Slot.PG), Index: cluster.ShardIndex(s.Slot.Index)}] = true
			}
		}
		if stats.Queued > 0 && !missing {
			return nil, fmt.Errorf("partition %d does not say what %d blobs lack", g, stats.Queued)
		}
	}
	return out, nil
}

// nearby tells whether the lists of a slot's own zone name every chunk that the slot
// should have a shard of, if all of them are heard, whole, and read after g was asked.
//
// A chunk that was committed by then has its shard in each place of its group, or that
// shard is counted as missing there, or its disk knows of a loss, or its slot is
// moving. So one other place of the zone without any of that names all of them. A chunk
// that is committed later was acknowledged with k shards in this zone, one of them
// elsewhere than in this slot if k is 2 or more; or with fewer while the zone was down,
// and then it is noted as missing here, whatever came of its shard.
//
// With m = 0 the zone cannot rebuild anything by itself, and there is no use in it.
func (g gaps) nearby(l *cluster.Layout, slot cluster.Slot) bool {
	if g == nil || l.Profile.K < 2 || l.Profile.Extra() == 0 {
		return false
	}
	lean := l.Profile.Of(cluster.Lean)
	for i := range l.Groups[slot.PG] {
		s := cluster.Slot{PG: slot.PG, Index: cluster.ShardIndex(i)}
		if s != slot && sameZone(l, s, slot) && !g[s] && !l.IsMoving(s.PG, s.Index) && (lean.Takes(s.Index) || !lean.Takes(slot.Index)) {
			return true
		}
	}
	return false
}
