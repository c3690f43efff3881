package upkeep

import (
	"context"
	"errors"
	"time"

	"bivalve/metadata"
	"bivalve/metadata/replica"
)

// lifecycleWalk is one walk through one partition.
type lifecycleWalk struct {
	*Lifecycle
	g     replica.GroupID
	clock int64
	p     LifecycleProgress
	saved time.Time // when p was put down last

	rules *metadata.Lifecycle
	in    metadata.Bucket
	// Of the key that the walk is in:
	key   string
	newer int64                   // when the version before was committed
	old   int                     // versions with content that were passed and are not current
	alone *metadata.ObjectSummary // a current delete marker with nothing seen behind it yet

	due      []metadata.ExpireVersion
	dueBytes int64
}

// expireBytes bounds what one command lets go: with parts of 5 MiB and more, far
// fewer blobs than one entry may queue as garbage.
const expireBytes = 64 << 30

func (w *lifecycleWalk) bucket(ctx context.Context, name string) error {
	b, err := w.Catalog.GetBucketNow(ctx, name)
	if err != nil {
		return err
	}
	raw := b.Settings[metadata.FieldLifecycle]
	if raw == nil || b.Deleting != 0 {
		return nil
	}
	w.rules, w.in = new(metadata.Lifecycle), b
	if err := metadata.DecodeBody(raw, w.rules); err != nil {
		return err
	}
	if err := w.versions(ctx); err != nil {
		return err
	}
	return w.uploads(ctx)
}

// versions goes through the versions of the bucket, key by key.
func (w *lifecycleWalk) versions(ctx context.Context) error {
	w.key, w.newer, w.old, w.alone, w.due, w.dueBytes = "", 0, 0, nil, nil, 0
	page := metadata.VersionPage{Bucket: w.in.ID, AfterKey: w.p.Key, Limit: lifecyclePage}
	for {
		got, err := w.Catalog.PageVersions(ctx, w.g, page)
		if err != nil {
			return err
		}
		for _, row := range got.Rows {
			v, err := metadata.DecodeSummary(row.Name, row.Record)
			if err != nil {
				return err
			}
			v.Latest = row.Latest
			if err := w.version(ctx, v); err != nil {
				return err
			}
			page.AfterKey, page.AfterTime = v.Key, v.Modified
		}
		if !got.More {
			break
		}
		if err := w.pause(ctx); err != nil {
			return err
		}
	}
	if err := w.endKey(ctx); err != nil {
		return err
	}
	return w.flush(ctx)
}

// version judges one version; those of a key come the newest first.
func (w *lifecycleWalk) version(ctx context.Context, v metadata.ObjectSummary) error {
	w.p.Scanned++
	w.scanned.Inc()
	if v.Key != w.key {
		if err := w.endKey(ctx); err != nil {
			return err
		}
		w.key, w.newer, w.old = v.Key, 0, 0
	}
	w.alone = nil
	switch {
	case v.Latest && v.DeleteMarker:
		w.alone = &v
	case v.Latest:
		if e := w.rules.Expires(v.Key, v.Bytes, v.Tags, v.Modified, w.Day); e.At != 0 && e.At <= w.clock {
			w.add(v, metadata.ExpireCurrent)
		}
	case w.newer != 0 && w.oldIsDue(v):
		w.add(v, metadata.ExpireOld)
	}
	if !v.Latest && !v.DeleteMarker {
		w.old++
	}
	w.newer = v.Modified
	return w.flushFull(ctx)
}

// oldIsDue: a version counts its days from when a newer one took its place, and the
// newest of a key's old versions may be told to stay.
func (w *lifecycleWalk) oldIsDue(v metadata.ObjectSummary) bool {
	for i := range w.rules.Rules {
		r := &w.rules.Rules[i]
		if r.OldDays > 0 && w.old >= r.OldKept && r.Matches(v.Key, v.Bytes, v.Tags) &&
			metadata.LifecycleDue(w.newer, r.OldDays, w.Day) <= w.clock {
			return true
		}
	}
	return false
}

// endKey judges a marker behind which no version came.
func (w *lifecycleWalk) endKey(ctx context.Context) error {
	m := w.alone
	w.alone = nil
	if m != nil {
		for i := range w.rules.Rules {
			r := &w.rules.Rules[i]
			// Sizes and tags are none of a marker's.
			if len(r.Tags) > 0 || r.Larger != nil || r.Smaller != nil || !r.Matches(m.Key, 0, nil) {
				continue
			}
			at, dated := r.Expiry(m.Modified, w.Day)
			if r.LoneMarkers || dated && at <= w.clock {
				w.add(*m, metadata.ExpireLoneMarker)
				break
			}
		}
	}
	if len(w.due) == 0 && w.key != "" {
		w.p.Key = w.key // all before is done
	}
	return nil
}

func (w *lifecycleWalk) add(v metadata.ObjectSummary, what uint8) {
	w.due = append(w.due, metadata.ExpireVersion{Key: v.Key, Version: v.VersionID, Modified: v.Modified, Tags: v.Tags, What: what})
	w.dueBytes += v.Bytes
}

func (w *lifecycleWalk) flushFull(ctx context.Context) error {
	if len(w.due) < metadata.MaxExpire-1 && w.dueBytes < expireBytes {
		return nil
	}
	return w.flush(ctx)
}

// flush proposes what was found due.
func (w *lifecycleWalk) flush(ctx context.Context) error {
	if len(w.due) == 0 {
		return nil
	}
	done, err := w.Catalog.ExpireVersions(ctx, w.g, metadata.ExpireVersions{Bucket: w.in.ID, Items: w.due, Clock: w.clock})
	if err != nil {
		return err
	}
	w.p.Expired += int64(done)
	w.expired.WithLabelValues("version").Add(float64(done))
	w.due, w.dueBytes = nil, 0
	return nil
}

// uploads ends those that nobody completed.
func (w *lifecycleWalk) uploads(ctx context.Context) error {
	page := metadata.UploadPage{Bucket: w.in.ID, Limit: lifecyclePage}
	for {
		got, err := w.Catalog.PageUploads(ctx, w.g, page)
		if err != nil {
			return err
		}
		for _, row := range got.Rows {
			u := row.Upload
			w.p.Scanned++
			w.scanned.Inc()
			page.AfterKey, page.AfterUpload = u.Key, u.ID
			if !w.uploadIsDue(u) {
				continue
			}
			err := w.Catalog.AbortUpload(ctx, metadata.UploadRef{Bucket: u.Bucket, Key: u.Key, ID: u.ID})
			if errors.Is(err, metadata.ErrNoSuchUpload) {
				continue // completed or aborted meanwhile
			}
			if err != nil {
				return err
			}
			w.p.Aborted++
			w.expired.WithLabelValues("upload").Inc()
		}
		if !got.More {
			return nil
		}
		if err := w.pause(ctx); err != nil {
			return err
		}
	}
}

func (w *lifecycleWalk) uploadIsDue(u *metadata.Upload) bool {
	e := w.rules.Aborts(u.Key, u.Initiated, w.Day)
	return e.At != 0 && e.At <= w.clock
}

// pause shows and keeps the place, and makes way for clients. A leader that is one
// no more stops.
func (w *lifecycleWalk) pause(ctx context.Context) error {
	w.note(w.g, w.p)
	if !w.Leads(w.g) {
		return errors.New("the partition is led by another node")
	}
	if time.Since(w.saved) > lifecycleSave {
		w.saved = time.Now()
		if err := w.save(ctx, w.g, w.p); err != nil {
			return err
		}
	}
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(w.Rest):
		return nil
	}
}
