package s3test

import (
	"bytes"

	"bivalve/metadata"
	"bivalve/s3api"
)

// settingRules: what is set is what GetBucket answers; the fields that hang
// together keep to their rules.
func (s *suite) settingRules() {
	_, err := s.Settings.ConfigureBucket(s.ctx, "settings", metadata.FieldCORS, []byte("x"))
	s.is(err, metadata.ErrNoSuchBucket)
	s.bucket("settings")
	for _, value := range [][]byte{[]byte("one"), bytes.Repeat([]byte("x"), 64<<10), nil, []byte("two")} {
		_, err := s.Settings.ConfigureBucket(s.ctx, "settings", metadata.FieldCORS, value)
		s.no(err)
		b, err := s.Buckets.GetBucket(s.ctx, "settings")
		s.no(err)
		if got, there := b.Settings[metadata.FieldCORS]; !bytes.Equal(got, value) || there != (len(value) > 0) {
			s.Errorf("set %d bytes, got %d, there %v", len(value), len(got), there)
		}
	}
	rule, err := metadata.EncodeBody(metadata.LockRule{Mode: metadata.Governance, Days: 3})
	s.no(err)
	set := func(field string, value []byte) error {
		_, err := s.Settings.ConfigureBucket(s.ctx, "settings", field, value)
		return err
	}
	s.is(set(metadata.FieldLock, rule), metadata.ErrInvalidBucketState)
	s.no(set(metadata.FieldVersioning, []byte(metadata.VersioningSuspended)))
	s.is(set(metadata.FieldLock, rule), metadata.ErrInvalidBucketState)
	s.no(set(metadata.FieldVersioning, []byte(metadata.VersioningEnabled)))
	s.no(set(metadata.FieldLock, rule))
	s.is(set(metadata.FieldVersioning, []byte(metadata.VersioningSuspended)), metadata.ErrInvalidBucketState)
	b, err := s.Buckets.GetBucket(s.ctx, "settings")
	s.no(err)
	if b.Rules.Versioning != metadata.VersioningEnabled || b.Rules.Lock == nil || b.Rules.Lock.Days != 3 || string(b.Settings[metadata.FieldCORS]) != "two" {
		s.Errorf("bucket %+v", b)
	}
	locked, err := s.Settings.CreateLockedBucket(s.ctx, "locked")
	s.no(err)
	if locked.Rules.Lock == nil || locked.Rules.Versioning != metadata.VersioningEnabled {
		s.Errorf("locked bucket %+v", locked)
	}
	_, err = s.Settings.CreateLockedBucket(s.ctx, "locked")
	s.is(err, metadata.ErrBucketExists)
	list, _, err := s.Buckets.ListBuckets(s.ctx, s3api.BucketQuery{Limit: 10})
	s.no(err)
	if len(list) != 2 {
		s.Errorf("%d buckets", len(list))
	}
}
