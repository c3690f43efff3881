package index

import (
	"reflect"
	"strings"
	"testing"

	"bivalve/metadata"
)

// transportBytes is what nodes carry of one answer.
const transportBytes = 16 << 20

// answer is the size of what a query answers.
func (h *harness) answer(kind metadata.QueryKind, body any) int {
	h.t.Helper()
	q, err := metadata.NewQuery(kind, body)
	h.must(err)
	raw, err := h.ix.Query(q)
	h.must(err)
	return len(raw)
}

// bigParts are parts of 5 GiB of which every chunk lacks a shard: together their records
// are more than an answer may be.
func bigParts() (parts []metadata.Part) {
	const chunks = metadata.MaxPartBytes / metadata.ChunkBytes
	zones := []string{strings.Repeat("a", 200), strings.Repeat("b", 200)}
	for n := range byte(40) {
		p := blobPart(int(n)+1, n+1, 0)
		p.Bytes, p.Blob.Bytes = metadata.MaxPartBytes, metadata.MaxPartBytes
		for c := range uint32(chunks) {
			p.Blob.Notes = append(p.Blob.Notes, metadata.ChunkNote{Chunk: c, Attempt: uint8(c % 3), Missing: 1, PG: 9, Zones: zones})
		}
		parts = append(parts, p)
	}
	return parts
}

// An object and an upload with very many chunks that lack shards can be read by nodes
// that have no copy of the partition.
func TestAnswersFitWhatNodesCarry(t *testing.T) {
	h := newHarness(t)
	parts := bigParts()
	u := metadata.Upload{Bucket: bucketA, Key: "k", ID: metadata.UploadID{7: 1}}
	ref := metadata.UploadRef{Bucket: u.Bucket, Key: u.Key, ID: u.ID}
	h.must(h.do(metadata.CmdCreateUpload, u))
	for _, p := range parts {
		h.must(h.do(metadata.CmdPutPart, metadata.PutPart{Upload: ref, Part: p}))
	}
	var stored []metadata.Part
	for page := (metadata.Parts{More: true}); page.More; {
		q := metadata.PartPage{Upload: ref, After: len(stored), Limit: metadata.MaxParts}
		if n := h.answer(metadata.QueryParts, q); n > transportBytes {
			t.Fatalf("a page of parts has %d bytes", n)
		}
		page = metadata.Parts{}
		h.must(h.query(metadata.QueryParts, q, &page))
		if len(page.Parts) == 0 {
			t.Fatal("an empty page")
		}
		stored = append(stored, page.Parts...)
	}
	for i := range stored {
		stored[i].Modified = 0
	}
	if !reflect.DeepEqual(stored, parts) {
		t.Error("the parts are not those that were put")
	}

	bare := version("k", "e")
	for _, p := range stored {
		b := *p.Blob
		b.Notes, b.AtRisk = nil, nil
		p.Blob = &b
		bare.Parts = append(bare.Parts, p)
	}
	h.must(h.do(metadata.CmdCompleteUpload, metadata.CompleteUpload{Upload: u.ID, Version: bare}))
	q := metadata.KeyRef{Bucket: bucketA, Key: "k"}
	if n := h.answer(metadata.QueryVersion, q); n > transportBytes {
		t.Fatalf("the record has %d bytes", n)
	}
	raw, err := h.ask(metadata.QueryVersion, q)
	h.must(err)
	v, err := metadata.DecodeVersion(bucketA, "k", raw)
	h.must(err)
	if len(v.Parts) != len(parts) || v.ETag != "e" || v.Attributes.User["a"] != "1" {
		t.Fatalf("%d parts, ETag %s", len(v.Parts), v.ETag)
	}
	for i, p := range v.Parts {
		attempts := map[uint32]uint8{}
		for _, n := range p.Blob.Notes {
			attempts[n.Chunk] = n.Attempt
		}
		for _, n := range parts[i].Blob.Notes {
			if attempts[n.Chunk] != n.Attempt {
				t.Fatalf("chunk %d of part %d is at attempt %d, want %d", n.Chunk, i, attempts[n.Chunk], n.Attempt)
			}
		}
	}
	if s := h.stats(); s.UnderProtected != 1 || s.Queued != int64(len(parts)) {
		t.Errorf("what lacks shards is not counted any more: %+v", s)
	}
}

// ask is query for what is not one CBOR item.
func (h *harness) ask(kind metadata.QueryKind, body any) ([]byte, error) {
	h.t.Helper()
	q, err := metadata.NewQuery(kind, body)
	h.must(err)
	raw, err := h.ix.Query(q)
	h.must(err)
	return metadata.DecodeResult(raw)
}
