package index

import (
	"errors"
	"fmt"
	"reflect"
	"slices"
	"testing"

	"bivalve/metadata"

	"pgregory.net/rapid"
)

// refer makes a reference at h to blobs and answers what a copy's parts say.
func (h *harness) refer(id byte, to uint16, lifetime int64, blobs ...byte) (metadata.Reference, error) {
	h.t.Helper()
	a := metadata.AddReference{ID: metadata.RefID{id}, To: to, Lifetime: lifetime}
	for _, b := range blobs {
		a.Blobs = append(a.Blobs, metadata.BlobID{b})
	}
	raw, err := h.apply(h.command(metadata.CmdAddReference, a))
	var done metadata.Added
	if err == nil {
		h.must(metadata.DecodeBody(raw, &done))
	}
	return metadata.Reference{ID: a.ID, Home: 1, Until: done.Until}, err
}

func (h *harness) states(ids ...byte) []metadata.BlobState {
	h.t.Helper()
	var q metadata.BlobIDs
	for _, id := range ids {
		q.IDs = append(q.IDs, metadata.BlobID{id})
	}
	var out metadata.BlobStates
	h.must(h.query(metadata.QueryBlob, q, &out))
	return out.States
}

// A copy keeps the blobs of its source, whichever of them goes first, and counts for
// protection where they are held.
func TestReferencesHoldBlobs(t *testing.T) {
	home, there := newHarness(t), newHarness(t)
	parts := []metadata.Part{blobPart(1, 1, 0), blobPart(2, 2, 0)}
	parts[1].Blob.Notes = []metadata.ChunkNote{{Attempt: 3, Missing: 1}}
	home.must(home.do(metadata.CmdPutVersion, metadata.PutVersion{Version: version("k", "e", parts...)}))
	ref, err := home.refer(7, 2, 1e9, 1, 2)
	home.must(err)
	copied := []metadata.Part{parts[0].Refer(ref), parts[1].Refer(ref)}
	if n := copied[1].Blob.Notes; len(n) != 1 || n[0].Attempt != 3 || n[0].Missing != 0 {
		t.Fatalf("a copy's notes are %+v", n)
	}
	there.must(there.do(metadata.CmdPutVersion, metadata.PutVersion{Version: version("copy", "e", copied...)}))
	if s := home.stats(); s.UnderProtected != 2 || s.WithBlobs != 2 || s.Queued != 1 || s.References != 1 {
		t.Fatalf("stats at home %+v", s)
	}
	if s := there.stats(); s.WithBlobs != 0 || s.UnderProtected != 0 || s.Objects != 1 {
		t.Fatalf("stats of the copy's partition %+v", s)
	}
	home.mark(mark(1, 0b11, 0)) // reaches the record of the reference too
	home.must(home.do(metadata.CmdDeleteKey, metadata.DeleteKey{Bucket: bucketA, Key: "k"}))
	audit(t, home.ix)
	if got, want := home.under(), []string{"1:11", "2:1"}; !reflect.DeepEqual(got, want) {
		t.Fatalf("queue %v, want %v", got, want)
	}
	if got := home.states(1, 2); got[0] != metadata.BlobHeld || got[1] != metadata.BlobHeld {
		t.Fatalf("after the source is gone: %v", got)
	}
	there.must(there.do(metadata.CmdDeleteKey, metadata.DeleteKey{Bucket: bucketA, Key: "copy"}))
	audit(t, there.ix)
	var rel metadata.Releases
	there.must(there.query(metadata.QueryReleases, metadata.RefPage{Before: 1 << 62, Limit: 10}, &rel))
	if want := []metadata.Reference{ref}; !reflect.DeepEqual(rel.Refs, want) {
		t.Fatalf("releases %+v, want %+v", rel.Refs, want)
	}
	for range 2 { // the second time it is gone already
		home.must(home.do(metadata.CmdDropReferences, metadata.RefIDs{IDs: []metadata.RefID{ref.ID}}))
		audit(t, home.ix)
	}
	if got := home.states(1, 2); got[0] != metadata.BlobGarbage || got[1] != metadata.BlobGarbage {
		t.Fatalf("after the copy is gone: %v", got)
	}
	if s := home.stats(); s.UnderProtected != 0 || s.References != 0 || s.Garbage != 2 {
		t.Fatalf("stats at home %+v", s)
	}
}

