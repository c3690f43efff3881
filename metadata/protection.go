package metadata

import (
	"math/bits"
	"slices"
	"sort"
)

// ChunkBytes is the length of every chunk of a blob but the last; the engine that
// cuts them holds itself to it.
const ChunkBytes = 4 << 20

// Slot is one place of a placement group: the shard index there. The layout says
// which disk it is.
type Slot struct {
	PG    uint16 `cbor:"1,keyasint,omitempty"`
	Index uint8  `cbor:"2,keyasint,omitempty"`
}

// Shards is how many the code makes of a chunk.
func (p Profile) Shards() int { return 2 * (int(p.K) + int(p.M)) }

// Whole is the set of shards that a whole chunk has, bit i for shard i: what the
// class leaves out is not missing.
func (p Profile) Whole() uint64 {
	n := int(p.K) + int(p.M)
	first, second := uint64(1)<<n-1, uint64(1)<<n-1
	switch p.Class {
	case ClassLean:
		first, second = 1<<p.K-1, 1<<p.K-1
	case ClassOneZone:
		second = 0
	}
	return first | second<<n
}

// halves are the shards of the zone that holds the systematic ones, and the rest.
func (p Profile) halves() (first, second uint64) {
	n := int(p.K) + int(p.M)
	first = 1<<n - 1
	return p.Whole() & first, p.Whole() &^ first
}

// Spare is how many more shards the chunk of a note can lose. Below 0 it cannot be
// read until one returns.
func (p Profile) Spare(n ChunkNote) int {
	return bits.OnesCount64(p.Whole()&^n.Missing) - int(p.K)
}

// ShardBytes is the length of each shard of a chunk of the blob.
func (b *Blob) ShardBytes(chunk uint32) int64 {
	n := min(b.Bytes-int64(chunk)*ChunkBytes, ChunkBytes)
	k := max(1, int64(b.Profile.K))
	return max(0, (n+k-1)/k)
}

// PlacesOnly is the blob with what its notes say of where chunks lie, and nothing of
// what they lack.
func (b *Blob) PlacesOnly() *Blob {
	out := *b
	out.Notes, out.AtRisk = nil, nil
	for _, n := range b.Notes {
		if n.Attempt != 0 {
			out.Notes = append(out.Notes, ChunkNote{Chunk: n.Chunk, Attempt: n.Attempt})
		}
	}
	return &out
}

// Spare is that of its worst chunk; the least the code allows for a whole blob.
func (b *Blob) Spare() int {
	least := bits.OnesCount64(b.Profile.Whole()) - int(b.Profile.K)
	for _, n := range b.Notes {
		least = min(least, b.Profile.Spare(n))
	}
	return least
}

// Assess sets AtRisk to what the notes say. A chunk whose zones are not noted (by
// a version of this program before they were) leaves it as it is. A blob that lies
// in one zone on purpose is not at risk: its class promises nothing else.
func (b *Blob) Assess() {
	if b.Profile.Class == ClassOneZone {
		return
	}
	first, second := b.Profile.halves()
	risk := map[string]bool{}
	for _, n := range b.Notes {
		if n.Missing == 0 {
			continue
		}
		if len(n.Zones) != 2 {
			return
		}
		left := ^n.Missing
		if bits.OnesCount64(left&second) < int(b.Profile.K) {
			risk[n.Zones[0]] = true
		}
		if bits.OnesCount64(left&first) < int(b.Profile.K) {
			risk[n.Zones[1]] = true
		}
	}
	b.AtRisk = sortedKeys(risk)
}

// LastShards are the places whose loss would take the blob with it: those of the
// shards that are left of a chunk of which just enough are.
func (b *Blob) LastShards() []Slot {
	var out []Slot
	for _, n := range b.Notes {
		if n.Missing == 0 || len(n.Zones) != 2 || b.Profile.Spare(n) != 0 {
			continue
		}
		for i := range b.Profile.Shards() {
			if (b.Profile.Whole()&^n.Missing)&(1<<i) != 0 {
				out = append(out, Slot{n.PG, uint8(i)})
			}
		}
	}
	return out
}

