package object

import (
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
}

func (p place) disk(i int) cluster.Disk { return p.layout.Disk(p.pg, cluster.ShardIndex(i)) }

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

// choose steps aside: the first placement group of the chunk's probe sequence
// whose disks are all up, a zone that is down as a whole left out of account. If
// there is none, the zone is too small to route around and the one with the
// fewest disks down takes it.
func choose(r Region, l *cluster.Layout, geo erasure.Geometry, blob cluster.BlobID, chunk uint32) place {
	best, bestDown := place{}, 1<<30
	for attempt := range uint8(maxAttempts) {
		p := place{layout: l, pg: l.Probe(blob, chunk, attempt), attempt: attempt, geo: geo}
		down := 0
		zones := p.zones()
		zoneDown := [2]bool{r.ZoneDown(zones[0]), r.ZoneDown(zones[1])}
		for i := range geo.Shards() {
			if !zoneDown[p.half(i)] && !r.DiskUp(p.disk(i)) {
				down++
			}
		}
		if down == 0 {
			return p
		}
		if down < bestDown {
			best, bestDown = p, down
		}
	}
	return best
}

// find is where a stored chunk lies, and which of its shards were never written.
func find(l *cluster.Layout, b *metadata.Blob, chunk uint32) (p place, missing erasure.ShardSet) {
	geo := erasure.Geometry{K: int(b.Profile.K), M: int(b.Profile.M)}
	n := note(b, chunk)
	return place{layout: l, pg: l.Probe(cluster.BlobID(b.ID), chunk, n.Attempt), attempt: n.Attempt, geo: geo}, erasure.ShardSet(n.Missing)
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
