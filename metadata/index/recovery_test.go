package index

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"testing"

	"bivalve/metadata"

	"pgregory.net/rapid"
)

// lose makes a harness forget its last entries, as a survivor does that was behind.
func (h *harness) lose(entries int) {
	h.t.Helper()
	h.must(h.ix.Close())
	h.must(os.Remove(filepath.Join(h.dir, "index.db")))
	h.open()
	h.log = h.log[:len(h.log)-entries]
	h.next = 0
	for _, e := range h.log {
		h.next = e.Index
		_, err := h.ix.ApplyBatch([]Entry{e}, nil)
		h.must(err)
	}
}

func (h *harness) recovery() (out metadata.Recovery) {
	h.t.Helper()
	h.must(h.query(metadata.QueryRecovery, struct{}{}, &out))
	return out
}

func (h *harness) garbage() (out metadata.GarbageItems) {
	h.t.Helper()
	h.must(h.query(metadata.QueryGarbage, metadata.GarbagePage{Before: 1 << 62, Limit: 100}, &out))
	return out
}

func (h *harness) namings(home uint16) (out metadata.Namings) {
	h.t.Helper()
	h.must(h.query(metadata.QueryNamings, metadata.NamingPage{Home: home, Limit: 100}, &out))
	return out
}

func (h *harness) assert(a metadata.AssertReferences) (out metadata.Asserted) {
	h.t.Helper()
	raw, err := h.apply(h.command(metadata.CmdAssertReferences, a))
	h.must(err)
	h.must(metadata.DecodeBody(raw, &out))
	audit(h.t, h.ix)
	return out
}

