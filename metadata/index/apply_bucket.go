package index

import (
	"bivalve/metadata"
)

func (ix *Index) configureBucket(c metadata.ConfigureBucket) (any, error) {
	b, err := ix.bucket(c.Name, c.ID)
	if err != nil {
		return nil, err
	}
	rules := b.Rules
	switch c.Field {
	case metadata.FieldVersioning:
		err = setVersioning(&rules, metadata.Versioning(c.Value))
	case metadata.FieldLock:
		err = setLock(&rules, c.Value)
	case metadata.FieldEncryption:
		b.Rules.Seal, b.Revision = len(c.Value) > 0, ix.lastTime
		err := ix.putSetting(&b, c.Field, c.Value)
		return b, err
	default:
		return b, ix.putSetting(&b, c.Field, c.Value)
	}
	if err != nil {
		return nil, err
	}
	b.Rules, b.Revision = rules, ix.lastTime
	return b, ix.putBucket(b)
}

// setVersioning: a bucket with object lock stays versioned, and no bucket becomes
// unversioned again.
func setVersioning(r *metadata.BucketRules, v metadata.Versioning) error {
	switch {
	case v != metadata.VersioningEnabled && v != metadata.VersioningSuspended:
		return metadata.ErrMalformed
	case v != metadata.VersioningEnabled && r.Lock != nil:
		return metadata.ErrInvalidBucketState
	}
	r.Versioning = v
	return nil
}

// setLock: object lock needs versioning, and cannot be turned off again.
func setLock(r *metadata.BucketRules, value []byte) error {
	var l metadata.LockRule
	if err := metadata.DecodeBody(value, &l); err != nil {
		return err
	}
	if r.Versioning != metadata.VersioningEnabled {
		return metadata.ErrInvalidBucketState
	}
	r.Lock = &l
	return nil
}

func (ix *Index) putSetting(b *metadata.Bucket, field string, value []byte) error {
	if field == "" || len(field) > 64 || len(value) > metadata.MaxSettingBytes {
		return metadata.ErrMalformed
	}
	if b.Settings == nil {
		b.Settings = map[string][]byte{}
	}
	b.Settings[field] = value
	if len(value) == 0 {
		delete(b.Settings, field)
	}
	if len(b.Settings) > metadata.MaxSettings {
		return metadata.ErrMalformed
	}
	return ix.putBucket(*b)
}

func (ix *Index) spreadBucket(s metadata.SpreadBucket) (any, error) {
	b, err := ix.bucket(s.Name, s.ID)
	if err != nil {
		return nil, err
	}
	b.Spread = max(b.Spread, min(s.Revision, b.Revision))
	return nil, ix.putBucket(b)
}

// setRules keeps the newest rules of a bucket in this partition.
func (ix *Index) setRules(s metadata.SetRules) (any, error) {
	have, err := ix.rules(s.Bucket)
	if err != nil || have.Revision >= s.Revision {
		return nil, err
	}
	raw, err := metadata.EncodeBody(s)
	if err != nil {
		return nil, err
	}
	return nil, ix.t.rules.Put(s.Bucket[:], raw)
}

// rules of a bucket as this partition knows them; they decide.
func (ix *Index) rules(bucket metadata.BucketID) (s metadata.SetRules, err error) {
	if raw := ix.t.rules.Get(bucket[:]); raw != nil {
		err = decodeRow(raw, &s)
	}
	return s, err
}
