package erasure

import (
	"errors"
	"fmt"
	"iter"
	"math/bits"
)

// Limits of a geometry. MaxShards lets a set of shards be one machine word.
const (
	MaxK      = 32
	MaxShards = 64
	// ChunkBytes is the most that one chunk holds.
	ChunkBytes = 4 << 20
)

// ErrGeometry: K, M are outside of what the code can do.
var ErrGeometry = errors.New("erasure: impossible geometry")

// ShardIndex is the place of a shard among the 2(K+M) of its chunk. Indexes
// below K are systematic: shard i holds bytes [i*s, (i+1)*s) of the chunk, with
// s = ShardBytes(len(chunk)) and the end padded with zeros.
type ShardIndex uint8

// Geometry is the shape of a code: K data shards, and M more losses that each
// zone survives on its own. The zero Geometry is invalid.
type Geometry struct{ K, M int }

// DefaultGeometry is the code of the standard profile for the number of failure
// domains (nodes, or disks where a zone has few nodes) that each zone has.
func DefaultGeometry(domainsPerZone int) Geometry {
	switch {
	case domainsPerZone <= 1:
		return Geometry{1, 0}
	case domainsPerZone == 2:
		return Geometry{2, 0}
	case domainsPerZone == 3:
		return Geometry{2, 1}
	case domainsPerZone == 4:
		return Geometry{3, 1}
	case domainsPerZone <= 8:
		return Geometry{4, 1}
	default:
		return Geometry{8, 1}
	}
}

// Validate tells whether a codec can exist for g.
func (g Geometry) Validate() error {
	// Both are bounded before they are added, so that nothing can overflow.
	if g.K < 1 || g.K > MaxK || g.M < 0 || g.M > MaxShards || g.Shards() > MaxShards {
		return fmt.Errorf("%w: k=%d m=%d, want k 1..%d, m >= 0 and 2(k+m) <= %d",
			ErrGeometry, g.K, g.M, MaxK, MaxShards)
	}
	return nil
}

// Shards is the number of shards of a chunk.
func (g Geometry) Shards() int { return 2 * (g.K + g.M) }

// PerZone is the number of shards of a chunk in each zone.
func (g Geometry) PerZone() int { return g.K + g.M }

// Parity is the number of shards that are not systematic.
func (g Geometry) Parity() int { return g.K + 2*g.M }

// Survives is how many shards may be lost wherever they are.
func (g Geometry) Survives() int { return g.Shards() - g.K }

// SurvivesBesideZone is how many shards may be lost beside one whole zone.
func (g Geometry) SurvivesBesideZone() int { return g.M }

// Decodable tells whether the shards in have rebuild the chunk.
func (g Geometry) Decodable(have ShardSet) bool { return (have & g.All()).Len() >= g.K }

// All is the set of every shard.
func (g Geometry) All() ShardSet { return firstShards(g.Shards()) }

// Zone is the set of shards of one half: 0 holds the systematic shards.
func (g Geometry) Zone(half int) ShardSet {
	return firstShards(g.PerZone()) << (half * g.PerZone())
}

// ShardBytes is the length of every shard of a chunk: ceil(chunkLen/K).
func (g Geometry) ShardBytes(chunkLen int) int { return (chunkLen + g.K - 1) / g.K }

// Span is a run of bytes inside one systematic shard.
type Span struct {
	Shard  ShardIndex
	Offset int // inside the shard
	Len    int
}

// Spans yields, in order, where bytes [off, off+n) of a chunk lie. A range that
// is not inside the chunk is cut to what is.
func (g Geometry) Spans(chunkLen, off, n int) iter.Seq[Span] {
	return func(yield func(Span) bool) {
		if off < 0 || n <= 0 || off >= chunkLen {
			return
		}
		size := g.ShardBytes(chunkLen)
		for end := off + min(n, chunkLen-off); off < end; {
			s := Span{Shard: ShardIndex(off / size), Offset: off % size}
			s.Len = min(end-off, size-s.Offset)
			if !yield(s) {
				return
			}
			off += s.Len
		}
	}
}

// ShardSet is a set of shards of one chunk, one bit each.
type ShardSet uint64

func firstShards(n int) ShardSet { return ShardSet(1)<<n - 1 } // n = 64 shifts out to all ones

// SetOf makes a set of the given shards.
func SetOf(shards ...ShardIndex) ShardSet {
	var s ShardSet
	for _, i := range shards {
		s |= 1 << i
	}
	return s
}

// Has tells whether i is in the set.
func (s ShardSet) Has(i ShardIndex) bool { return s>>i&1 == 1 }

// With is the set and i.
func (s ShardSet) With(i ShardIndex) ShardSet { return s | 1<<i }

// Without is the set less i.
func (s ShardSet) Without(i ShardIndex) ShardSet { return s &^ (1 << i) }

// Len counts the shards.
func (s ShardSet) Len() int { return bits.OnesCount64(uint64(s)) }