// A home that was recovered has lost the references of two copies. The source of one is
// deleted, and that of the other was lost with its reference: nothing is reclaimed, and
// nobody is told that a blob is unknown, before the copies' partition has told what it
// names; then both are held.
func TestLostReferencesAreMadeAgain(t *testing.T) {
	home, there := newHarness(t), newHarness(t)
	parts := []metadata.Part{blobPart(1, 1, 0), blobPart(2, 2, 0)}
	home.must(home.do(metadata.CmdPutVersion, metadata.PutVersion{Version: version("k", "e", parts[0])}))
	home.mark(mark(1, 0b1, 0))
	home.must(home.do(metadata.CmdPutVersion, metadata.PutVersion{Version: version("k2", "e", parts[1])}))
	first, err := home.refer(1, 2, 1e9, 1)
	home.must(err)
	second, err := home.refer(2, 2, 1e9, 2)
	home.must(err)
	copyOf := func(key string, p metadata.Part, r metadata.Reference) error {
		return there.do(metadata.CmdPutVersion, metadata.PutVersion{Version: version(key, "e", p.Refer(r))})
	}
	there.must(copyOf("c1", parts[0], first))
	there.must(copyOf("c2", parts[1], second))
	late, err := home.refer(3, 2, 1e9, 1)
	home.must(err)
	home.lose(4) // three references and k2
	recovered := metadata.Recovered{Epoch: 1, Partitions: 2}
	home.must(home.do(metadata.CmdRecovered, recovered))
	if err := home.do(metadata.CmdRecovered, recovered); !errors.Is(err, metadata.ErrConflict) {
		t.Fatalf("recovered to the same epoch: %v", err)
	}
	audit(t, home.ix)
	if got, want := home.recovery(), (metadata.Recovery{Epoch: 1, Awaited: []uint16{1, 2}, Untold: []uint16{1, 2}}); !reflect.DeepEqual(got, want) {
		t.Fatalf("%+v, want %+v", got, want)
	}
	home.must(home.do(metadata.CmdDeleteKey, metadata.DeleteKey{Bucket: bucketA, Key: "k"}))
	if got := home.garbage(); len(got.Items) != 0 {
		t.Fatalf("garbage is given away: %+v", got)
	}
	ask := func(id byte) error {
		return home.query(metadata.QueryBlob, metadata.BlobIDs{IDs: []metadata.BlobID{{id}}}, nil)
	}
	if err := errors.Join(ask(1)); err != nil {
		t.Fatalf("a blob that is known: %v", err)
	}
	if err := ask(2); !errors.Is(err, metadata.ErrRecovering) {
		t.Fatalf("a blob that is not known: %v", err)
	}

	there.must(there.do(metadata.CmdFenceHome, metadata.FenceHome{Home: 1, Epoch: 1}))
	if err := copyOf("c3", parts[0], late); !errors.Is(err, metadata.ErrConflict) {
		t.Fatalf("a reference of before was named after the fence: %v", err)
	}
	again, err := home.refer(4, 2, 1e9, 1)
	if err == nil {
		t.Fatal("a reference to garbage")
	}
	named := there.namings(1)
	if len(named.Refs) != 2 || named.More || len(there.namings(2).Refs) != 0 {
		t.Fatalf("%+v", named)
	}
	if err := home.do(metadata.CmdAssertReferences, metadata.AssertReferences{From: 2, Epoch: 0, Refs: named.Refs}); !errors.Is(err, metadata.ErrConflict) {
		t.Fatalf("of another epoch: %v", err)
	}
	if got, want := home.assert(metadata.AssertReferences{From: 1, Epoch: 1, Last: true}), (metadata.Asserted{}); !reflect.DeepEqual(got, want) {
		t.Fatalf("%+v, want %+v", got, want)
	}
	told := metadata.AssertReferences{From: 2, Epoch: 1, Refs: named.Refs, Last: true}
	if got, want := home.assert(told), (metadata.Asserted{Made: 2, Revived: 2}); !reflect.DeepEqual(got, want) {
		t.Fatalf("%+v, want %+v", got, want)
	}
	if got := home.states(1, 2); got[0] != metadata.BlobHeld || got[1] != metadata.BlobHeld {
		t.Fatalf("%v", got)
	}
	if got, want := home.under(), []string{"1:1"}; !reflect.DeepEqual(got, want) {
		t.Fatalf("what lacked shards as garbage: %v, want %v", got, want)
	}
	if got, want := home.assert(told), (metadata.Asserted{}); !reflect.DeepEqual(got, want) {
		t.Fatalf("told twice: %+v", got)
	}
	var pending metadata.PendingReferences
	home.must(home.query(metadata.QueryPending, metadata.RefPage{Before: 1 << 62, Limit: 10}, &pending))
	if len(pending.Refs) != 2 { // they may have been let go while the word of them was under way
		t.Fatalf("pending: %+v", pending)
	}
	if s := home.stats(); s.Garbage != 0 || s.References != 2 || s.Awaited != 0 || s.Untold != 2 {
		t.Fatalf("%+v", s)
	}
	home.must(home.do(metadata.CmdPutVersion, metadata.PutVersion{Version: version("k", "e", blobPart(0, 5, 0))}))
	if again, err = home.refer(5, 2, 1e9, 5); err != nil || again.Epoch != 0 {
		t.Fatal(again, err) // the harness knows no epochs
	}
	// All is let go: garbage is given away again.
	home.must(home.do(metadata.CmdDropReferences, metadata.RefIDs{IDs: []metadata.RefID{{1}, {2}}}))
	if got := home.garbage(); len(got.Items) != 2 {
		t.Fatalf("%+v", got)
	}
	audit(t, home.ix)
}

