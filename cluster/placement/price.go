package placement

import (
	"bytes"
	"cmp"
	"slices"

	"bivalve/cluster"
)

// Price is what it takes to make a layout true: the slots that move and, by what
// the disks hold now, roughly how many bytes.
type Price struct {
	Slots   int         `json:"slots"`  // that move
	Groups  int         `json:"groups"` // placement groups with at least one of them
	Bytes   int64       `json:"bytes"`
	Between int64       `json:"bytes_between_zones"`
	Rebuilt int         `json:"slots_rebuilt"` // with nobody to copy them from
	Zones   []ZonePrice `json:"zones"`
	Disks   []DiskPrice `json:"disks"` // that gain or give slots
}

// ZonePrice is the part of one zone.
type ZonePrice struct {
	Zone    cluster.Zone `json:"zone"`
	Slots   int          `json:"slots"`
	Bytes   int64        `json:"bytes"`
	Between int64        `json:"bytes_from_other_zone"`
}

// DiskPrice is the part of one disk.
type DiskPrice struct {
	Disk     cluster.Disk `json:"disk"`
	In       int          `json:"slots_in"`
	Out      int          `json:"slots_out"`
	BytesIn  int64        `json:"bytes_in"`
	BytesOut int64        `json:"bytes_out"`
}

// PriceOf adds up the moving slots of a layout. held is how many bytes a disk
// holds in all, before how many slots they are shared by; a slot that nobody can
// give a copy of is taken to be as large as the average of its group. can tells
// the disks that can be read.
func PriceOf(before, next *cluster.Layout, held func(cluster.DiskID) int64, can func(cluster.Disk) bool) Price {
	p := pricing{before: before, next: next, slots: map[cluster.DiskID]int{}, held: held, can: can, disks: map[cluster.DiskID]*DiskPrice{}}
	for pg := range before.Groups {
		for i := range before.Groups[pg] {
			for _, d := range before.Holders(cluster.PG(pg), cluster.ShardIndex(i)) {
				p.slots[d.ID]++
			}
		}
	}
	for _, z := range next.Zones {
		p.out.Zones = append(p.out.Zones, ZonePrice{Zone: z})
	}
	last := -1
	for _, m := range next.Moving {
		p.add(m.Slot)
		if int(m.Slot.PG) != last {
			p.out.Groups++
			last = int(m.Slot.PG)
		}
	}
	for _, d := range p.disks {
		p.out.Disks = append(p.out.Disks, *d)
	}
	slices.SortFunc(p.out.Disks, func(a, b DiskPrice) int {
		return cmp.Or(cmp.Compare(a.Disk.Node, b.Disk.Node), bytes.Compare(a.Disk.ID[:], b.Disk.ID[:]))
	})
	return p.out
}

type pricing struct {
	before, next *cluster.Layout
	slots        map[cluster.DiskID]int // held by a disk before
	held         func(cluster.DiskID) int64
	can          func(cluster.Disk) bool
	disks        map[cluster.DiskID]*DiskPrice
	out          Price
}

func (p *pricing) add(s cluster.Slot) {
	zone := p.next.ZoneOf(s.PG, s.Index)
	z := &p.out.Zones[slices.IndexFunc(p.out.Zones, func(z ZonePrice) bool { return z.Zone == zone })]
	size, between := int64(0), int64(0)
	from := slices.IndexFunc(p.next.Previous(s.PG, s.Index), p.can)
	if from >= 0 {
		d := p.next.Previous(s.PG, s.Index)[from]
		size = p.slotBytes(d.ID)
		give := p.disk(d)
		give.Out, give.BytesOut = give.Out+1, give.BytesOut+size
	} else {
		size, between = p.rebuild(s)
		p.out.Rebuilt++
	}
	take := p.disk(p.next.Disk(s.PG, s.Index))
	take.In, take.BytesIn = take.In+1, take.BytesIn+size
	z.Slots, z.Bytes, z.Between = z.Slots+1, z.Bytes+size, z.Between+between
	p.out.Slots, p.out.Bytes, p.out.Between = p.out.Slots+1, p.out.Bytes+size, p.out.Between+between
}

// rebuild is the size of a slot that others must make up for, and what of that
// comes from the other zone: what is lacking to k in its own.
func (p *pricing) rebuild(s cluster.Slot) (size, between int64) {
	var sum, n int64
	own := 0
	for i := range p.before.Groups[s.PG] {
		i := cluster.ShardIndex(i)
		if i == s.Index {
			continue
		}
		holders := p.before.Holders(s.PG, i)
		at := slices.IndexFunc(holders, p.can)
		if at < 0 {
			continue
		}
		sum, n = sum+p.slotBytes(holders[at].ID), n+1
		if p.next.ZoneOf(s.PG, i) == p.next.ZoneOf(s.PG, s.Index) {
			own++
		}
	}
	if n > 0 {
		size = sum / n
	}
	return size, int64(max(0, int(p.next.Profile.K)-own)) * size
}

func (p *pricing) slotBytes(id cluster.DiskID) int64 {
	return p.held(id) / int64(max(1, p.slots[id]))
}

func (p *pricing) disk(d cluster.Disk) *DiskPrice {
	if p.disks[d.ID] == nil {
		p.disks[d.ID] = &DiskPrice{Disk: d}
	}
	return p.disks[d.ID]
}
