package object

import (
	"slices"

	"bivalve/cluster"
	"bivalve/erasure"
	"bivalve/metadata"
)

// maxAttempts bounds the probe sequence of a chunk.
const maxAttempts = 16

// place is where one chunk goes, or lies.
type place struct {
	layout  *cluster.Layout
	pg      cluster.PG
	attempt uint8
	geo     erasure.Geometry
	used    erasure.ShardSet // what a whole chunk has
}

func (p place) disk(i int) cluster.Disk { return p.layout.Disk(p.pg, cluster.ShardIndex(i)) }

// holders are the disks that may have shard i, the owner before those that held
// its slot until now, and those that are up before the others.
func (p place) holders(r Region, i int) []cluster.Disk {
	all := p.layout.Holders(p.pg, cluster.ShardIndex(i))
	if len(all) > 1 {
		slices.SortStableFunc(all, func(a, b cluster.Disk) int {
			switch up := r.DiskUp(a); {
			case up == r.DiskUp(b):
				return 0
			case up:
				return -1
			}
			return 1
		})
	}
	return all
}

// up tells whether it makes sense to ask for shard i.
func (p place) up(r Region, i int) bool {
	return r.DiskUp(p.disk(i)) || slices.ContainsFunc(p.layout.Previous(p.pg, cluster.ShardIndex(i)), r.DiskUp)
}

// half is 0 for the zone of the systematic shards.
func (p place) half(i int) int {
	if i < p.geo.PerZone() {
		return 0
	}
	return 1
}

func (p place) zones() [2]cluster.Zone {
	return [2]cluster.Zone{p.layout.FirstZone(p.pg), p.layout.SecondZone(p.pg)}
}

func (p place) key(blob cluster.BlobID, chunk uint32, i int) cluster.ShardKey {
	return cluster.ShardKey{PG: p.pg, Blob: blob, Chunk: chunk, Index: cluster.ShardIndex(i)}
}

// placeOf is where a chunk goes, or lies, at an attempt of its probe sequence.
func placeOf(l *cluster.Layout, b *metadata.Blob, chunk uint32, attempt uint8) place {
	p := place{layout: l, attempt: attempt, geo: geometryOf(b.Profile), used: erasure.ShardSet(b.Profile.Whole())}
	if id := cluster.BlobID(b.ID); b.Profile.Class == metadata.ClassOneZone {
		p.pg = l.ProbeIn(cluster.Zone(b.Profile.Zone), id, chunk, attempt)
	} else {
		p.pg = l.Probe(id, chunk, attempt)
	}
	return p
}

// choose steps aside: the first placement group of the chunk's probe sequence
// whose disks are all up and none slow, a zone that is down as a whole left out of
// account. If there is none, the zone is too small to route around and the one with
// the fewest disks down takes it, of those the one with the fewest slow ones.
func choose(r Region, l *cluster.Layout, b *metadata.Blob, chunk uint32) place {
	best, bestCost := place{}, 1<<30
	for attempt := range uint8(maxAttempts) {
		p := placeOf(l, b, chunk, attempt)
		cost := 0
		zones := p.zones()
		zoneDown := [2]bool{r.ZoneDown(zones[0]), r.ZoneDown(zones[1])}
		for i := range p.geo.Shards() {
			switch {
			case !p.used.Has(erasure.ShardIndex(i)) || zoneDown[p.half(i)]:
			case !r.DiskUp(p.disk(i)):
				cost += erasure.MaxShards // a shard less is worse than any wait
			case r.DiskSlow(p.disk(i)):
				cost++
			}
		}
		if cost == 0 {
			return p
		}
		if cost < bestCost {
			best, bestCost = p, cost
		}
	}
	return best
}

// disksOf are the disks of one zone of a layout.
func disksOf(l *cluster.Layout, z cluster.Zone) []cluster.Disk {
	var out []cluster.Disk
	seen := make([]bool, len(l.Disks))
	for pg, slots := range l.Groups {
		for i, d := range slots {
			if !seen[d] && l.ZoneOf(cluster.PG(pg), cluster.ShardIndex(i)) == z {
				seen[d] = true
				out = append(out, l.Disks[d])
			}
		}
	}
	return out
}

// find is where a stored chunk lies, and which of its shards were never written.
func find(l *cluster.Layout, b *metadata.Blob, chunk uint32) (p place, missing erasure.ShardSet) {
	n := note(b, chunk)
	p = placeOf(l, b, chunk, n.Attempt)
	return p, erasure.ShardSet(n.Missing) | p.geo.All()&^p.used
}

// note is what the blob says of a chunk; the zero note if nothing.
func note(b *metadata.Blob, chunk uint32) metadata.ChunkNote {
	lo, hi := 0, len(b.Notes)
	for lo < hi {
		mid := (lo + hi) / 2
		if b.Notes[mid].Chunk < chunk {
			lo = mid + 1
		} else {
			hi = mid
		}
	}
	if lo < len(b.Notes) && b.Notes[lo].Chunk == chunk {
		return b.Notes[lo]
	}
	return metadata.ChunkNote{Chunk: chunk}
}

// chunks is how many a blob of n bytes has.
func chunks(n int64) uint32 { return uint32((n + erasure.ChunkBytes - 1) / erasure.ChunkBytes) }

// chunkBytes is the length of one chunk of a blob of n bytes.
func chunkBytes(n int64, chunk uint32) int {
	return int(min(n-int64(chunk)*erasure.ChunkBytes, erasure.ChunkBytes))
}
