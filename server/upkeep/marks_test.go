package upkeep

import (
	"context"
	"errors"
	"testing"
	"time"

	"bivalve/cluster"
	"bivalve/metadata"
	"bivalve/metadata/replica"
)

// TestMarkAbsent: only what a disk owns by the layout, and of blobs that are held, is
// marked.
func TestMarkAbsent(t *testing.T) {
	r := newMendRegion(t, cluster.Profile{K: 2, M: 1})
	l := r.layout
	blob := cluster.BlobID{0, 1} // of partition 1
	if blob.Partition() != 1 {
		t.Fatalf("%s is of partition %d", blob, blob.Partition())
	}
	key := cluster.ShardKey{PG: 3, Blob: blob, Chunk: 2, Index: 4}
	owner, other := l.Disk(3, 4).ID, l.Disk(3, 0).ID
	moving := *l
	moving.Moving = []cluster.Moving{{Slot: cluster.Slot{PG: 3, Index: 4}}}
	refused := errors.New("refused")
	for name, c := range map[string]struct {
		layout *cluster.Layout
		disk   cluster.DiskID
		state  metadata.BlobState
		err    error
		want   bool
	}{
		"owned":         {layout: l, disk: owner, state: metadata.BlobHeld, want: true},
		"no layout":     {disk: owner, state: metadata.BlobHeld},
		"another disk":  {layout: l, disk: other, state: metadata.BlobHeld},
		"still moving":  {layout: &moving, disk: owner, state: metadata.BlobHeld},
		"gone":          {layout: l, disk: owner, state: metadata.BlobGarbage},
		"not to be had": {layout: l, disk: owner, state: metadata.BlobHeld, err: refused},
	} {
		t.Run(name, func(t *testing.T) {
			r.marks.held[blob], r.marks.refused = c.state, c.err
			clear(r.marks.bits)
			got, err := MarkAbsent(t.Context(), r.marks, 4, c.layout, c.disk, key)
			if got != c.want || !errors.Is(err, c.err) {
				t.Errorf("%v, %v", got, err)
			}
			bits := r.marks.bits[cluster.ShardKey{PG: 3, Blob: blob, Chunk: 2}]
			if want := map[bool]uint64{true: 1 << 4}[c.want]; bits != want {
				t.Errorf("marked %b, want %b", bits, want)
			}
			told := r.marks.told
			again, err := MarkAbsent(t.Context(), r.marks, 4, c.layout, c.disk, key)
			if again || r.marks.told != told || !errors.Is(err, c.err) {
				t.Errorf("what is known is marked again: %v, %d more marks, %v", again, r.marks.told-told, err)
			}
		})
	}
}

// TestMarksOfSeveralCommands: what a partition did not do of a command is told again.
func TestMarksOfSeveralCommands(t *testing.T) {
	r := newMendRegion(t, cluster.Profile{K: 2, M: 1})
	blob := cluster.BlobID{0, 1}
	r.marks.held[blob], r.marks.most = metadata.BlobHeld, 3
	var keys []cluster.ShardKey
	for chunk := range uint32(10) {
		keys = append(keys, cluster.ShardKey{PG: 3, Blob: blob, Chunk: chunk, Index: 1})
	}
	states, err := markMissing(t.Context(), r.marks, 4, r.layout, keys)
	if err != nil || len(states) != len(keys) {
		t.Fatalf("%v, %v", states, err)
	}
	for i, k := range keys {
		k.Index = 0
		if states[i] != metadata.BlobHeld || r.marks.bits[k] != 0b10 {
			t.Errorf("chunk %d: state %d, marked %b", i, states[i], r.marks.bits[k])
		}
	}
}

// TestMarksBesideASilentPartition: one that does not answer keeps none of the marks of
// others, and is not asked again and again in one pass.
func TestMarksBesideASilentPartition(t *testing.T) {
	r := newMendRegion(t, cluster.Profile{K: 2, M: 1})
	const each = metadata.MaxMarks + 1 // so that two commands name each partition
	slot := cluster.Slot{PG: 3, Index: 1}
	list := &shardList{slot: cluster.Slot{PG: 3}, ended: true}
	for g := range uint16(3) {
		for n := range each {
			id := cluster.NewBlobID(g+1, 1, [8]byte{byte(n >> 8), byte(n)})
			r.marks.held[id] = metadata.BlobHeld
			list.page = append(list.page, cluster.ShardInfo{Key: cluster.ShardKey{PG: 3, Blob: id}, Profile: r.layout.Profile, Bytes: 1})
		}
	}
	silent := &silentGroup{marked: r.marks, group: 1}
	now := time.Unix(0, 0)
	held, err := markSlot(t.Context(), &sparing{ShardMarks: silent, now: func() time.Time { return now }}, 4, []*shardList{list}, r.layout, slot,
		func(cluster.ShardKey) (bool, error) { return true, nil })
	if !errors.Is(err, metadata.ErrUnavailable) || held != 2*each || len(r.marks.bits) != 2*each {
		t.Errorf("%d are held, %d marked, want %d; %v", held, len(r.marks.bits), 2*each, err)
	}
	if silent.asked != 1 {
		t.Errorf("it was asked %d times", silent.asked)
	}
}

// silentGroup are partitions of which one does not answer.
type silentGroup struct {
	*marked
	group replica.GroupID
	asked int
}

func (s *silentGroup) MarkShards(ctx context.Context, g replica.GroupID, marks []metadata.ShardMark) ([]metadata.BlobState, error) {
	if g == s.group {
		s.asked++
		return nil, metadata.ErrUnavailable
	}
	return s.marked.MarkShards(ctx, g, marks)
}
