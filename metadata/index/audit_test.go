package index

import (
	"bytes"
	"fmt"
	"reflect"
	"sort"
	"testing"

	"bivalve/metadata"
)

// audit counts again, from the records alone, whatever is kept beside them.
func audit(t testing.TB, ix *Index) {
	t.Helper()
	want := auditState{owners: map[metadata.BlobID][]string{}, under: map[string]bool{}, slots: map[metadata.Slot]metadata.SlotCount{},
		named: map[metadata.RefID]uint64{}, blobs: map[string][]metadata.BlobID{}}
	want.stats.AtRisk = map[string]int64{}
	cur := ix.t.objects.Cursor()
	for k, raw := cur.First(); k != nil; k, raw = cur.Next() {
		v, err := metadata.DecodeVersion(metadata.BucketID(k[:16]), string(k[16:]), raw)
		if err != nil {
			t.Fatal(err)
		}
		want.stats.Objects++
		want.stats.Bytes += v.Bytes
		want.record(metadata.VersionOwner(&v), v.Parts, v.Bytes)
	}
	cur = ix.t.versions.Cursor()
	for k, raw := cur.First(); k != nil; k, raw = cur.Next() {
		v, err := metadata.DecodeVersion(metadata.BucketID(k[:16]), nameOf(k), raw)
		if err != nil {
			t.Fatal(err)
		}
		if v.DeleteMarker {
			want.stats.Markers++
			continue
		}
		want.stats.Objects++
		want.stats.Bytes += v.Bytes
		want.record(metadata.VersionOwner(&v), v.Parts, v.Bytes)
	}
	cur = ix.t.parts.Cursor()
	for k, raw := cur.First(); k != nil; k, raw = cur.Next() {
		var p metadata.Part
		if err := metadata.DecodeBody(raw, &p); err != nil {
			t.Fatal(err)
		}
		want.record(metadata.PartOwner(metadata.UploadID(k[:16]), p.Number), []metadata.Part{p}, p.Bytes)
	}
	cur = ix.t.uploads.Cursor()
	for k, _ := cur.First(); k != nil; k, _ = cur.Next() {
		want.stats.Uploads++
	}
	cur = ix.t.garbage.Cursor()
	for k, raw := cur.First(); k != nil; k, raw = cur.Next() {
		var b metadata.Blob
		if err := metadata.DecodeBody(raw, &b); err != nil {
			t.Fatal(err)
		}
		want.stats.Garbage++
		if want.owners[b.ID] == nil {
			want.owners[b.ID] = []string{}
		}
	}
	cur = ix.t.references.Cursor()
	for k, raw := cur.First(); k != nil; k, raw = cur.Next() {
		var r metadata.HeldReference
		if err := metadata.DecodeBody(raw, &r); err != nil {
			t.Fatal(err)
		}
		want.stats.References++
		want.record(metadata.ReferenceOwner(metadata.RefID(k)), r.Parts, sizeOf(r.Parts))
	}
	cur = ix.t.releases.Cursor()
	for k, _ := cur.First(); k != nil; k, _ = cur.Next() {
		want.stats.Releases++
	}
	want.stats.Epoch = ix.stats.Epoch
	cur = ix.t.peers.Cursor()
	for k, raw := cur.First(); k != nil; k, raw = cur.Next() {
		var p metadata.PeerState
		if err := metadata.DecodeBody(raw, &p); err != nil {
			t.Fatal(err)
		}
		want.stats.Awaited += one(p.Awaited)
		want.stats.Untold += one(p.Untold)
	}
	cur = ix.t.named.Cursor()
	for k, raw := cur.First(); k != nil; k, raw = cur.Next() {
		var n metadata.Naming
		if err := metadata.DecodeBody(raw, &n); err != nil {
			t.Fatal(err)
		}
		want.stats.Broken += one(n.Broken)
	}
	want.compare(t, ix)
	want.census(t, ix)
	auditReferences(t, ix, want.named, want.blobs)
	auditUsage(t, ix)
}

// auditUsage counts what buckets have again, and compares it with what is kept.
func auditUsage(t testing.TB, ix *Index) {
	t.Helper()
	kept := map[metadata.BucketID]metadata.Usage{}
	for b, u := range ix.usage {
		if *u != (metadata.Usage{}) {
			kept[b] = *u
		}
	}
	usage, used := ix.usage, ix.used
	if err := ix.deriveUsage(); err != nil {
		t.Fatal(err)
	}
	counted := map[metadata.BucketID]metadata.Usage{}
	for b, u := range ix.usage {
		counted[b] = *u
	}
	ix.usage, ix.used = usage, used
	if !reflect.DeepEqual(kept, counted) {
		t.Errorf("usage: kept %+v, counted again %+v", kept, counted)
	}
}

