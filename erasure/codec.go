package erasure

import (
	"errors"
	"fmt"
	"sync"

	"github.com/klauspost/reedsolomon"
)

var (
	// ErrTooFewShards: fewer than K shards are there.
	ErrTooFewShards = errors.New("erasure: too few shards to decode")
	// ErrShardSize: shards are missing, empty or of different lengths.
	ErrShardSize = errors.New("erasure: shards of unequal or zero length")
)

const (
	// fusedOutputs is how many outputs the library makes in one pass over the
	// inputs. Above it, it falls off its fast path (8+12 at a third of 8+10), so
	// wider parity is made in groups that each stay on it.
	fusedOutputs = 10
	fusedInputs  = 10
	// maxCachedInversions bounds the library's cache of decode matrices, which
	// else grows by one for every loss pattern ever seen.
	maxCachedInversions = 50_000
)

// Codec encodes and rebuilds chunks of one geometry. It is safe for concurrent
// use; it keeps no reference to the slices it is given.
type Codec struct {
	geometry Geometry
	full     reedsolomon.Encoder
	groups   []parityGroup    // nil: full encodes in one pass
	halves   [2][]parityGroup // what the shards of one zone alone take
}

// parityGroup makes parity shards [first, first+count) of the chunk.
type parityGroup struct {
	first, count int
	enc          reedsolomon.Encoder
}

// NewCodec builds the codec of a geometry. Codecs caches them.
func NewCodec(g Geometry) (*Codec, error) {
	if err := g.Validate(); err != nil {
		return nil, err
	}
	// One goroutine: a 4 MiB chunk takes 0.3 ms, and many chunks are in flight,
	// so splitting one would only move work between cores.
	opts := []reedsolomon.Option{
		reedsolomon.WithMaxGoroutines(1),
		reedsolomon.WithInversionCache(binomialAtMost(g.Shards(), g.K, maxCachedInversions)),
	}
	full, err := reedsolomon.New(g.K, g.Parity(), opts...)
	if err != nil {
		return nil, fmt.Errorf("%w: k=%d m=%d: %w", ErrGeometry, g.K, g.M, err)
	}
	c := &Codec{geometry: g, full: full}
	if g.K == 1 {
		return c, nil // mirrors: nothing is multiplied
	}
	rows, err := parityRows(g, full)
	if err != nil {
		return nil, err
	}
	if g.Parity() > fusedOutputs && g.K <= fusedInputs {
		if c.groups, err = parityGroups(g, rows, 0, len(rows), opts); err != nil {
			return nil, err
		}
	}
	if c.halves[0], err = parityGroups(g, rows, 0, g.M, opts); err != nil {
		return nil, err
	}
	c.halves[1], err = parityGroups(g, rows, g.M, len(rows), opts)
	return c, err
}

// parityRows reads the rows of the full matrix back by encoding unit vectors, so
// that what is built of them makes the same bytes whatever the library does.
func parityRows(g Geometry, full reedsolomon.Encoder) ([][]byte, error) {
	rows := make([][]byte, g.Parity())
	for r := range rows {
		rows[r] = make([]byte, g.K)
	}
	shards := make([][]byte, g.Shards())
	for col := range g.K {
		for i := range shards {
			shards[i] = []byte{0}
		}
		shards[col][0] = 1
		if err := full.Encode(shards); err != nil {
			return nil, fmt.Errorf("%w: read matrix: %w", ErrGeometry, err)
		}
		for r := range rows {
			rows[r][col] = shards[g.K+r][0]
		}
	}
	return rows, nil
}

// parityGroups makes codecs of at most fusedOutputs rows each out of rows
// [from, to) of the matrix.
func parityGroups(g Geometry, rows [][]byte, from, to int, opts []reedsolomon.Option) ([]parityGroup, error) {
	n := to - from
	count := (n + fusedOutputs - 1) / fusedOutputs
	var groups []parityGroup
	for i := range count {
		first, end := from+i*n/count, from+(i+1)*n/count
		enc, err := reedsolomon.New(g.K, end-first, append(opts, reedsolomon.WithCustomMatrix(rows[first:end]))...)
		if err != nil {
			return nil, fmt.Errorf("%w: parity group: %w", ErrGeometry, err)
		}
		groups = append(groups, parityGroup{first: g.K + first, count: end - first, enc: enc})
	}
	return groups, nil
}

// Geometry is the shape of the code.
func (c *Codec) Geometry() Geometry { return c.geometry }

// Codecs keeps one codec per geometry. The zero value is ready; it is safe for
// concurrent use and holds at most one codec for each valid geometry.
type Codecs struct {
	mu    sync.RWMutex
	known map[Geometry]*Codec
}

// Get returns the codec of g, built on first use.
func (c *Codecs) Get(g Geometry) (*Codec, error) {
	c.mu.RLock()
	codec := c.known[g]
	c.mu.RUnlock()
	if codec != nil {
		return codec, nil
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if codec := c.known[g]; codec != nil {
		return codec, nil
	}
	codec, err := NewCodec(g)
	if err != nil {
		return nil, err
	}
	if c.known == nil {
		c.known = make(map[Geometry]*Codec)
	}
	c.known[g] = codec
	return codec, nil
}

// binomialAtMost tells whether n choose k <= limit.
func binomialAtMost(n, k, limit int) bool {
	v := 1
	for i := 1; i <= k; i++ {
		if v = v * (n - k + i) / i; v > limit {
			return false
		}
	}
	return true
}
