package object

import "bivalve/metadata"

// describe adds to a version what follows from the configuration of its bucket.
func (s *Store) describe(v *metadata.Version, b metadata.Bucket, current bool) {
	v.Versioned = b.Rules.Versioning != metadata.Unversioned
	raw := b.Settings[metadata.FieldLifecycle]
	if raw == nil || !current || v.DeleteMarker {
		return
	}
	var l metadata.Lifecycle
	if err := metadata.DecodeBody(raw, &l); err != nil {
		s.cfg.Logger.Warn("the lifecycle of a bucket cannot be read", "bucket", b.Name, "err", err)
		return
	}
	v.Expires = l.Expires(v.Key, v.Bytes, v.Tags, v.Modified, s.cfg.LifecycleDay)
}