// A partition that was recovered has a copy again which was deleted, and its reference
// dropped. As long as the source is there it holds for the copy too; what is garbage
// stays garbage, and the copy counts as broken until it is deleted.
func TestCopiesThatComeBack(t *testing.T) {
	home, there := newHarness(t), newHarness(t)
	var refs []metadata.Reference
	for id := byte(1); id <= 2; id++ {
		p := blobPart(1, id, 0)
		home.must(home.do(metadata.CmdPutVersion, metadata.PutVersion{Version: version(string('a'+rune(id)), "e", p)}))
		ref, err := home.refer(id, 2, 1e9, id)
		home.must(err)
		refs = append(refs, ref)
		there.must(there.do(metadata.CmdPutVersion, metadata.PutVersion{Version: version(string('a'+rune(id)), "e", p.Refer(ref))}))
	}
	unused, err := home.refer(3, 2, 1e9, 1)
	home.must(err)
	there.must(there.do(metadata.CmdPutVersion, metadata.PutVersion{Version: version("lost", "e", blobPart(1, 1, 0).Refer(unused))}))
	home.must(home.do(metadata.CmdConfirmReferences, metadata.RefIDs{IDs: []metadata.RefID{unused.ID}}))
	home.must(home.do(metadata.CmdDropReferences, metadata.RefIDs{IDs: []metadata.RefID{refs[0].ID, refs[1].ID}}))
	home.must(home.do(metadata.CmdDeleteKey, metadata.DeleteKey{Bucket: bucketA, Key: "c"})) // blob 2
	there.lose(1)
	there.must(there.do(metadata.CmdRecovered, metadata.Recovered{Epoch: 1, Partitions: 2}))

	named := there.namings(1)
	got := home.assert(metadata.AssertReferences{From: 2, Refs: named.Refs, Last: true})
	if want := (metadata.Asserted{Made: 1, Gone: []metadata.RefID{{2}}}); !reflect.DeepEqual(got, want) {
		t.Fatalf("%+v, want %+v", got, want)
	}
	if got := home.states(1, 2); got[0] != metadata.BlobHeld || got[1] != metadata.BlobGarbage {
		t.Fatalf("%v", got)
	}
	// A reference whose only name was lost is asked about again.
	var d metadata.Doubted
	raw, err := home.apply(home.command(metadata.CmdDoubtReferences, metadata.DoubtReferences{To: 2}))
	home.must(err)
	home.must(metadata.DecodeBody(raw, &d))
	var pending metadata.PendingReferences
	home.must(home.query(metadata.QueryPending, metadata.RefPage{Before: 1 << 62, Limit: 10}, &pending))
	if d.More || d.Last != unused.ID || len(pending.Refs) != 2 {
		t.Fatalf("%+v, pending %+v", d, pending)
	}
	audit(t, home.ix)

	told := metadata.ToldHome{Home: 1, Own: 1, Broken: append(got.Gone, metadata.RefID{9})}
	for range 2 {
		there.must(there.do(metadata.CmdToldHome, told))
		audit(t, there.ix)
	}
	if s := there.stats(); s.Broken != 1 || s.Untold != 2 {
		t.Fatalf("%+v", s)
	}
	whole := metadata.ToldHome{Home: 1, Own: 1, Whole: told.Broken}
	there.must(there.do(metadata.CmdToldHome, whole))
	audit(t, there.ix)
	if s := there.stats(); s.Broken != 0 {
		t.Fatalf("%+v", s)
	}
	there.must(there.do(metadata.CmdToldHome, told))
	told.Done, told.Own = true, 0
	there.must(there.do(metadata.CmdToldHome, told))
	if s := there.stats(); s.Untold != 2 {
		t.Fatalf("the word of an earlier epoch counts: %+v", s)
	}
	told.Own = 1
	there.must(there.do(metadata.CmdToldHome, told))
	there.must(there.do(metadata.CmdDeleteKey, metadata.DeleteKey{Bucket: bucketA, Key: "c"}))
	audit(t, there.ix)
	if s := there.stats(); s.Broken != 0 || s.Untold != 1 {
		t.Fatalf("%+v", s)
	}
}

func TestRecoveryCommandsAreBounded(t *testing.T) {
	h := newHarness(t)
	for kind, body := range map[metadata.CommandKind]any{
		metadata.CmdRecovered:        metadata.Recovered{Epoch: 1},
		metadata.CmdAssertReferences: metadata.AssertReferences{Refs: []metadata.Naming{{Ref: metadata.Reference{ID: metadata.RefID{1}}}}},
		metadata.CmdToldHome:         metadata.ToldHome{Broken: make([]metadata.RefID, metadata.MaxReferences+1)},
	} {
		if err := h.do(kind, body); !errors.Is(err, metadata.ErrMalformed) {
			t.Errorf("command %d: %v", kind, err)
		}
	}
	if err := h.do(metadata.CmdRecovered, metadata.Recovered{Epoch: 1, Partitions: maxPartitions + 1}); !errors.Is(err, metadata.ErrMalformed) {
		t.Errorf("too many partitions: %v", err)
	}
	many := metadata.AssertReferences{Refs: make([]metadata.Naming, metadata.MaxReferences+1)}
	for i := range many.Refs {
		many.Refs[i] = metadata.Naming{Ref: metadata.Reference{ID: metadata.RefID{1, byte(i), byte(i >> 8)}}, Blobs: []metadata.Blob{{}}}
	}
	if err := h.do(metadata.CmdAssertReferences, many); !errors.Is(err, metadata.ErrMalformed) {
		t.Errorf("too many references: %v", err)
	}
}