// What a reference must not do: bring back what is being removed, begin to be named
// after its time or after its release.
func TestReferencesAreRefused(t *testing.T) {
	h := newHarness(t)
	h.must(h.do(metadata.CmdPutVersion, metadata.PutVersion{Version: version("k", "e", blobPart(0, 1, 0))}))
	if _, err := h.refer(1, 1, 1e9, 1, 9); !errors.Is(err, metadata.ErrConflict) {
		t.Fatalf("a reference to an unknown blob: %v", err)
	}
	if _, err := h.refer(1, 1, 0, 1); !errors.Is(err, metadata.ErrMalformed) {
		t.Fatalf("a reference without a lifetime: %v", err)
	}
	if _, err := h.refer(1, 1, 1e9); !errors.Is(err, metadata.ErrMalformed) {
		t.Fatalf("a reference to nothing: %v", err)
	}
	late, err := h.refer(2, 1, 10, 1)
	h.must(err)
	copyOf := func(r metadata.Reference) metadata.PutVersion {
		return metadata.PutVersion{Version: version("copy", "e", blobPart(0, 1, 0).Refer(r))}
	}
	if err := h.do(metadata.CmdPutVersion, copyOf(late)); !errors.Is(err, metadata.ErrConflict) {
		t.Fatalf("a reference was named too late: %v", err)
	}
	again, err := h.refer(3, 1, 1e9, 1)
	h.must(err)
	h.must(h.do(metadata.CmdPutVersion, copyOf(again)))
	h.must(h.do(metadata.CmdDeleteKey, metadata.DeleteKey{Bucket: bucketA, Key: "copy"}))
	h.must(h.do(metadata.CmdDropReleases, metadata.DropReleases{Refs: []metadata.Reference{again}}))
	if err := h.do(metadata.CmdPutVersion, copyOf(again)); !errors.Is(err, metadata.ErrConflict) {
		t.Fatalf("a reference was named again after its release: %v", err)
	}
	audit(t, h.ix)
	h.must(h.do(metadata.CmdDeleteKey, metadata.DeleteKey{Bucket: bucketA, Key: "k"}))
	h.must(h.do(metadata.CmdDropReferences, metadata.RefIDs{IDs: []metadata.RefID{{2}, {3}}}))
	if _, err := h.refer(4, 1, 1e9, 1); !errors.Is(err, metadata.ErrConflict) {
		t.Fatalf("a reference to garbage: %v", err)
	}
	audit(t, h.ix)
}

// A part that was copied again between the list of parts and the completion is another
// part, though its blob is the same.
func TestCompletionKnowsReferencesApart(t *testing.T) {
	h := newHarness(t)
	h.must(h.do(metadata.CmdPutVersion, metadata.PutVersion{Version: version("k", "e", blobPart(0, 1, 0))}))
	up := metadata.UploadRef{Bucket: bucketA, Key: "u", ID: metadata.UploadID{9}}
	h.must(h.do(metadata.CmdCreateUpload, metadata.Upload{Bucket: bucketA, Key: "u", ID: up.ID}))
	var parts []metadata.Part
	for id := range byte(2) {
		ref, err := h.refer(id+1, 1, 1e9, 1)
		h.must(err)
		parts = append(parts, blobPart(1, 1, 0).Refer(ref))
		h.must(h.do(metadata.CmdPutPart, metadata.PutPart{Upload: up, Part: parts[id]}))
	}
	complete := func(p metadata.Part) error {
		return h.do(metadata.CmdCompleteUpload, metadata.CompleteUpload{Upload: up.ID, Version: version("u", "m", p)})
	}
	if err := complete(parts[0]); !errors.Is(err, metadata.ErrPartChanged) {
		t.Fatalf("completed with the part before: %v", err)
	}
	h.must(complete(parts[1]))
	audit(t, h.ix)
	if s := h.stats(); s.Releases != 1 || s.References != 2 {
		t.Fatalf("stats %+v", s)
	}
}

