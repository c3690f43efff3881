package erasure

import "fmt"

// Reconstruct rebuilds the missing systematic shards, which are all that a
// reader needs; missing parity stays missing. A shard is missing when its slice
// is empty; where that slice has the capacity it is decoded into it, else new
// memory is used. The shards that are there are not touched, and are taken as
// correct: check their sums first.
func (c *Codec) Reconstruct(shards [][]byte) error {
	return c.ReconstructShards(shards, firstShards(c.geometry.K))
}

// ReconstructShards rebuilds those of the wanted shards that are missing,
// systematic or parity, in the manner of Reconstruct. Shards that are missing
// and not wanted stay as they are.
func (c *Codec) ReconstructShards(shards [][]byte, wanted ShardSet) error {
	have, size, err := c.present(shards)
	if err != nil {
		return err
	}
	missing := wanted & c.geometry.All() &^ have
	if missing == 0 {
		return nil
	}
	if !c.geometry.Decodable(have) {
		return fmt.Errorf("%w: have %d, need %d", ErrTooFewShards, have.Len(), c.geometry.K)
	}
	if c.geometry.K == 1 {
		c.mirror(shards, have, missing, size)
		return nil
	}
	var required [MaxShards]bool
	for i := range shards {
		required[i] = missing.Has(ShardIndex(i))
	}
	n := len(shards)
	if missing < 1<<c.geometry.K {
		n = c.geometry.K // tells the library that no parity is needed
	}
	if err := c.full.ReconstructSome(shards, required[:n]); err != nil {
		return fmt.Errorf("erasure: reconstruct: %w", err)
	}
	return nil
}

// mirror copies any shard that is there over those that are missing.
func (c *Codec) mirror(shards [][]byte, have, missing ShardSet, size int) {
	var source []byte
	for i := range shards {
		if have.Has(ShardIndex(i)) {
			source = shards[i]
			break
		}
	}
	for i := range shards {
		if !missing.Has(ShardIndex(i)) {
			continue
		}
		if cap(shards[i]) < size {
			shards[i] = make([]byte, size)
		}
		shards[i] = shards[i][:size]
		copy(shards[i], source)
	}
}

// present tells which shards are there, and their common length.
func (c *Codec) present(shards [][]byte) (have ShardSet, size int, err error) {
	if len(shards) != c.geometry.Shards() {
		return 0, 0, fmt.Errorf("%w: %d shards, want %d", ErrShardSize, len(shards), c.geometry.Shards())
	}
	for i, s := range shards {
		switch {
		case len(s) == 0:
		case size != 0 && len(s) != size:
			return 0, 0, fmt.Errorf("%w: shard %d has %d bytes, others %d", ErrShardSize, i, len(s), size)
		default:
			size = len(s)
			have = have.With(ShardIndex(i))
		}
	}
	return have, size, nil
}