// A page of namings is told to a home in one command, so it fits one, however many notes
// the blobs have; and no naming is left out.
func TestNamingsFitACommand(t *testing.T) {
	const maxCommand = 4 << 20 // metadata/replica
	h := newHarness(t)
	named := 0
	copyOf := func(parts int) {
		named++
		v := version(fmt.Sprint("copy", named), "e")
		ref := metadata.Reference{ID: metadata.RefID{byte(named)}, Home: 1, Until: 1 << 62}
		for i := range parts {
			p := blobPart(i+1, 1, 0)
			p.Blob.ID = metadata.BlobID{byte(named), byte(i >> 8), byte(i), 15: 1}
			p.Bytes, p.Blob.Bytes = 256<<20, 256<<20
			for c := range uint32(32) { // half of its chunks stood aside
				p.Blob.Notes = append(p.Blob.Notes, metadata.ChunkNote{Chunk: 2 * c, Attempt: 1})
			}
			v.Bytes += p.Bytes
			v.Parts = append(v.Parts, p.Refer(ref))
		}
		raw := h.command(metadata.CmdPutVersion, metadata.PutVersion{Version: v})
		if len(raw) > maxCommand {
			t.Fatalf("no such copy can be made: %d bytes", len(raw))
		}
		_, err := h.apply(raw)
		h.must(err)
	}
	copyOf(9_990)
	copyOf(9_990)
	for range 8 {
		copyOf(700)
	}
	seen, fullest := map[metadata.RefID]bool{}, 0
	page := metadata.NamingPage{Home: 1, Limit: metadata.MaxReferences}
	for more := true; more; {
		var out metadata.Namings
		h.must(h.query(metadata.QueryNamings, page, &out))
		if len(out.Refs) == 0 {
			t.Fatal("a page of nothing")
		}
		if raw := h.command(metadata.CmdAssertReferences, metadata.AssertReferences{From: 1, Refs: out.Refs, Last: !out.More}); len(raw) > maxCommand {
			t.Errorf("a page of %d references makes a command of %d bytes, more than %d", len(out.Refs), len(raw), maxCommand)
		}
		fullest = max(fullest, len(out.Refs))
		for _, n := range out.Refs {
			seen[n.Ref.ID] = true
		}
		more, page.After = out.More, out.Refs[len(out.Refs)-1].Ref.ID
	}
	if len(seen) != named || fullest < 2 {
		t.Errorf("%d of %d references are in pages, %d in the fullest", len(seen), named, fullest)
	}
}

// A record of a file of an earlier format names two references, the first of which
// another record named before.
func TestEveryReferenceOfARecordIsDerived(t *testing.T) {
	h := newHarness(t)
	p1, p2 := blobPart(1, 1, 0), blobPart(2, 2, 0)
	r1, r2 := metadata.Reference{ID: metadata.RefID{1}, Home: 1, Until: 1 << 62}, metadata.Reference{ID: metadata.RefID{2}, Home: 2, Until: 1 << 62}
	h.must(h.do(metadata.CmdPutVersion, metadata.PutVersion{Version: version("a", "e", p1.Refer(r1))}))
	h.must(h.do(metadata.CmdPutVersion, metadata.PutVersion{Version: version("b", "e", p1.Refer(r1), p2.Refer(r2))}))
	for _, r := range []metadata.Reference{r1, r2} {
		h.must(h.ix.t.named.Delete(namedKey(r.Home, r.ID)))
	}
	h.must(h.ix.deriveNamed())
	audit(t, h.ix)
	for _, key := range []string{"a", "b"} {
		h.must(h.do(metadata.CmdDeleteKey, metadata.DeleteKey{Bucket: bucketA, Key: key}))
	}
	audit(t, h.ix)
}