// copies is two partitions, 1 and 2, between which copies go in both ways, and what a
// clean-up does, in whatever order and with whatever is lost on the way.
type copies struct {
	rt     *rapid.T
	groups [2]*harness
	clock  int64
	serial byte
	copied []copied // begun: the commit may yet come, or never

	dropped map[metadata.RefID]bool // at their homes, at any time
}

type copied struct {
	to    int
	key   string
	part  metadata.Part
	until int64
}

const copyLife = 5_000 // ns of log time; a step takes 1..2000

func (c *copies) next() byte { c.serial++; return c.serial }

func (c *copies) key() string { return rapid.SampledFrom([]string{"a", "b", "c"}).Draw(c.rt, "key") }

// do applies a command of the present to a group, sometimes twice.
func (c *copies) do(g int, kind metadata.CommandKind, body any) ([]byte, error) {
	h := c.groups[g]
	c.clock += int64(rapid.IntRange(1, 2000).Draw(c.rt, "later"))
	var id metadata.RequestID
	for i := range id {
		id[i] = byte(h.rng.Uint32())
	}
	raw, err := metadata.NewCommand(metadata.Level, kind, id, c.clock, body)
	h.must(err)
	out, err := h.apply(raw)
	c.rt.Logf("g%d clock %d kind %d %+v -> %v", g+1, c.clock, kind, body, err)
	if err != nil && !metadata.IsAnswer(err) {
		c.rt.Fatal(err)
	}
	return out, err
}

func (c *copies) get(g int, key string) (metadata.Version, bool) {
	f, err := c.groups[g].ix.current(bucketA, key)
	c.groups[g].must(err)
	return f.v, f.exists
}

// begin asks for a reference to what a key has; the answer may be lost.
func (c *copies) begin(from, to int, key, as string) {
	v, exists := c.get(from, key)
	if !exists {
		return
	}
	p := v.Parts[0]
	home := int(p.Blob.ID[15]) - 1
	id := metadata.RefID{c.next()}
	raw, err := c.do(home, metadata.CmdAddReference, metadata.AddReference{ID: id, To: uint16(to + 1), Lifetime: copyLife, Blobs: []metadata.BlobID{p.Blob.ID}})
	if err != nil || rapid.IntRange(0, 4).Draw(c.rt, "lost") == 0 {
		return
	}
	var done metadata.Added
	c.groups[home].must(metadata.DecodeBody(raw, &done))
	c.copied = append(c.copied, copied{to, as, p.Refer(metadata.Reference{ID: id, Home: uint16(home + 1), Until: done.Until, Epoch: done.Epoch}), done.Until})
}

// finish commits one of the copies that were begun, perhaps not for the first time.
func (c *copies) finish() {
	if len(c.copied) == 0 {
		return
	}
	at := rapid.IntRange(0, len(c.copied)-1).Draw(c.rt, "copy")
	k := c.copied[at]
	_, err := c.do(k.to, metadata.CmdPutVersion, metadata.PutVersion{Version: version(k.key, "e", k.part)})
	if err != nil && !errors.Is(err, metadata.ErrConflict) {
		c.rt.Fatal(err)
	}
	if rapid.Bool().Draw(c.rt, "delivered once") {
		c.copied = slices.Delete(c.copied, at, at+1)
	}
}