// Standing is what the missing shards of one object version, or of one uploaded
// part, mean for it.
type Standing struct {
	Under      bool     `cbor:"1,keyasint,omitempty"` // some are missing
	Unreadable bool     `cbor:"2,keyasint,omitempty"` // a chunk has too few left
	AtRisk     []string `cbor:"3,keyasint,omitempty"` // zones whose loss would take it, in order
	Last       []Slot   `cbor:"4,keyasint,omitempty"` // places whose loss would, each once
}

// StandingOf tells it from all parts of the version, and whether any of them has
// bytes on disks at all.
func StandingOf(parts []Part) (s Standing, blobs bool) {
	risk, last := map[string]bool{}, map[Slot]bool{}
	for _, p := range parts {
		if !p.Held() {
			continue
		}
		blobs = true
		if !p.Blob.UnderProtected() {
			continue
		}
		s.Under = true
		s.Unreadable = s.Unreadable || p.Blob.Spare() < 0
		for _, zone := range p.Blob.AtRisk {
			risk[zone] = true
		}
		for _, slot := range p.Blob.LastShards() {
			if !last[slot] {
				last[slot] = true
				s.Last = append(s.Last, slot)
			}
		}
	}
	s.AtRisk = sortedKeys(risk)
	return s, blobs
}

// Mark changes what is noted of one chunk; see ShardMark. False: nothing changed.
func (b *Blob) Mark(m ShardMark, now int64) bool {
	at, found := b.noteAt(m.Chunk)
	n := ChunkNote{Chunk: m.Chunk}
	if found {
		n = b.Notes[at]
	}
	if m.Chunk >= b.chunks() || n.elsewhere(m) {
		return false
	}
	all := b.Profile.Whole()
	was := n.Missing
	if m.Clear != 0 && n.Marked == m.Seen {
		n.Missing &^= m.Clear
	}
	if m.Set&all != 0 {
		n.Missing |= m.Set & all
		n.Marked = now
	}
	if n.Missing == was && m.Set&all == 0 {
		return false
	}
	n.PG, n.Zones = m.PG, m.Zones
	if n.Missing == 0 {
		n = ChunkNote{Chunk: n.Chunk, Attempt: n.Attempt}
	}
	notes := append([]ChunkNote(nil), b.Notes[:at]...)
	if n.Missing != 0 || n.Attempt != 0 {
		notes = append(notes, n)
	}
	if found {
		at++
	}
	b.Notes = append(notes, b.Notes[at:]...)
	b.Assess()
	return true
}

// Lacks tells whether all that a mark sets is noted already, or is nothing to note.
func (b *Blob) Lacks(m ShardMark) bool {
	set := m.Set & b.Profile.Whole()
	at, found := b.noteAt(m.Chunk)
	if m.Chunk >= b.chunks() || set == 0 {
		return true
	}
	return found && (b.Notes[at].elsewhere(m) || set&^b.Notes[at].Missing == 0 && len(b.Notes[at].Zones) == 2)
}

// elsewhere tells that a mark speaks of another placement group than that in which the
// chunk is known to lack shards: of what was left where its writer stood aside from.
func (n ChunkNote) elsewhere(m ShardMark) bool {
	return n.Missing != 0 && len(n.Zones) == 2 && n.PG != m.PG
}

// chunks is how many the blob has.
func (b *Blob) chunks() uint32 { return uint32((b.Bytes + ChunkBytes - 1) / ChunkBytes) }

// noteAt is the place of the note of a chunk, or where it would go.
func (b *Blob) noteAt(chunk uint32) (at int, found bool) {
	at = sort.Search(len(b.Notes), func(i int) bool { return b.Notes[i].Chunk >= chunk })
	return at, at < len(b.Notes) && b.Notes[at].Chunk == chunk
}

func sortedKeys(m map[string]bool) []string {
	var out []string
	for k := range m {
		out = append(out, k)
	}
	slices.Sort(out) // of the same set always the same list: replicas must agree
	return out
}
