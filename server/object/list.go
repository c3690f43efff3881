package object

import (
	"context"

	"bivalve/metadata"
)

// ListVersions is one page of the versions in a bucket, by key, then the newest
// first.
func (s *Store) ListVersions(ctx context.Context, q VersionQuery) (VersionPage, error) {
	var page VersionPage
	b, err := s.cfg.Buckets.GetBucketNow(ctx, q.Bucket)
	if err != nil {
		return page, err
	}
	rows, err := s.cfg.Versions.ListVersions(ctx, metadata.VersionPage{Bucket: b.ID, Prefix: q.Prefix, Delimiter: q.Delimiter,
		AfterKey: q.AfterKey, AfterTime: q.AfterTime, Limit: q.Limit})
	if err != nil {
		return page, err
	}
	for _, row := range rows.Rows {
		if row.Record == nil {
			page.Prefixes = append(page.Prefixes, row.Name)
			page.NextKey, page.NextTime, page.NextVersion = row.Name, 0, ""
			continue
		}
		o, err := metadata.DecodeSummary(row.Name, row.Record)
		if err != nil {
			return page, err
		}
		o.Latest = row.Latest
		page.Versions = append(page.Versions, o)
		page.NextKey, page.NextTime, page.NextVersion = row.Name, o.Modified, o.VersionID
	}
	page.More = rows.More
	return page, nil
}

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