// cleanUp is one round of a group; it may break off after any of its steps.
func (c *copies) cleanUp(g int, whole bool) {
	broken := func() bool { return !whole && rapid.IntRange(0, 3).Draw(c.rt, "breaks off") == 0 }
	h := c.groups[g]
	var rel metadata.Releases
	h.must(h.query(metadata.QueryReleases, metadata.RefPage{Before: c.clock, Limit: 10}, &rel))
	for _, r := range rel.Refs {
		if broken() {
			return
		}
		c.drop(int(r.Home)-1, r.ID)
	}
	if !broken() {
		_, err := c.do(g, metadata.CmdDropReleases, metadata.DropReleases(rel))
		h.must(err)
	}
	var wait metadata.PendingReferences
	h.must(h.query(metadata.QueryPending, metadata.RefPage{Before: c.clock, Limit: 10}, &wait))
	for _, p := range wait.Refs {
		if broken() {
			return
		}
		raw, err := c.do(int(p.To)-1, metadata.CmdJudgeReferences, metadata.JudgeReferences{Refs: []metadata.PendingReference{p}})
		h.must(err)
		var states metadata.RefStates
		h.must(metadata.DecodeBody(raw, &states))
		if broken() {
			return
		}
		switch states.States[0] {
		case metadata.RefUsed:
			_, err = c.do(g, metadata.CmdConfirmReferences, metadata.RefIDs{IDs: []metadata.RefID{p.ID}})
		case metadata.RefGone:
			c.drop(g, p.ID)
		}
		h.must(err)
	}
}

func (c *copies) drop(home int, id metadata.RefID) {
	if c.dropped == nil {
		c.dropped = map[metadata.RefID]bool{}
	}
	c.dropped[id] = true
	_, err := c.do(home, metadata.CmdDropReferences, metadata.RefIDs{IDs: []metadata.RefID{id}})
	c.groups[home].must(err)
}

// check: what any record names is held at its home, and all counts are exact.
func (c *copies) check() {
	for g, h := range c.groups {
		audit(h.t, h.ix)
		for _, key := range []string{"a", "b", "c"} {
			v, exists := c.get(g, key)
			if !exists {
				continue
			}
			b := v.Parts[0].Blob.ID
			home := c.groups[b[15]-1]
			if s := home.states2(b); s != metadata.BlobHeld {
				c.rt.Fatalf("key %s of group %d names blob %x, whose state at home is %d", key, g, b, s)
			}
		}
	}
}

func (h *harness) states2(id metadata.BlobID) metadata.BlobState {
	var out metadata.BlobStates
	h.must(h.query(metadata.QueryBlob, metadata.BlobIDs{IDs: []metadata.BlobID{id}}, &out))
	return out.States[0]
}

// TestCopiesKeepWhatTheyName: with copies, deletes and clean-ups in any order, commits
// that come late, twice or never, no blob is freed while a record names it; and once
// the clean-up has its way no reference is left that no record names.
func TestCopiesKeepWhatTheyName(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		c := &copies{rt: rt, clock: 1, groups: [2]*harness{newHarness(t), newHarness(t)}}
		for range rapid.IntRange(1, 40).Draw(rt, "steps") {
			g := rapid.IntRange(0, 1).Draw(rt, "group")
			switch rapid.IntRange(0, 9).Draw(rt, "op") {
			case 0, 1:
				p := blobPart(0, c.next(), uint64(rapid.IntRange(0, 1).Draw(rt, "missing")))
				p.Blob.ID[15] = byte(g + 1)
				_, err := c.do(g, metadata.CmdPutVersion, metadata.PutVersion{Version: version(c.key(), "e", p)})
				c.groups[g].must(err)
			case 2, 3:
				c.begin(g, rapid.IntRange(0, 1).Draw(rt, "to"), c.key(), c.key())
			case 4, 5, 6:
				c.finish()
			case 7:
				_, err := c.do(g, metadata.CmdDeleteKey, metadata.DeleteKey{Bucket: bucketA, Key: c.key()})
				c.groups[g].must(err)
			default:
				c.cleanUp(g, false)
			}
			c.check()
		}
		c.clock += 2 * copyLife
		for range 3 { // a release needs its home to know first
			c.cleanUp(0, true)
			c.cleanUp(1, true)
		}
		c.copied = nil
		c.check()
		used := map[string]int{}
		for g, h := range c.groups {
			for _, key := range []string{"a", "b", "c"} {
				if v, exists := c.get(g, key); exists && v.Parts[0].Ref != nil {
					used[fmt.Sprint(v.Parts[0].Ref.Home)]++
				}
			}
			if s := h.stats(); s.Releases != 0 {
				rt.Fatalf("%d releases are left in group %d", s.Releases, g)
			}
		}
		for g, h := range c.groups {
			if s := h.stats(); s.References != int64(used[fmt.Sprint(g+1)]) {
				rt.Fatalf("group %d keeps %d references, %d are in use", g+1, s.References, used[fmt.Sprint(g+1)])
			}
		}
	})
}

