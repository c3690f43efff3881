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
	return c.encodeGroups(c.groups, shards)
}

// EncodeZone is Encode for the parity shards of one half alone: 0 is that of the
// systematic shards. The slices of the other half's parity may be nil.
func (c *Codec) EncodeZone(half int, shards [][]byte) error {
	g := c.geometry
	if half < 0 || half > 1 || len(shards) != g.Shards() || len(shards[0]) == 0 {
		return fmt.Errorf("%w: half %d of %d shards, want %d of one length", ErrShardSize, half, len(shards), g.Shards())
	}
	for i, s := range shards {
		if (i < g.K || g.Zone(half).Has(ShardIndex(i))) && len(s) != len(shards[0]) {
			return fmt.Errorf("%w: shard %d has %d bytes, shard 0 has %d", ErrShardSize, i, len(s), len(shards[0]))
		}
	}
	if g.K > 1 {
		return c.encodeGroups(c.halves[half], shards)
	}
	for i := 1; i < len(shards); i++ {
		if g.Zone(half).Has(ShardIndex(i)) {
			copy(shards[i], shards[0])
		}
	}
	return nil
}

func (c *Codec) encodeGroups(groups []parityGroup, shards [][]byte) error {
	k := c.geometry.K
	view := make([][]byte, 0, k+fusedOutputs)
	for _, g := range groups {
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