// recoveries are copies among partitions that are recovered by force, and forget.
type recoveries struct {
	copies
	removed map[metadata.BlobID]bool // shards are gone
	excused map[metadata.BlobID]bool // they were gone when a partition went back in time
	unasked map[metadata.RefID]bool  // named by entries that nobody was told are there
	lived   map[metadata.RefID]bool  // whose copies have seen a recovery
	epochs  [2]uint32
}

// brought tells of a reference whose naming a recovery may have brought back, or up.
func (c *recoveries) brought(id metadata.RefID) bool { return c.dropped[id] || c.unasked[id] }

// recover takes a group back by some entries. What was never acknowledged may be the end
// of what it goes on with.
func (c *recoveries) recover(g int) {
	h := c.groups[g]
	h.lose(rapid.IntRange(0, min(len(h.log), 12)).Draw(c.rt, "lost"))
	for id := range c.removed {
		c.excused[id] = true
	}
	for _, k := range c.copied {
		if k.to == g && rapid.IntRange(0, 3).Draw(c.rt, "in the tail") == 0 {
			raw, err := metadata.NewCommand(metadata.Level, metadata.CmdPutVersion, metadata.RequestID{c.next(), 0xff}, 0, metadata.PutVersion{Version: version(k.key, "e", k.part)})
			h.must(err)
			if _, err := h.apply(raw); err != nil && !errors.Is(err, metadata.ErrConflict) {
				c.rt.Fatal(err)
			}
			c.unasked[k.part.Ref.ID] = true
		}
	}
	// Who copies does not live through two recoveries.
	c.copied = slices.DeleteFunc(c.copied, func(k copied) bool { return c.lived[k.part.Ref.ID] })
	for _, k := range c.copied {
		c.lived[k.part.Ref.ID] = true
	}
	c.epochs[g]++
	c.rt.Logf("g%d recovered to %d", g+1, h.next)
	raw, err := metadata.NewCommand(metadata.Level, metadata.CmdRecovered, metadata.RequestID{c.next(), 0xfe}, 0,
		metadata.Recovered{Epoch: c.epochs[g], Partitions: 2})
	h.must(err)
	_, err = h.apply(raw)
	h.must(err)
}

// compare is what the leader of a recovered group does; it may break off anywhere.
func (c *recoveries) compare(from, home int, whole bool) {
	broken := func() bool { return !whole && rapid.IntRange(0, 3).Draw(c.rt, "breaks off") == 0 }
	own, its := c.groups[from].recovery(), c.groups[home].recovery()
	answer := func(raw []byte, err error, into any) {
		c.groups[from].must(err)
		c.groups[from].must(metadata.DecodeBody(raw, into))
	}
	if broken() {
		return
	}
	_, err := c.do(from, metadata.CmdFenceHome, metadata.FenceHome{Home: uint16(home + 1), Epoch: its.Epoch})
	c.groups[from].must(err)
	if broken() {
		return
	}
	page := metadata.NamingPage{Home: uint16(home + 1), Limit: 1}
	for more := true; more; {
		var named metadata.Namings
		c.groups[from].must(c.groups[from].query(metadata.QueryNamings, page, &named))
		if more = named.More; more {
			page.After = named.Refs[0].Ref.ID
		}
		c.meanwhile(from, home)
		raw, err := c.do(home, metadata.CmdAssertReferences, metadata.AssertReferences{From: uint16(from + 1), Epoch: its.Epoch, Refs: named.Refs, Last: !more})
		if errors.Is(err, metadata.ErrConflict) && c.groups[home].recovery().Epoch != its.Epoch {
			return
		}
		var got metadata.Asserted
		answer(raw, err, &got)
		for _, id := range got.Gone {
			if !c.brought(id) {
				c.rt.Fatalf("reference %x from %d to %d is gone, and was never dropped", id, from+1, home+1)
			}
		}
		if broken() {
			return
		}
		told := metadata.ToldHome{Home: uint16(home + 1), Epoch: its.Epoch, Own: own.Epoch, Broken: got.Gone}
		for _, n := range named.Refs {
			if n.Broken && !slices.Contains(got.Gone, n.Ref.ID) {
				told.Whole = append(told.Whole, n.Ref.ID)
			}
		}
		_, err = c.do(from, metadata.CmdToldHome, told)
		c.groups[from].must(err)
		if broken() {
			return
		}
	}
	var d metadata.Doubted
	raw, err := c.do(home, metadata.CmdDoubtReferences, metadata.DoubtReferences{To: uint16(from + 1)})
	if answer(raw, err, &d); d.More || broken() {
		return
	}
	_, err = c.do(from, metadata.CmdToldHome, metadata.ToldHome{Home: uint16(home + 1), Epoch: its.Epoch, Own: own.Epoch, Done: true})
	c.groups[from].must(err)
}

