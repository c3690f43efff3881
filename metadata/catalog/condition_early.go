//go:build earlyconditions

package catalog

import (
	"context"
	"errors"

	"bivalve/metadata"
)

// condition is evaluated before the commit instead of in it, to see that the tests
// notice. No server is ever built with it.
func (c *Catalog) condition(ctx context.Context, bucket metadata.BucketID, key string, cond metadata.Condition) (metadata.Condition, error) {
	if cond == (metadata.Condition{}) {
		return cond, nil
	}
	cur, err := c.GetVersion(ctx, bucket, key, "")
	exists := err == nil && !cur.DeleteMarker
	if err != nil && !errors.Is(err, metadata.ErrNoSuchKey) {
		return cond, err
	}
	if cond.IfNoneMatchAny && exists || cond.IfMatch != "" && (!exists || cond.IfMatch != "*" && cond.IfMatch != cur.ETag) {
		return cond, metadata.ErrConditionFailed
	}
	return metadata.Condition{}, nil
}
