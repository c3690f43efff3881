//go:build !noconsent

package upkeep

import (
	"context"

	"bivalve/metadata"
	"bivalve/metadata/replica"
)

// consent asks the partition.
func consent(ctx context.Context, from BlobConsent, g replica.GroupID, ids []metadata.BlobID) ([]metadata.BlobState, error) {
	return from.BlobStates(ctx, g, ids)
}
