package catalog

import (
	"context"

	"bivalve/metadata"
	"bivalve/metadata/replica"

	"golang.org/x/sync/errgroup"
)

// row is what listings of objects and of uploads merge by.
type row interface {
	name() string
	// less orders rows of the same name.
	less(other row) bool
}

// stream is one partition's ordered rows, fetched page by page.
type stream struct {
	rows []row // at hand
	last row   // that was fetched; nil: none yet
	more bool
	// next fetches the page behind last (nil: the first) with up to limit rows.
	next func(ctx context.Context, last row, limit int) ([]row, bool, error)
}

// fill fetches the next page behind what is at hand.
func (s *stream) fill(ctx context.Context, limit int) error {
	rows, more, err := s.next(ctx, s.last, limit)
	if err != nil {
		return err
	}
	s.rows, s.more = append(s.rows, rows...), more && len(rows) > 0
	if len(rows) > 0 {
		s.last = rows[len(rows)-1]
	}
	return nil
}

// refill fills, all at once, the streams that have at most low rows at hand.
func refill(ctx context.Context, streams []*stream, low, limit int) error {
	g, gctx := errgroup.WithContext(ctx)
	for _, s := range streams {
		if s.more && len(s.rows) <= low {
			g.Go(func() error { return s.fill(gctx, limit) })
		}
	}
	return g.Wait()
}

// merge takes up to limit rows from the streams in order; rows of the same
// common prefix from several partitions count once. It asks each partition for
// its share of the page, so that the cost follows the page. When one runs dry, those
// that soon will are asked along with it, and for more: every partition may have rows
// of every common prefix, and then each must say as many as the page has.
func merge(ctx context.Context, streams []*stream, limit int, isPrefix func(row) bool) ([]row, bool, error) {
	share := min(limit+1, (limit+1)/len(streams)*5/4+16)
	for _, s := range streams {
		s.more = true
	}
	if err := refill(ctx, streams, 0, share); err != nil {
		return nil, false, err
	}
	var out []row
	for {
		best := pick(streams)
		if best == nil {
			return out, false, nil
		}
		r := best.rows[0]
		repeated := len(out) > 0 && isPrefix(r) && isPrefix(out[len(out)-1]) && out[len(out)-1].name() == r.name()
		if !repeated && len(out) == limit {
			return out, true, nil
		}
		if !repeated {
			out = append(out, r)
		}
		if best.rows = best.rows[1:]; len(best.rows) == 0 && best.more {
			low := share / 4
			share = min(2*share, limit+1-len(out))
			if err := refill(ctx, streams, low, share); err != nil {
				return nil, false, err
			}
		}
	}
}

// pick is the stream with the least row; nil when all are at their end.
func pick(streams []*stream) *stream {
	var best *stream
	for _, s := range streams {
		if len(s.rows) == 0 {
			continue
		}
		if best == nil || before(s.rows[0], best.rows[0]) {
			best = s
		}
	}
	return best
}

func before(a, b row) bool {
	if a.name() != b.name() {
		return a.name() < b.name()
	}
	return a.less(b)
}

type objectRow metadata.ObjectRow

func (r objectRow) name() string  { return r.Name }
func (r objectRow) less(row) bool { return false }

// ListObjects is one page of all partitions together.
func (c *Catalog) ListObjects(ctx context.Context, q metadata.ObjectPage) (metadata.ObjectRows, error) {
	rows, more, err := merge(ctx, c.streams(func(g replica.GroupID) *stream {
		return &stream{next: func(ctx context.Context, last row, limit int) ([]row, bool, error) {
			page := q
			page.Limit = limit
			if last != nil {
				page.After = last.name()
			}
			var got metadata.ObjectRows
			err := c.read(ctx, g, metadata.QueryObjects, page, &got)
			return rowsOf(got.Rows, func(r metadata.ObjectRow) row { return objectRow(r) }), got.More, err
		}}
	}), q.Limit, func(r row) bool { return r.(objectRow).Record == nil })
	out := metadata.ObjectRows{More: more}
	for _, r := range rows {
		out.Rows = append(out.Rows, metadata.ObjectRow(r.(objectRow)))
	}
	return out, err
}

type versionRow metadata.VersionRow

func (r versionRow) name() string  { return r.Name }
func (r versionRow) less(row) bool { return false } // the versions of a key are in one stream

// ListVersions is one page of all partitions together.
func (c *Catalog) ListVersions(ctx context.Context, q metadata.VersionPage) (metadata.VersionRows, error) {
	rows, more, err := merge(ctx, c.streams(func(g replica.GroupID) *stream {
		return &stream{next: func(ctx context.Context, last row, limit int) ([]row, bool, error) {
			page := q
			page.Limit = limit
			if last != nil {
				page.AfterKey, page.AfterTime = last.name(), 0
				if raw := last.(versionRow).Record; raw != nil {
					v, err := metadata.DecodeSummary(page.AfterKey, raw)
					if err != nil {
						return nil, false, err
					}
					page.AfterTime = v.Modified
				}
			}
			var got metadata.VersionRows
			err := c.read(ctx, g, metadata.QueryVersions, page, &got)
			return rowsOf(got.Rows, func(r metadata.VersionRow) row { return versionRow(r) }), got.More, err
		}}
	}), q.Limit, func(r row) bool { return r.(versionRow).Record == nil })
	out := metadata.VersionRows{More: more}
	for _, r := range rows {
		out.Rows = append(out.Rows, metadata.VersionRow(r.(versionRow)))
	}
	return out, err
}

type uploadRow metadata.UploadRow

func (r uploadRow) name() string { return r.Name }

func (r uploadRow) less(other row) bool {
	a, b := r.Upload, other.(uploadRow).Upload
	return a != nil && b != nil && string(a.ID[:]) < string(b.ID[:])
}

// ListUploads is one page of all partitions together.
func (c *Catalog) ListUploads(ctx context.Context, q metadata.UploadPage) (metadata.UploadRows, error) {
	rows, more, err := merge(ctx, c.streams(func(g replica.GroupID) *stream {
		return &stream{next: func(ctx context.Context, last row, limit int) ([]row, bool, error) {
			page := q
			page.Limit = limit
			if last != nil {
				page.AfterKey, page.AfterKeyOnly = last.name(), last.(uploadRow).Upload == nil
				if u := last.(uploadRow).Upload; u != nil {
					page.AfterUpload = u.ID
				}
			}
			var got metadata.UploadRows
			err := c.read(ctx, g, metadata.QueryUploads, page, &got)
			return rowsOf(got.Rows, func(r metadata.UploadRow) row { return uploadRow(r) }), got.More, err
		}}
	}), q.Limit, func(r row) bool { return r.(uploadRow).Upload == nil })
	out := metadata.UploadRows{More: more}
	for _, r := range rows {
		out.Rows = append(out.Rows, metadata.UploadRow(r.(uploadRow)))
	}
	return out, err
}

func (c *Catalog) streams(open func(replica.GroupID) *stream) []*stream {
	out := make([]*stream, c.cfg.Partitions)
	for i := range out {
		out[i] = open(replica.GroupID(i + 1))
	}
	return out
}

func rowsOf[R any](rows []R, wrap func(R) row) []row {
	out := make([]row, len(rows))
	for i, r := range rows {
		out[i] = wrap(r)
	}
	return out
}