// The row of a blob names all its owners: there is a most, beyond which the bytes are
// copied. A row that cannot be read is damage, and no answer.
func TestOwnersAreBounded(t *testing.T) {
	h := newHarness(t)
	h.must(h.do(metadata.CmdPutVersion, metadata.PutVersion{Version: version("k", "e", blobPart(1, 1, 0))}))
	_, err := h.refer(1, 2, 1e9, slices.Repeat([]byte{1}, metadata.MaxOwners)...)
	if !errors.Is(err, metadata.ErrConflict) {
		t.Fatalf("one owner too many by one command: %v", err)
	}
	ref, err := h.refer(1, 2, 1e9, slices.Repeat([]byte{1}, metadata.MaxOwners-1)...)
	h.must(err)
	if _, err := h.refer(2, 2, 1e9, 1); !errors.Is(err, metadata.ErrConflict) {
		t.Fatalf("one owner too many: %v", err)
	}
	audit(t, h.ix)
	h.must(h.do(metadata.CmdDropReferences, metadata.RefIDs{IDs: []metadata.RefID{ref.ID}}))
	_, err = h.refer(2, 2, 1e9, 1)
	h.must(err)
	audit(t, h.ix)

	id := metadata.BlobID{1}
	h.must(h.ix.t.blobs.Put(id[:], []byte{0xff}))
	if _, _, err := h.ix.holding(id); !errors.Is(err, ErrDamaged) || metadata.IsAnswer(err) {
		t.Errorf("a row that cannot be read: %v", err)
	}
}

// Lists of references go on behind a place, whether that is still there or not.
func TestReferencesArePaged(t *testing.T) {
	h := newHarness(t)
	h.must(h.do(metadata.CmdPutVersion, metadata.PutVersion{Version: version("k", "e", blobPart(0, 1, 0))}))
	for id := byte(1); id <= 7; id++ {
		ref, err := h.refer(id, 1, 1e9, 1)
		h.must(err)
		h.must(h.do(metadata.CmdPutVersion, metadata.PutVersion{Version: version(fmt.Sprint("copy", id), "e", blobPart(0, 1, 0).Refer(ref))}))
	}
	pending := func(page metadata.RefPage) (places []metadata.RefPlace) {
		t.Helper()
		var out metadata.PendingReferences
		h.must(h.query(metadata.QueryPending, page, &out))
		for _, r := range out.Refs {
			places = append(places, metadata.RefPlace{Until: r.Until, ID: r.ID})
		}
		return places
	}
	all := pending(metadata.RefPage{Before: 1 << 62, Limit: 100})
	if len(all) != 7 {
		t.Fatalf("%d are pending", len(all))
	}
	page := metadata.RefPage{Before: all[6].Until, Limit: 2, After: all[0]}
	h.must(h.do(metadata.CmdConfirmReferences, metadata.RefIDs{IDs: []metadata.RefID{all[0].ID}}))
	for at := 1; at < 6; {
		got := pending(page)
		if !reflect.DeepEqual(got, all[at:min(at+2, 6)]) {
			t.Fatalf("after %d: %v", at, got)
		}
		at += len(got)
		page.After = got[len(got)-1]
	}
	if got := pending(page); len(got) != 0 {
		t.Errorf("behind the last: %v", got)
	}
	for id := byte(1); id <= 7; id++ {
		h.must(h.do(metadata.CmdDeleteKey, metadata.DeleteKey{Bucket: bucketA, Key: fmt.Sprint("copy", id)}))
	}
	var rel metadata.Releases
	h.must(h.query(metadata.QueryReleases, metadata.RefPage{Before: 1 << 62, Limit: 3, After: all[3]}, &rel))
	if len(rel.Refs) != 3 || rel.Refs[0].ID != all[4].ID || rel.Refs[2].ID != all[6].ID {
		t.Errorf("releases %+v", rel.Refs)
	}
}

