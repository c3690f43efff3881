//go:build !earlyconditions

package catalog

import (
	"context"

	"bivalve/metadata"
)

// condition of a change travels with its command and is evaluated where that is
// applied, never by reading first: between a read and the commit another may come.
func (c *Catalog) condition(_ context.Context, _ metadata.BucketID, _ string, cond metadata.Condition) (metadata.Condition, error) {
	return cond, nil
}
