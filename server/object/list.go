package object

import (
	"context"

	"bivalve/metadata"
)

// ListObjects is one page of a bucket in byte order of the keys.
func (s *Store) ListObjects(ctx context.Context, r ListRequest) (ListPage, error) {
	var page ListPage
	b, err := s.cfg.Buckets.GetBucketNow(ctx, r.Bucket)
	if err != nil {
		return page, err
	}
	rows, err := s.cfg.Versions.ListObjects(ctx, metadata.ObjectPage{
		Bucket: b.ID, Prefix: r.Prefix, Delimiter: r.Delimiter, After: r.After, Limit: r.Limit,
	})
	if err != nil {
		return page, err
	}
	for _, row := range rows.Rows {
		page.Next = row.Name
		if row.Record == nil {
			page.Prefixes = append(page.Prefixes, row.Name)
			continue
		}
		o, err := metadata.DecodeSummary(row.Name, row.Record)
		if err != nil {
			return page, err
		}
		page.Objects = append(page.Objects, o)
	}
	page.More = rows.More
	return page, nil
}
