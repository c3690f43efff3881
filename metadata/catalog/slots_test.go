package catalog_test

import (
	"encoding/binary"
	"fmt"
	"testing"
	"time"

	"bivalve/metadata"
	"bivalve/metadata/catalog/catalogtest"
)

// TestSlotsOfManyPlacementGroups: where more places lack shards than one answer has, all of
// them are told.
func TestSlotsOfManyPlacementGroups(t *testing.T) {
	const groups = 1_500
	c := catalogtest.Open(t, 1).Catalog(t)
	b := bucket(t, c, "bucket")
	profile := metadata.Profile{K: 8, M: 1}
	var marks []metadata.ShardMark
	for n := 0; len(marks) < groups; n++ {
		blob := metadata.Blob{ID: metadata.BlobID{8: byte(n)}, Bytes: metadata.MaxPartBytes, Profile: profile}
		binary.BigEndian.PutUint64(blob.ID[:8], 1<<48|uint64(time.Now().UnixMilli()))
		v := metadata.Version{Bucket: b.ID, Key: fmt.Sprint("k", n), ETag: "e", Bytes: blob.Bytes, Parts: []metadata.Part{{Bytes: blob.Bytes, Blob: &blob}}}
		must(c.PutVersion(t.Context(), v, metadata.Condition{}))(t)
		for chunk := uint32(0); chunk < metadata.MaxPartBytes/metadata.ChunkBytes && len(marks) < groups; chunk++ {
			marks = append(marks, metadata.ShardMark{Blob: blob.ID, Chunk: chunk, PG: uint16(len(marks)), Zones: []string{"a", "b"}, Set: profile.Whole()})
		}
	}
	for len(marks) > 0 {
		done := must(c.MarkShards(t.Context(), 1, marks[:min(len(marks), metadata.MaxMarks)]))(t)
		marks = marks[len(done):]
	}
	for what, slots := range map[string][]metadata.SlotCount{
		"asked":       must(c.Slots(t.Context(), 1))(t),
		"by its copy": must(c.SlotsLocal(1))(t),
	} {
		if len(slots) != groups*profile.Shards() {
			t.Fatalf("%s: %d places, want %d", what, len(slots), groups*profile.Shards())
		}
		for i, s := range slots {
			if want := (metadata.Slot{PG: uint16(i / profile.Shards()), Index: uint8(i % profile.Shards())}); s.Slot != want || s.Missing != 1 {
				t.Fatalf("%s: %d: %+v, want %+v", what, i, s, want)
			}
		}
	}
}
