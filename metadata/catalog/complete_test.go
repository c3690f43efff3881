package catalog_test

import (
	"context"
	"errors"
	"fmt"
	"testing"

	"bivalve/metadata"
	"bivalve/metadata/catalog/catalogtest"
	"bivalve/metadata/replica"
)

// TestCompleteOfManyNotedParts: the command that completes an upload is small, however
// much is noted of its chunks; what the caller knows of them stays.
func TestCompleteOfManyNotedParts(t *testing.T) {
	groups := catalogtest.Open(t, 1)
	cat := groups.Catalog(t)
	v := metadata.Version{Key: "k"}
	for n := range metadata.MaxParts {
		b := &metadata.Blob{ID: metadata.BlobID{byte(n), byte(n >> 8), 1}, Bytes: 100 << 20, Profile: metadata.Profile{K: 2, M: 1}, AtRisk: []string{"a"}}
		for chunk := range uint32(25) {
			b.Notes = append(b.Notes, metadata.ChunkNote{Chunk: chunk, PG: 7, Missing: 1, Zones: []string{"a", "b"}})
		}
		v.Parts = append(v.Parts, metadata.Part{Number: n + 1, Bytes: b.Bytes, ETag: fmt.Sprintf("%032x", n), Blob: b})
	}
	size, stop := 0, errors.New("not to be applied")
	groups.OnPropose = func(_ context.Context, _ replica.GroupID, _ metadata.CommandKind, c metadata.Command) (bool, error) {
		size = len(c.Body)
		return false, stop
	}
	if _, err := cat.CompleteUpload(t.Context(), metadata.UploadID{1}, v, metadata.Condition{}); err == nil {
		t.Fatal("no error")
	}
	if size == 0 || size > 2<<20 {
		t.Errorf("%d bytes are proposed", size)
	}
	if len(v.Parts[9].Blob.Notes) != 25 {
		t.Error("the caller's notes are gone")
	}
}
