//go:build noconsent

package upkeep

import (
	"context"

	"bivalve/metadata"
	"bivalve/metadata/replica"
)

// consent takes an answer that does not come for a yes, to see that the tests notice.
func consent(ctx context.Context, from BlobConsent, g replica.GroupID, ids []metadata.BlobID) ([]metadata.BlobState, error) {
	got, err := from.BlobStates(ctx, g, ids)
	if err != nil {
		return make([]metadata.BlobState, len(ids)), nil
	}
	return got, nil
}
