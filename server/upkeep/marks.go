package upkeep

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"bivalve/cluster"
	"bivalve/metadata"
	"bivalve/metadata/replica"
)

// ShardMarks is where the partitions are told which shards are missing, or are
// there again.
type ShardMarks interface {
	// MarkShards answers for each mark that it did, which are the first ones, what the
	// partition knows of its blob.
	MarkShards(ctx context.Context, g replica.GroupID, marks []metadata.ShardMark) ([]metadata.BlobState, error)
}

// markOf says that the shard of a key is missing.
func markOf(l *cluster.Layout, k cluster.ShardKey) metadata.ShardMark {
	return metadata.ShardMark{Blob: metadata.BlobID(k.Blob), Chunk: k.Chunk, PG: uint16(k.PG),
		Zones: []string{string(l.FirstZone(k.PG)), string(l.SecondZone(k.PG))}, Set: 1 << k.Index}
}

// sparing are marks of one pass over a disk: a partition that does not answer is left
// alone for a while, so that it does not hold up those of all others.
type sparing struct {
	ShardMarks
	now    func() time.Time
	silent silences[replica.GroupID]
}

// markRest is for how long at first.
const markRest = 5 * time.Second

func (s *sparing) MarkShards(ctx context.Context, g replica.GroupID, marks []metadata.ShardMark) ([]metadata.BlobState, error) {
	if s.silent.rests(g, s.now()) {
		return nil, fmt.Errorf("%w: it did not answer a moment ago", metadata.ErrUnavailable)
	}
	states, err := s.ShardMarks.MarkShards(ctx, g, marks)
	s.silent.heard(g, err == nil, s.now(), markRest)
	return states, err
}

// markMissing marks shards and tells, for each, what its partition knows of the
// blob. The blob's id names the partition. One that fails does not keep those of others;
// of its blobs nothing is known then.
func markMissing(ctx context.Context, to ShardMarks, partitions int, l *cluster.Layout, keys []cluster.ShardKey) ([]metadata.BlobState, error) {
	states := make([]metadata.BlobState, len(keys))
	places := map[replica.GroupID][]int{}
	var order []replica.GroupID
	for i, k := range keys {
		g := replica.GroupID(k.Blob.Partition())
		if g < 1 || int(g) > partitions {
			continue // nobody knows such a blob
		}
		if places[g] == nil {
			order = append(order, g)
		}
		places[g] = append(places[g], i)
	}
	var failed error
	for _, g := range order {
		failed = errors.Join(failed, markGroup(ctx, to, g, l, keys, places[g], states))
	}
	return states, failed
}

// markGroup marks those of keys that are of one partition, and fills in their states.
func markGroup(ctx context.Context, to ShardMarks, g replica.GroupID, l *cluster.Layout, keys []cluster.ShardKey, at []int, states []metadata.BlobState) error {
	for len(at) > 0 {
		n := min(len(at), metadata.MaxMarks)
		marks := make([]metadata.ShardMark, n)
		for j, i := range at[:n] {
			marks[j] = markOf(l, keys[i])
		}
		got, err := to.MarkShards(ctx, g, marks)
		if err != nil {
			return fmt.Errorf("mark %d shards in partition %d: %w", n, g, err)
		}
		if len(got) < 1 || len(got) > n {
			return fmt.Errorf("%w: %d answers to %d marks", metadata.ErrMalformed, len(got), n)
		}
		for j, i := range at[:len(got)] {
			states[i] = got[j]
		}
		at = at[len(got):]
	}
	return nil
}

// AbsentMarks also tells, at the cost of a read, what a mark would be good for.
type AbsentMarks interface {
	ShardMarks
	// MarkNews answers for each mark whether it sets what is not set, of a held blob.
	MarkNews(ctx context.Context, g replica.GroupID, marks []metadata.ShardMark) ([]bool, error)
}

// MarkAbsent marks a shard that a disk owns by the layout and has not. It tells whether
// the region counts it as missing from now on: not if the slot is another disk's or still
// moves to this one, nor if its blob is gone or it counts so already. Readers of a copy
// come upon the same shard until it is healed, since only the home of its blob knows.
func MarkAbsent(ctx context.Context, to AbsentMarks, partitions int, l *cluster.Layout, d cluster.DiskID, k cluster.ShardKey) (bool, error) {
	g := replica.GroupID(k.Blob.Partition())
	if l == nil || !l.Owns(d, k.PG, k.Index) || l.IsMoving(k.PG, k.Index) || g < 1 || int(g) > partitions {
		return false, nil
	}
	news, err := to.MarkNews(ctx, g, []metadata.ShardMark{markOf(l, k)})
	if err == nil && len(news) != 1 {
		err = fmt.Errorf("%w: %d answers to a mark", metadata.ErrMalformed, len(news))
	}
	if err != nil || !news[0] {
		return false, err
	}
	states, err := markMissing(ctx, to, partitions, l, []cluster.ShardKey{k})
	return err == nil && states[0] == metadata.BlobHeld, err
}

// markSlot compares one slot with lists of its group and marks every shard of it for
// which lacks says so, unless one of the lists is of the slot itself and has it. It tells
// how many of them belong to blobs that are held. A list that cannot be had does not end
// it, but is an error.
func markSlot(ctx context.Context, to ShardMarks, partitions int, lists []*shardList, l *cluster.Layout, slot cluster.Slot,
	lacks func(cluster.ShardKey) (bool, error)) (held int, err error) {
	var keys []cluster.ShardKey
	var untold error
	tell := func() error {
		states, err := markMissing(ctx, to, partitions, l, keys)
		untold = cmp.Or(untold, err)
		keys = keys[:0]
		for _, s := range states {
			if s == metadata.BlobHeld {
				held++
			}
		}
		return ctx.Err()
	}
	err = walk(ctx, lists, func(chunk cluster.ShardInfo, on []*shardList) error {
		k := chunk.Key
		if k.Index = slot.Index; !chunk.Profile.Takes(k.Index) || slices.ContainsFunc(on, func(o *shardList) bool { return o.slot == slot }) {
			return nil
		}
		if missing, err := lacks(k); err != nil || !missing {
			return err
		}
		if keys = append(keys, k); len(keys) < metadata.MaxMarks {
			return nil
		}
		return tell()
	})
	err = cmp.Or(err, tell())
	err = cmp.Or(err, untold)
	for _, l := range lists {
		err = cmp.Or(err, l.err)
	}
	return held, err
}
