package index

import (
	"encoding/binary"
	"errors"
	"fmt"
	"reflect"
	"testing"
	"time"

	"bivalve/metadata"
)

func mark(id byte, set, clear uint64) metadata.ShardMark {
	return metadata.ShardMark{Blob: metadata.BlobID{id}, PG: 5, Zones: []string{"a", "b"}, Set: set, Clear: clear}
}

func (h *harness) mark(marks ...metadata.ShardMark) []metadata.BlobState {
	h.t.Helper()
	raw, err := h.apply(h.command(metadata.CmdMarkShards, metadata.MarkShards{Marks: marks}))
	h.must(err)
	var out metadata.BlobStates
	h.must(metadata.DecodeBody(raw, &out))
	audit(h.t, h.ix)
	return out.States
}

// under lists the queue as "first byte of the blob id:missing bits".
func (h *harness) under() (out []string) {
	h.t.Helper()
	page := metadata.UnderPage{Limit: 2}
	for {
		var got metadata.UnderBlobs
		h.must(h.query(metadata.QueryUnder, page, &got))
		for _, u := range got.Blobs {
			out = append(out, fmt.Sprintf("%d:%b", u.Blob.ID[0], u.Blob.Notes[0].Missing))
			page.After = u.Place
		}
		if !got.More {
			return out
		}
	}
}

// A mark is news if it sets what is not set yet, and the blob is held.
func TestMarksThatAreNews(t *testing.T) {
	h := newHarness(t)
	h.must(h.do(metadata.CmdPutVersion, metadata.PutVersion{Version: version("k", "e", blobPart(0, 1, 0))}))
	beyond := mark(1, 1, 0)
	beyond.Chunk = 1
	news := func(marks ...metadata.ShardMark) []bool {
		t.Helper()
		var out metadata.MarkNews
		h.must(h.query(metadata.QueryNews, metadata.MarkShards{Marks: marks}, &out))
		return out.News
	}
	asked := []metadata.ShardMark{mark(1, 0b1, 0), mark(1, 0b11, 0), mark(1, 0, 0b1), mark(1, 1<<6, 0), beyond, mark(9, 1, 0)}
	if got, want := news(asked...), []bool{true, true, false, false, false, false}; !reflect.DeepEqual(got, want) {
		t.Errorf("whole: %v, want %v", got, want)
	}
	h.mark(mark(1, 0b1, 0))
	if got, want := news(asked...), []bool{false, true, false, false, false, false}; !reflect.DeepEqual(got, want) {
		t.Errorf("one is marked: %v, want %v", got, want)
	}
	h.must(h.do(metadata.CmdDeleteKey, metadata.DeleteKey{Bucket: bucketA, Key: "k"}))
	if got, want := news(asked...), make([]bool, 6); !reflect.DeepEqual(got, want) {
		t.Errorf("garbage: %v, want %v", got, want)
	}
	if err := h.query(metadata.QueryNews, metadata.MarkShards{Marks: make([]metadata.ShardMark, metadata.MaxMarks+1)}, nil); !errors.Is(err, metadata.ErrMalformed) {
		t.Errorf("too many: %v", err)
	}
}

