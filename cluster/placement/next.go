package placement

import (
	"bytes"
	"errors"
	"fmt"
	"slices"

	"bivalve/cluster"
)

// Next computes the layout that follows in.Before, and which of its slots have to
// move: those that change their disk, and those that were moving already. lost
// tells the disks that nothing can be had from any more.
func Next(in Input, lost func(cluster.DiskID) bool) (*cluster.Layout, error) {
	if in.Before == nil {
		return nil, errors.New("placement: no layout before")
	}
	if in.Profile != in.Before.Profile {
		// The indices of the second zone would shift: other bytes, not a move.
		return nil, fmt.Errorf("placement: from profile %+v to %+v", in.Before.Profile, in.Profile)
	}
	next, err := Compute(in)
	if err != nil {
		return nil, err
	}
	return carry(in.Before, next, lost)
}

// Swap gives every slot of one disk to another of the same zone that holds none,
// and moves nothing else.
func Swap(before *cluster.Layout, old cluster.DiskID, by cluster.Disk, lost func(cluster.DiskID) bool) (*cluster.Layout, error) {
	at := slices.IndexFunc(before.Disks, func(d cluster.Disk) bool { return d.ID == old })
	switch {
	case at < 0:
		return nil, fmt.Errorf("placement: disk %s owns nothing", old)
	case slices.ContainsFunc(before.Disks, func(d cluster.Disk) bool { return d.ID == by.ID }):
		return nil, fmt.Errorf("placement: disk %s owns slots already", by.ID)
	}
	next := cluster.Layout{Epoch: before.Epoch + 1, Profile: before.Profile, Zones: before.Zones, Disks: slices.Clone(before.Disks)}
	next.Disks[at] = by
	// Disks lie in the order of their ids.
	slices.SortFunc(next.Disks, func(a, b cluster.Disk) int { return bytes.Compare(a.ID[:], b.ID[:]) })
	index := make([]uint16, len(before.Disks))
	for i, d := range before.Disks {
		if i == at {
			d = by
		}
		index[i] = uint16(slices.IndexFunc(next.Disks, func(o cluster.Disk) bool { return o.ID == d.ID }))
	}
	next.Groups = make([][]uint16, len(before.Groups))
	for pg, g := range before.Groups {
		next.Groups[pg] = make([]uint16, len(g))
		for i, d := range g {
			next.Groups[pg][i] = index[d]
		}
	}
	return carry(before, &next, lost)
}

// carry notes in next which slots move and from where. A slot that was moving
// goes on: its new owner may find shards on whoever held it before and on the
// owner that did not get to have all of them. Of those who are lost one is kept, so
// that nobody takes the others for all there was.
func carry(before, next *cluster.Layout, lost func(cluster.DiskID) bool) (*cluster.Layout, error) {
	gone := func(d cluster.Disk) bool { return lost(d.ID) || before.Forsaken(d.ID) }
	former := map[cluster.DiskID]uint16{}
	for pg := range next.Groups {
		for i := range next.Groups[pg] {
			slot := cluster.Slot{PG: cluster.PG(pg), Index: cluster.ShardIndex(i)}
			owner := next.Disk(slot.PG, slot.Index)
			var from []cluster.Disk // the latest last
			same := false
			if i < len(before.Groups[pg]) {
				was := before.Disk(slot.PG, slot.Index)
				same = was.ID == owner.ID
				from = append(before.Past(slot.PG, slot.Index), was)
			}
			if same && !before.IsMoving(slot.PG, slot.Index) {
				continue
			}
			m := cluster.Moving{Slot: slot}
			bereft := false
			for _, d := range from {
				if d.ID == owner.ID || gone(d) && bereft {
					continue
				}
				bereft = bereft || gone(d)
				at, known := former[d.ID]
				if !known {
					if len(next.Former) == 1<<16 {
						return nil, errors.New("placement: too many disks are being left at once; wait until some moves are done")
					}
					at = uint16(len(next.Former))
					former[d.ID] = at
					next.Former = append(next.Former, d)
				}
				if !slices.Contains(m.From, at) {
					m.From = append(m.From, at)
				}
			}
			next.Moving = append(next.Moving, m)
		}
	}
	return next.Forsake(gone), nil
}