// Marks of blobs whose owners have very many parts are not all done by one command: every
// replica would need the memory for all of them.
func TestMarksOfLargeOwners(t *testing.T) {
	const objects = 5
	h := newHarness(t)
	var marks []metadata.ShardMark
	for n := range byte(objects) {
		parts := make([]metadata.Part, metadata.MaxParts)
		for i := range parts {
			parts[i] = blobPart(i+1, n, 0)
			parts[i].Blob.ID[1], parts[i].Blob.ID[2] = byte(i>>8), byte(i)
		}
		h.must(h.do(metadata.CmdPutVersion, metadata.PutVersion{Version: version(fmt.Sprint("k", n), "e", parts...)}))
		first := mark(n, 1, 0)
		second := first
		second.Set = 2
		marks = append(marks, first, second)
	}
	const most = 2 * mostMarked / metadata.MaxParts
	for done := 0; done < len(marks); {
		raw, err := h.apply(h.command(metadata.CmdMarkShards, metadata.MarkShards{Marks: marks[done:]}))
		h.must(err)
		var answer metadata.BlobStates
		h.must(metadata.DecodeBody(raw, &answer))
		got := answer.States
		if want := min(most, len(marks)-done); len(got) != want {
			t.Fatalf("one command does %d marks, want %d", len(got), want)
		}
		done += len(got)
		if s := h.stats(); s.UnderProtected != int64(done/2) || s.Queued != int64(done/2) {
			t.Errorf("after %d marks: %+v", done, s)
		}
	}
}

// An answer that lists blobs with their owners ends before it is too long.
func TestAnswersOfManyOwners(t *testing.T) {
	const blobs = 20
	h := newHarness(t)
	var owned holding
	r := metadata.HeldReference{To: 2}
	for n := range byte(blobs) {
		r.Parts = append(r.Parts, blobPart(0, n, 0b110001))
	}
	for n := range metadata.MaxOwners {
		id := metadata.RefID{byte(n), byte(n >> 8), 1}
		h.must(h.ix.storeReference(id, r))
		owned.Owners = append(owned.Owners, metadata.ReferenceOwner(id))
	}
	for _, p := range r.Parts {
		owned.Place = append([]byte{0, 1}, p.Blob.ID[:]...)
		h.must(h.ix.t.under.Put(owned.Place, nil))
		h.must(h.ix.putHolding(p.Blob.ID, owned))
	}
	seen := 0
	for page, after := (metadata.BlobRows{More: true}), []byte(nil); page.More; {
		page = metadata.BlobRows{}
		h.must(h.query(metadata.QueryBlobs, metadata.BlobPage{After: after, Limit: 1000}, &page))
		owners := 0
		for _, row := range page.Rows {
			owners += len(row.Owners)
		}
		if owners > maxPageOwners+metadata.MaxOwners || owners == 0 {
			t.Fatalf("an answer with %d owners", owners)
		}
		seen += owners
		after = page.Rows[len(page.Rows)-1].Blob.ID[:]
	}
	if seen != blobs*metadata.MaxOwners {
		t.Errorf("%d owners were told, want %d", seen, blobs*metadata.MaxOwners)
	}
	var last metadata.LastPlaces
	h.must(h.query(metadata.QueryLast, metadata.LastPage{Limit: 1000}, &last))
	if !last.More || len(last.Objects) > maxPageOwners+metadata.MaxOwners {
		t.Errorf("%d objects of %d blobs; more: %v", len(last.Objects), blobs, last.More)
	}
}