// meanwhile is what may come between two steps of a comparison.
func (c *recoveries) meanwhile(from, home int) {
	switch rapid.IntRange(0, 15).Draw(c.rt, "meanwhile") {
	case 0, 1:
		c.step(from)
	case 2: // all that was named is let go, and its home knows
		for _, key := range []string{"a", "b", "c"} {
			_, err := c.do(from, metadata.CmdDeleteKey, metadata.DeleteKey{Bucket: bucketA, Key: key})
			c.groups[from].must(err)
		}
		c.clock += 2 * copyLife
		c.cleanUp(from, true)
	case 3:
		c.recover(from)
	case 4:
		c.recover(home)
	}
}

// reclaim removes the shards of garbage. No record that is to be read may name them: but
// one that was deleted before, and came back with a partition that forgot it.
func (c *recoveries) reclaim(g int, whole bool) {
	for _, item := range c.groups[g].garbage().Items {
		c.removed[item.Blob.ID] = true
		for other := range c.groups {
			for _, key := range []string{"a", "b", "c"} {
				v, exists := c.get(other, key)
				if !exists || v.Parts[0].Blob.ID != item.Blob.ID {
					continue
				}
				if r := v.Parts[0].Ref; r == nil || !c.brought(r.ID) {
					c.rt.Fatalf("group %d reclaims blob %x, which key %s of group %d names by %+v", g+1, item.Blob.ID, key, other+1, r)
				}
			}
		}
		if !whole && rapid.IntRange(0, 3).Draw(c.rt, "breaks off") == 0 {
			return
		}
		_, err := c.do(g, metadata.CmdDropGarbage, metadata.DropGarbage{Items: []metadata.GarbageID{item.ID}})
		c.groups[g].must(err)
	}
}

// step is one thing that happens in a group, but for a recovery and a comparison.
func (c *recoveries) step(g int) {
	switch rapid.IntRange(0, 9).Draw(c.rt, "op") {
	case 0, 1:
		p := blobPart(0, c.next(), uint64(rapid.IntRange(0, 1).Draw(c.rt, "missing")))
		p.Blob.ID[15] = byte(g + 1)
		_, err := c.do(g, metadata.CmdPutVersion, metadata.PutVersion{Version: version(c.key(), "e", p)})
		c.groups[g].must(err)
	case 2, 3:
		c.begin(g, rapid.IntRange(0, 1).Draw(c.rt, "to"), c.key(), c.key())
	case 4, 5:
		c.finish()
	case 6:
		_, err := c.do(g, metadata.CmdDeleteKey, metadata.DeleteKey{Bucket: bucketA, Key: c.key()})
		c.groups[g].must(err)
	case 7:
		c.reclaim(g, false)
	default:
		c.cleanUp(g, false)
	}
}

// TestCopiesThroughRecoveries: partitions are recovered by force at any moment and forget
// their last commits, each by itself. With copies, deletes, clean-ups and comparisons in
// any order, no shard is removed that a record needs, but of copies that a recovery
// brought back after they had been deleted; and in the end nothing is held for nothing,
// nobody waits, and of each copy it is known whether it is held.
func TestCopiesThroughRecoveries(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		c := &recoveries{copies: copies{rt: rt, clock: 1, groups: [2]*harness{newHarness(t), newHarness(t)}},
			removed: map[metadata.BlobID]bool{}, excused: map[metadata.BlobID]bool{},
			unasked: map[metadata.RefID]bool{}, lived: map[metadata.RefID]bool{}}
		for range rapid.IntRange(1, 50).Draw(rt, "steps") {
			g := rapid.IntRange(0, 1).Draw(rt, "group")
			switch rapid.IntRange(0, 11).Draw(rt, "step") {
			case 0:
				c.recover(g)
			case 1, 2, 3:
				c.compare(g, rapid.IntRange(0, 1).Draw(rt, "home"), false)
			default:
				c.step(g)
			}
			audit(t, c.groups[0].ix)
			audit(t, c.groups[1].ix)
		}
		for g := 0; g < 4; g++ {
			if c.compare(g/2, g%2, true); g == 3 && c.waiting() {
				g = -1 // something came between
			}
		}
		c.copied = nil
		c.clock += 3 * copyLife
		for range 3 {
			c.cleanUp(0, true)
			c.cleanUp(1, true)
		}
		c.reclaim(0, true)
		c.reclaim(1, true)
		c.checkEnd()
	})
}

