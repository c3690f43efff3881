package object

import "bivalve/metadata"

// describe adds to a version what follows from the configuration of its bucket.
func (s *Store) describe(v *metadata.Version, b metadata.Bucket, current bool) {
	v.Versioned = b.Rules.Versioning != metadata.Unversioned
	if current && !v.DeleteMarker {
		l := s.lifecycle(b)
		v.Expires = l.Expires(v.Key, v.Bytes, v.Tags, v.Modified, s.cfg.LifecycleDay)
	}
}

// describeUpload does it for an upload.
func (s *Store) describeUpload(u *metadata.Upload, b metadata.Bucket) {
	l := s.lifecycle(b)
	u.Aborts = l.Aborts(u.Key, u.Initiated, s.cfg.LifecycleDay)
}

// lifecycle is that of a bucket, without rules if it has none.
func (s *Store) lifecycle(b metadata.Bucket) (l metadata.Lifecycle) {
	raw := b.Settings[metadata.FieldLifecycle]
	if raw == nil {
		return l
	}
	if err := metadata.DecodeBody(raw, &l); err != nil {
		s.cfg.Logger.Warn("the lifecycle of a bucket cannot be read", "bucket", b.Name, "err", err)
		return metadata.Lifecycle{}
	}
	return l
}