// The code is 2+1 in each zone: six shards, any two rebuild.
func TestMarkedShards(t *testing.T) {
	h := newHarness(t)
	for id := byte(1); id <= 5; id++ {
		h.must(h.do(metadata.CmdPutVersion, metadata.PutVersion{Version: version(fmt.Sprint("k", id), "e", blobPart(0, id, 0))}))
	}
	states := h.mark(mark(1, 0b1, 0), mark(2, 0b11, 0), mark(3, 0b1001, 0), mark(4, 0b1111, 0), mark(5, 0b11111, 0), mark(9, 1, 0))
	if want := []metadata.BlobState{1, 1, 1, 1, 1, 0}; !reflect.DeepEqual(states, want) {
		t.Fatalf("states %v, want %v", states, want)
	}
	// One spare shard less goes first; of two alike the one that a zone could take;
	// what cannot be read is last.
	if got, want := h.under(), []string{"4:1111", "2:11", "3:1001", "1:1", "5:11111"}; !reflect.DeepEqual(got, want) {
		t.Fatalf("queue %v, want %v", got, want)
	}
	s := h.stats()
	if s.UnderProtected != 5 || s.UnderBytes != 35 || s.Queued != 5 || s.Unreadable != 1 || s.AtRisk["a"] != 1 || s.AtRisk["b"] != 3 {
		t.Fatalf("stats %+v", s)
	}
	var last metadata.LastPlaces
	h.must(h.query(metadata.QueryLast, metadata.LastPage{Limit: 10}, &last))
	if want := [][]metadata.Slot{{{PG: 5, Index: 4}, {PG: 5, Index: 5}}}; last.More || !reflect.DeepEqual(last.Objects, want) {
		t.Fatalf("last places %+v, want %v", last, want)
	}
	oldest := s.Oldest
	var slots metadata.Slots
	h.must(h.query(metadata.QuerySlots, metadata.SlotPage{}, &slots))
	if len(slots.Slots) != 6 || slots.Slots[4].Last != 1 || slots.Slots[5].Last != 1 || slots.Slots[0].Last != 0 || slots.Slots[0].Missing != 5 || slots.Slots[0].Bytes != 5*4 {
		t.Fatalf("slots %+v", slots)
	}
	h.mark(mark(1, 0, 1), mark(4, 0, 1))
	if got := h.under(); len(got) != 5 {
		t.Fatalf("shards that were marked after the proposer looked were cleared: %v", got)
	}
	var page metadata.UnderBlobs
	h.must(h.query(metadata.QueryUnder, metadata.UnderPage{Limit: 10}, &page))
	var clear []metadata.ShardMark
	for _, u := range page.Blobs {
		m := mark(u.Blob.ID[0], 0, u.Blob.Notes[0].Missing)
		m.Seen = u.Blob.Notes[0].Marked
		clear = append(clear, m)
	}
	h.mark(mark(5, 1, 0)) // found missing again meanwhile
	h.mark(clear...)
	if got, want := h.under(), []string{"5:11111"}; !reflect.DeepEqual(got, want) {
		t.Fatalf("queue %v, want %v", got, want)
	}
	if s := h.stats(); s.UnderProtected != 1 || s.Oldest != oldest {
		t.Fatalf("stats %+v", s)
	}
}

// A mark that comes after the deletion changes nothing, and one that came before
// the completion of an upload is kept by it, whatever the client had listed.
func TestMarksAgainstOtherCommands(t *testing.T) {
	h := newHarness(t)
	h.must(h.do(metadata.CmdPutVersion, metadata.PutVersion{Version: version("k", "e", blobPart(0, 1, 0))}))
	h.must(h.do(metadata.CmdDeleteKey, metadata.DeleteKey{Bucket: bucketA, Key: "k"}))
	if got := h.mark(mark(1, 1, 0)); got[0] != metadata.BlobGarbage || h.stats().UnderProtected != 0 {
		t.Fatalf("state %v, %+v", got, h.stats())
	}
	if err := h.do(metadata.CmdPutVersion, metadata.PutVersion{Version: version("k", "e", blobPart(0, 1, 0))}); !errors.Is(err, metadata.ErrConflict) {
		t.Fatalf("a blob that is being removed was taken: %v", err)
	}
	ref := metadata.UploadRef{Bucket: bucketA, Key: "k", ID: metadata.UploadID{9}}
	h.must(h.do(metadata.CmdCreateUpload, metadata.Upload{Bucket: bucketA, Key: "k", ID: ref.ID}))
	h.must(h.do(metadata.CmdPutPart, metadata.PutPart{Upload: ref, Part: blobPart(1, 2, 0)}))
	h.mark(mark(2, 0b11, 0))
	h.must(h.do(metadata.CmdCompleteUpload, metadata.CompleteUpload{Upload: ref.ID, Version: version("k", "m", blobPart(1, 2, 0))}))
	audit(t, h.ix)
	if s := h.stats(); s.UnderProtected != 1 || s.AtRisk["b"] != 1 || s.Queued != 1 {
		t.Fatalf("stats %+v", s)
	}
	var st metadata.BlobStates
	h.must(h.query(metadata.QueryBlob, metadata.BlobIDs{IDs: []metadata.BlobID{{1}, {2}, {3}}}, &st))
	if want := []metadata.BlobState{metadata.BlobGarbage, metadata.BlobHeld, metadata.BlobUnknown}; !reflect.DeepEqual(st.States, want) {
		t.Fatalf("states %v, want %v", st.States, want)
	}
	var g metadata.GarbageItems
	h.must(h.query(metadata.QueryGarbage, metadata.GarbagePage{Before: 1 << 62, Limit: 10}, &g))
	h.must(h.do(metadata.CmdDropGarbage, metadata.DropGarbage{Items: []metadata.GarbageID{g.Items[0].ID}}))
	h.must(h.query(metadata.QueryBlob, metadata.BlobIDs{IDs: []metadata.BlobID{{1}}}, &st))
	if st.States[0] != metadata.BlobUnknown {
		t.Fatal("garbage that was dropped is still known")
	}
	audit(t, h.ix)
}