// auditReferences: what records name is counted, with its blobs, and every pending
// reference is there.
func auditReferences(t testing.TB, ix *Index, named map[metadata.RefID]uint64, blobs map[string][]metadata.BlobID) {
	t.Helper()
	got := map[metadata.RefID]uint64{}
	cur := ix.t.refs.Cursor()
	for k, _ := cur.First(); k != nil; k, _ = cur.Next() {
		got[metadata.RefID(k)] = ix.naming(metadata.RefID(k))
	}
	if !reflect.DeepEqual(got, named) {
		t.Errorf("references named: kept %v, counted again %v", got, named)
	}
	kept := map[string][]metadata.BlobID{}
	cur = ix.t.named.Cursor()
	for k, raw := cur.First(); k != nil; k, raw = cur.Next() {
		var n metadata.Naming
		if err := metadata.DecodeBody(raw, &n); err != nil {
			t.Fatal(err)
		}
		for _, b := range n.Blobs {
			kept[string(k)] = append(kept[string(k)], b.ID)
		}
	}
	for k, want := range blobs { // of several records that name it, each has all
		if have := kept[k]; len(have) == 0 || len(want)%len(have) != 0 || !reflect.DeepEqual(want[:len(have)], have) {
			t.Errorf("reference %x: kept %v, named %v", k, have, want)
		}
	}
	if len(kept) != len(blobs) {
		t.Errorf("blobs of %d references are kept, %d are named", len(kept), len(blobs))
	}
	cur = ix.t.pending.Cursor()
	for k, _ := cur.First(); k != nil; k, _ = cur.Next() {
		if r, exists, err := ix.reference(metadata.RefID(k[8:])); err != nil || !exists || !bytes.Equal(k[:8], timeKey(r.Until, nil)) {
			t.Errorf("%x is pending, and its reference does not say so: %+v, %v", k, r, err)
		}
	}
}

// census counts once more, from what the index tells a census, page by page.
func (a *auditState) census(t testing.TB, ix *Index) {
	t.Helper()
	got := metadata.Stats{AtRisk: map[string]int64{}}
	last := map[metadata.Slot]int64{}
	page := metadata.BlobPage{Limit: 3}
	for {
		answer, err := ix.queryBlobs(page)
		if err != nil {
			t.Fatal(err)
		}
		rows := answer.(metadata.BlobRows)
		for _, row := range rows.Rows {
			if len(row.Owners) == 0 {
				got.Garbage++
			}
			if row.Blob.UnderProtected() {
				got.Queued++
			}
			for _, o := range row.Owners {
				st := o.Standing
				if st == nil {
					continue
				}
				got.WithBlobs++
				if st.Under {
					got.UnderProtected++
					got.UnderBytes += o.Bytes
				}
				if st.Unreadable {
					got.Unreadable++
				}
				for _, z := range st.AtRisk {
					got.AtRisk[z]++
				}
				for _, s := range st.Last {
					last[s]++
				}
			}
			id := row.Blob.ID
			page.After = id[:]
		}
		if !rows.More {
			break
		}
	}
	want := a.stats
	want.Objects, want.Bytes, want.Uploads, want.Markers, want.References, want.Releases = 0, 0, 0, 0, 0, 0
	want.Epoch, want.Awaited, want.Untold, want.Broken = 0, 0, 0, 0
	if !reflect.DeepEqual(got, want) {
		t.Errorf("a census counts %+v, want %+v", got, want)
	}
	for s, n := range last {
		if a.slots[s].Last != n {
			t.Errorf("a census counts %d objects on %+v, want %d", n, s, a.slots[s].Last)
		}
	}
}

// auditState is what audit expects.
type auditState struct {
	stats  metadata.Stats
	owners map[metadata.BlobID][]string
	under  map[string]bool
	slots  map[metadata.Slot]metadata.SlotCount
	named  map[metadata.RefID]uint64
	blobs  map[string][]metadata.BlobID // by key in named
}

