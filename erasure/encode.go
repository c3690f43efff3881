package erasure

import "fmt"

// Encode fills the parity shards from the first K. All 2(K+M) slices are there,
// of one length above zero; parity is overwritten in place and nothing else is
// touched. Shards must not overlap. Nothing of the size of a shard is allocated.
func (c *Codec) Encode(shards [][]byte) error {
	if err := c.checkWhole(shards); err != nil {
		return err
	}
	k := c.geometry.K
	if k == 1 { // every row of the matrix is 1: mirrors
		for _, p := range shards[1:] {
			copy(p, shards[0])
		}
		return nil
	}
	if c.groups == nil {
		return encodeError(c.full.Encode(shards))
	}
	view := make([][]byte, 0, k+fusedOutputs)
	for _, g := range c.groups {
		view = append(append(view[:0], shards[:k]...), shards[g.first:g.first+g.count]...)
		if err := g.enc.Encode(view); err != nil {
			return encodeError(err)
		}
	}
	return nil
}

// checkWhole wants every shard there and of one length.
func (c *Codec) checkWhole(shards [][]byte) error {
	if len(shards) != c.geometry.Shards() || len(shards[0]) == 0 {
		return fmt.Errorf("%w: %d shards, want %d of one length", ErrShardSize, len(shards), c.geometry.Shards())
	}
	for i, s := range shards {
		if len(s) != len(shards[0]) {
			return fmt.Errorf("%w: shard %d has %d bytes, shard 0 has %d", ErrShardSize, i, len(s), len(shards[0]))
		}
	}
	return nil
}

func encodeError(err error) error {
	if err != nil {
		return fmt.Errorf("%w: %w", ErrShardSize, err)
	}
	return nil
}