// A version with many parts is written once for all marks of one command.
func TestMarksOfOneVersion(t *testing.T) {
	h := newHarness(t)
	var parts []metadata.Part
	var marks []metadata.ShardMark
	for i := range 200 {
		parts = append(parts, blobPart(i+1, byte(i), 0))
		marks = append(marks, mark(byte(i), 1, 0))
	}
	h.must(h.do(metadata.CmdPutVersion, metadata.PutVersion{Version: version("k", "e", parts...)}))
	h.mark(marks...)
	if s := h.stats(); s.UnderProtected != 1 || s.Queued != 200 {
		t.Fatalf("stats %+v", s)
	}
	for i := range marks {
		marks[i].Set = 0b1111
	}
	h.mark(marks...)
	for limit, more := range map[int]bool{199: true, 200: false} {
		var last metadata.LastPlaces
		h.must(h.query(metadata.QueryLast, metadata.LastPage{Limit: limit}, &last))
		if len(last.Objects) != 1 || len(last.Objects[0]) != 2 || last.More != more {
			t.Fatalf("last places of one object, up to %d blobs: %+v", limit, last)
		}
	}
}

// A blob whose shards may have been swept as orphans gets no record any more; one that
// has one gets others at any age.
func TestBlobTooOldToBeCommitted(t *testing.T) {
	h := newHarness(t)
	put := func(at time.Duration, kind metadata.CommandKind, body any) error {
		raw, err := metadata.NewCommand(metadata.Level, kind, metadata.RequestID{byte(at >> 30), byte(kind), byte(h.next)}, int64(at), body)
		h.must(err)
		_, err = h.apply(raw)
		audit(t, h.ix)
		return err
	}
	minted := func(at time.Duration) metadata.Part { // by a clock that began in 1970
		p := blobPart(1, 0, 0)
		binary.BigEndian.PutUint64(p.Blob.ID[:], uint64(at.Milliseconds()))
		return p
	}
	const day = 24 * time.Hour
	limit := metadata.MaxUncommitted
	late := metadata.PutVersion{Version: version("k", "e", minted(day))}
	if err := put(day+limit+time.Millisecond, metadata.CmdPutVersion, late); !errors.Is(err, metadata.ErrConflict) {
		t.Errorf("a blob that may be gone was committed: %v", err)
	}
	ref := metadata.UploadRef{Bucket: bucketA, Key: "k", ID: metadata.UploadID{9}}
	h.must(put(0, metadata.CmdCreateUpload, metadata.Upload{Bucket: bucketA, Key: "k", ID: ref.ID}))
	part := metadata.PutPart{Upload: ref, Part: minted(day)}
	if err := put(day+limit+time.Second, metadata.CmdPutPart, part); !errors.Is(err, metadata.ErrConflict) {
		t.Errorf("a part that may be gone was committed: %v", err)
	}
	h.must(put(day+limit, metadata.CmdPutPart, part)) // the clock of its proposer counts, not that of the log
	h.must(put(30*day, metadata.CmdCompleteUpload, metadata.CompleteUpload{Upload: ref.ID, Version: version("k", "m", minted(day))}))
	h.must(put(31*day, metadata.CmdPutVersion, metadata.PutVersion{Version: version("k2", "e", minted(32*day))})) // by a clock that is ahead
}

// What was left of a chunk in a group that its writer stood aside from is no loss, and
// does not take the count of what the chunk lacks to that group.
func TestMarkOfAnotherGroup(t *testing.T) {
	h := newHarness(t)
	p := blobPart(0, 1, 0)
	p.Blob.Notes = []metadata.ChunkNote{{Attempt: 1, Missing: 1, PG: 5, Zones: []string{"a", "b"}}}
	h.must(h.do(metadata.CmdPutVersion, metadata.PutVersion{Version: version("k", "e", p)}))
	other := mark(1, 0b10, 0b1)
	other.PG = 3
	var news metadata.MarkNews
	h.must(h.query(metadata.QueryNews, metadata.MarkShards{Marks: []metadata.ShardMark{other, mark(1, 0b10, 0)}}, &news))
	if want := []bool{false, true}; !reflect.DeepEqual(news.News, want) {
		t.Errorf("news %v, want %v", news.News, want)
	}
	lacking := func(want ...metadata.Slot) {
		t.Helper()
		var s metadata.Slots
		h.must(h.query(metadata.QuerySlots, metadata.SlotPage{}, &s))
		var got []metadata.Slot
		for _, c := range s.Slots {
			if c.Missing > 0 {
				got = append(got, c.Slot)
			}
		}
		if !reflect.DeepEqual(got, want) {
			t.Errorf("places %v lack shards, want %v", got, want)
		}
	}
	h.mark(other)
	lacking(metadata.Slot{PG: 5, Index: 0})
	h.mark(mark(1, 0b10, 0))
	lacking(metadata.Slot{PG: 5, Index: 0}, metadata.Slot{PG: 5, Index: 1})
}
