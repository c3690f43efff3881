package disk

import (
	"context"
	"fmt"

	"bivalve/cluster"
)

// Append stores the shards and returns when they are durable. Payloads are
// checked against Sums first; ErrInvalid when they differ, when a key is given
// twice, or when the disk holds other bytes under a key at the same or a later
// generation. What is stored already counts as appended; a later generation
// replaces.
//
// The shards' memory is read until Append returns, and never after. ctx counts
// while the shards wait for their batch: once it is being written, Append
// returns when it is done, and on a disk that hangs not before it works again. On an error other than ErrInvalid, ErrDiskFull,
// ErrOverloaded and that of ctx, some of the shards may be stored.
func (d *Disk) Append(ctx context.Context, shards []cluster.Shard) error {
	if err := d.enter(); err != nil {
		return err
	}
	defer d.users.Done()
	if err := d.Failed(); err != nil {
		return err
	}
	if len(shards) == 0 {
		return nil
	}
	if len(shards) > MaxAppendShards {
		return fmt.Errorf("disk %s: append: %w: %d shards, at most %d", d.owner.disk, cluster.ErrInvalid, len(shards), MaxAppendShards)
	}
	var room [16]cluster.ShardKey
	keys := room[:0]
	for i := range shards {
		if err := checkShard(&shards[i]); err != nil {
			return fmt.Errorf("disk %s: append %s: %w", d.owner.disk, shards[i].Key, err)
		}
		for _, k := range keys {
			if k == shards[i].Key {
				return fmt.Errorf("disk %s: append %s twice: %w", d.owner.disk, k, cluster.ErrInvalid)
			}
		}
		keys = append(keys, shards[i].Key)
	}
	if err := d.claims.take(ctx, keys, d.hung); err != nil {
		return err
	}
	defer d.claims.release(keys)
	small, large := newRequest(), newRequest()
	defer small.free()
	defer large.free()
	for i := range shards {
		w, needed, err := d.prepare(&shards[i])
		if err != nil {
			return err
		}
		switch {
		case !needed:
		case len(shards[i].Payload) >= LargeBytes:
			large.add(w, largeSegment)
		default:
			small.add(w, smallSegment)
		}
	}
	if err := d.large.submit(ctx, large); err != nil {
		return err
	}
	return d.small.submit(ctx, small)
}

func checkShard(s *cluster.Shard) error {
	if len(s.Payload) == 0 || len(s.Payload) > cluster.MaxShardBytes {
		return fmt.Errorf("%w: payload of %d bytes", cluster.ErrInvalid, len(s.Payload))
	}
	if block, ok := verifyPayload(s.Payload, s.Sums); !ok {
		return fmt.Errorf("%w: block %d does not match its sum", cluster.ErrInvalid, block)
	}
	return nil
}

// prepare decides, under the claim of its key, what an append has to write.
func (d *Disk) prepare(s *cluster.Shard) (w write, needed bool, err error) {
	content := contentHash(s.Profile, len(s.Payload), s.Sums)
	old, found, err := d.lookup(s.Key)
	if err != nil {
		return w, false, fmt.Errorf("disk %s: append %s: %w", d.owner.disk, s.Key, err)
	}
	if found && s.Generation <= old.gen {
		if content == old.content {
			return w, false, nil
		}
		return w, false, fmt.Errorf("disk %s: append %s: %w: other bytes are stored at generation %d",
			d.owner.disk, s.Key, cluster.ErrInvalid, old.gen)
	}
	w = write{
		header:  header{kind: kindShard, key: s.Key, profile: s.Profile, gen: s.Generation, length: uint32(len(s.Payload)), sums: s.Sums},
		payload: s.Payload, content: content, old: old, replaces: found,
	}
	if found {
		w.header.target = d.priorFor(old)
	} else {
		w.header.flags |= flagSole
	}
	return w, true, nil
}

// Delete removes the shards, durably. What is not there counts as deleted.
func (d *Disk) Delete(ctx context.Context, keys []cluster.ShardKey) error {
	return leaveErr(ctx, d, func() error { return d.delete(ctx, keys) })
}

func (d *Disk) delete(ctx context.Context, keys []cluster.ShardKey) error {
	if err := d.enter(); err != nil {
		return err
	}
	defer d.users.Done()
	if err := d.Failed(); err != nil {
		return err
	}
	if len(keys) > MaxDeleteKeys {
		return fmt.Errorf("disk %s: delete: %w: %d keys, at most %d", d.owner.disk, cluster.ErrInvalid, len(keys), MaxDeleteKeys)
	}
	seen := make(map[cluster.ShardKey]struct{}, len(keys))
	unique := make([]cluster.ShardKey, 0, len(keys))
	for _, k := range keys {
		if _, twice := seen[k]; !twice {
			seen[k] = struct{}{}
			unique = append(unique, k)
		}
	}
	if err := d.claims.take(ctx, unique, d.hung); err != nil {
		return err
	}
	defer d.claims.release(unique)
	req := newRequest()
	defer req.free()
	for _, k := range unique {
		old, found, err := d.lookup(k)
		if err != nil {
			return fmt.Errorf("disk %s: delete %s: %w", d.owner.disk, k, err)
		}
		if found {
			var flags uint8
			if d.alone(old) {
				flags = flagSole
			}
			req.add(write{
				header: header{kind: kindTombstone, flags: flags, key: k, gen: old.gen, target: old.segment},
				old:    old, replaces: true,
			}, smallSegment)
		}
	}
	return d.small.submit(ctx, req)
}
