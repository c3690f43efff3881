package object

import (
	"cmp"
	"slices"
	"time"

	"bivalve/cluster"
	"bivalve/erasure"
	"bivalve/metadata"
)

// longWrite is the least that a blob takes to be written whose disks are looked at once more
// before it is committed.
const longWrite = time.Minute

// noteAway notes as missing what lies on disks that are away by now. What a disk takes
// with it is marked once it was away for a while (upkeep's AbsenceWatch), but of blobs
// that are held then: of one that is still being written nobody would hear of it any
// more. If the disk comes back with its shards, the healer finds them there. A zone that
// is down as a whole is counted otherwise.
func (w *blobWriter) noteAway(l *cluster.Layout) {
	r := w.s.cfg.Region
	var more []metadata.ChunkNote
	for c := range chunks(w.blob.Bytes) {
		p, missing := find(l, w.blob, c)
		zones := p.zones()
		var away erasure.ShardSet
		for _, i := range members(p.used &^ missing) {
			if !r.ZoneDown(zones[p.half(i)]) && !p.up(r, i) {
				away = away.With(erasure.ShardIndex(i))
			}
		}
		if away == 0 {
			continue
		}
		n := note(w.blob, c)
		n.Missing |= uint64(away)
		n.PG, n.Zones = uint16(p.pg), []string{string(zones[0]), string(zones[1])}
		more = append(more, n)
	}
	for _, n := range more {
		at, found := slices.BinarySearchFunc(w.blob.Notes, n, func(a, b metadata.ChunkNote) int { return cmp.Compare(a.Chunk, b.Chunk) })
		if found {
			w.blob.Notes[at] = n
		} else {
			w.blob.Notes = slices.Insert(w.blob.Notes, at, n)
		}
	}
	w.blob.Assess()
}