func (a *auditState) record(o metadata.BlobOwner, parts []metadata.Part, size int64) {
	blobs, under, unreadable := false, false, false
	risk, last := map[string]bool{}, map[metadata.Slot]bool{}
	for _, p := range parts {
		if p.Blob == nil {
			continue
		}
		if p.Ref != nil {
			a.named[p.Ref.ID]++
			k := string(namedKey(p.Ref.Home, p.Ref.ID))
			a.blobs[k] = append(a.blobs[k], p.Blob.ID)
			continue
		}
		blobs = true
		b := *p.Blob
		first := len(a.owners[b.ID]) == 0
		a.owners[b.ID] = append(a.owners[b.ID], fmt.Sprintf("%+v", o))
		for _, z := range b.AtRisk {
			risk[z] = true
		}
		lacks := false
		for _, n := range b.Notes {
			left := 0
			for i := range 2 * (int(b.Profile.K) + int(b.Profile.M)) {
				s := metadata.Slot{PG: n.PG, Index: uint8(i)}
				if n.Missing>>i&1 == 0 {
					left++
				} else if lacks = true; first && n.Zones != nil {
					c := a.slots[s]
					c.Slot, c.Missing, c.Bytes = s, c.Missing+1, c.Bytes+b.ShardBytes(n.Chunk)
					a.slots[s] = c
				}
			}
			unreadable = unreadable || left < int(b.Profile.K)
			for i := range 2 * (int(b.Profile.K) + int(b.Profile.M)) {
				if n.Missing != 0 && n.Zones != nil && left == int(b.Profile.K) && n.Missing>>i&1 == 0 {
					last[metadata.Slot{PG: n.PG, Index: uint8(i)}] = true
				}
			}
		}
		if lacks {
			under = true
			a.under[string(place(&b))] = true
		}
	}
	if blobs {
		a.stats.WithBlobs++
	}
	if under {
		a.stats.UnderProtected++
		a.stats.UnderBytes += size
	}
	if unreadable {
		a.stats.Unreadable++
	}
	for z := range risk {
		a.stats.AtRisk[z]++
	}
	for s := range last {
		c := a.slots[s]
		c.Slot, c.Last = s, c.Last+1
		a.slots[s] = c
	}
}

func (a *auditState) compare(t testing.TB, ix *Index) {
	t.Helper()
	got := auditState{owners: map[metadata.BlobID][]string{}, under: map[string]bool{}, slots: map[metadata.Slot]metadata.SlotCount{}}
	got.stats = ix.stats
	got.stats.Changes = 0
	got.stats.AtRisk = map[string]int64{}
	for z, n := range ix.stats.AtRisk {
		if n != 0 {
			got.stats.AtRisk[z] = n
		}
	}
	waiting := map[string]bool{}
	cur := ix.t.blobs.Cursor()
	for k, raw := cur.First(); k != nil; k, raw = cur.Next() {
		var h holding
		if err := metadata.DecodeBody(raw, &h); err != nil {
			t.Fatal(err)
		}
		list := []string{}
		for _, o := range h.Owners {
			list = append(list, fmt.Sprintf("%+v", o))
		}
		got.owners[metadata.BlobID(k)] = list
		if h.Place != nil {
			waiting[fmt.Sprintf("%x%s", timeKey(h.Since, nil), k)] = true
			got.under[string(h.Place)] = true
		}
	}
	for _, lists := range []map[metadata.BlobID][]string{a.owners, got.owners} {
		for _, l := range lists {
			sort.Strings(l)
		}
	}
	a.stats.Queued = int64(len(a.under))
	cur = ix.t.under.Cursor()
	for k, _ := cur.First(); k != nil; k, _ = cur.Next() {
		if !got.under[string(k)] {
			t.Errorf("%x is queued, and its blob does not say so", k)
		}
	}
	n := 0
	cur = ix.t.since.Cursor()
	for k, _ := cur.First(); k != nil; k, _ = cur.Next() {
		if n++; !waiting[fmt.Sprintf("%x%s", k[:8], k[8:])] {
			t.Errorf("%x waits, and its blob does not say so", k)
		}
	}
	if n != len(waiting) {
		t.Errorf("%d blobs wait, %d say so", n, len(waiting))
	}
	cur = ix.t.slots.Cursor()
	for k, raw := cur.First(); k != nil; k, raw = cur.Next() {
		var c metadata.SlotCount
		if err := metadata.DecodeBody(raw, &c); err != nil {
			t.Fatal(err)
		}
		got.slots[c.Slot] = c
	}
	got.named, got.blobs = a.named, a.blobs // auditReferences compares them
	if !reflect.DeepEqual(got, *a) {
		t.Errorf("kept:\n%+v\ncounted again:\n%+v", got, *a)
	}
}