func (c *recoveries) waiting() bool {
	return slices.ContainsFunc(c.groups[:], func(h *harness) bool { return h.stats().Awaited+h.stats().Untold > 0 })
}

func (c *recoveries) checkEnd() {
	used := [2]int64{}
	for g, h := range c.groups {
		audit(h.t, h.ix)
		for _, key := range []string{"a", "b", "c"} {
			v, exists := c.get(g, key)
			if !exists {
				continue
			}
			id := v.Parts[0].Blob.ID
			r := v.Parts[0].Ref
			home := int(id[15]) - 1
			broken := false
			if r != nil {
				n, named, err := h.ix.blobsNamed(r.Home, r.ID)
				h.must(err)
				if broken = n.Broken; !named || broken && !c.brought(r.ID) {
					c.rt.Fatalf("key %s of group %d: naming %+v", key, g+1, n)
				}
				if _, held, err := c.groups[home].ix.reference(r.ID); err != nil || held == broken {
					c.rt.Fatalf("key %s of group %d: its reference is there: %v, and called broken: %v, %v", key, g+1, held, broken, err)
				}
				used[home] += one(!broken)
			}
			if s := c.groups[home].states2(id); !broken && s != metadata.BlobHeld {
				c.rt.Fatalf("key %s of group %d names blob %x, whose state is %d", key, g+1, id, s)
			}
			if c.removed[id] && !broken && !c.excused[id] {
				c.rt.Fatalf("key %s of group %d names blob %x, whose shards are gone", key, g+1, id)
			}
		}
	}
	for g, h := range c.groups {
		s := h.stats()
		if s.References != used[g] || s.Releases != 0 || s.Garbage != 0 || s.Awaited != 0 || s.Untold != 0 {
			c.rt.Fatalf("group %d: %d references are in use: %+v", g+1, used[g], s)
		}
	}
}

// What one command goes through to make references pending again is bounded in rows and
// in bytes, and all commands together come to the end.
func TestDoubtIsBounded(t *testing.T) {
	h := newHarness(t)
	const refs = 400
	r := metadata.HeldReference{Parts: make([]metadata.Part, 2000)}
	for i := range r.Parts {
		r.Parts[i].Blob = &metadata.Blob{ID: metadata.BlobID{byte(i), byte(i >> 8), 1}, Bytes: 1 << 30}
	}
	size := 0
	for n := range refs {
		id := metadata.RefID{byte(n), byte(n >> 8), 1}
		r.To, r.Until = uint16(1+n%2), int64(n)
		h.must(h.ix.storeReference(id, r))
		size += len(h.ix.t.references.Get(id[:]))
	}
	commands := 0
	for d := (metadata.Doubted{More: true}); d.More; commands++ {
		raw, err := h.apply(h.command(metadata.CmdDoubtReferences, metadata.DoubtReferences{To: 2, After: d.Last}))
		h.must(err)
		d = metadata.Doubted{}
		h.must(metadata.DecodeBody(raw, &d))
	}
	if want := size / doubtedBytes; commands <= want || commands > 2*want+2 {
		t.Errorf("%d bytes of references took %d commands of %d at most", size, commands, doubtedBytes)
	}
	pending := 0
	cur := h.ix.t.pending.Cursor()
	for k, _ := cur.First(); k != nil; k, _ = cur.Next() {
		pending++
	}
	if pending != refs/2 {
		t.Errorf("%d references are pending, want %d", pending, refs/2)
	}
}
