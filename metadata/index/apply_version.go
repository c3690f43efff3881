package index

import (
	"time"

	"bivalve/metadata"
)

func (ix *Index) putVersion(p metadata.PutVersion) (any, error) {
	if err := ix.sealed(p.Version.Bucket, metadata.SealOf(p.Version.Parts)); err != nil {
		return nil, err
	}
	return ix.commitVersion(p)
}

// sealed refuses what begins unencrypted in a bucket that has all encrypted: the node
// that it comes from has an older copy of the bucket's configuration.
func (ix *Index) sealed(bucket metadata.BucketID, kind metadata.SealKind) error {
	rules, err := ix.rules(bucket)
	if err == nil && rules.Rules.Seal && kind == metadata.SealNone {
		err = metadata.ErrMustSeal
	}
	return err
}

// commitVersion makes a version current if the condition holds. What it replaces
// becomes garbage (law L3) or, in a bucket with versioning, an older version.
func (ix *Index) commitVersion(p metadata.PutVersion) (done metadata.Committed, err error) {
	v := p.Version
	if err := ix.fenced(v.Bucket); err != nil {
		return done, err
	}
	rules, err := ix.rules(v.Bucket)
	if err != nil {
		return done, err
	}
	cur, err := ix.current(v.Bucket, v.Key)
	if err != nil {
		return done, err
	}
	if err := holds(p.Condition, cur.v, cur.exists); err != nil {
		return done, err
	}
	v.Modified, v.ID = ix.lastTime, ix.mint(rules.Rules, p.Random)
	if v.Lock, err = ix.newLock(v.Lock, rules.Rules, p.Clock); err != nil {
		return done, err
	}
	old, err := ix.replaced(v, p.Clock)
	if err != nil {
		return done, err
	}
	if err := ix.fits(p.Condition.Room, v, old); err != nil {
		return done, err
	}
	if err := ix.hold(metadata.VersionOwner(&v), v.Parts, v.Bytes); err != nil {
		return done, err
	}
	if err := ix.discard(old); err != nil {
		return done, err
	}
	if err := ix.stepAside(v.Bucket, v.Key); err != nil {
		return done, err
	}
	ix.stats.Objects++
	ix.stats.Bytes += v.Bytes
	u := ix.use(v.Bucket)
	u.Objects++
	u.Versions++
	u.Bytes += v.Bytes
	return metadata.Committed{Modified: v.Modified, ID: v.ID}, ix.putCurrent(v)
}

// mint makes the id of a version that is committed now.
func (ix *Index) mint(r metadata.BucketRules, random metadata.Random) string {
	if r.Versioning == metadata.VersioningEnabled {
		return metadata.NewVersionID(ix.lastTime, random)
	}
	return metadata.NullVersion
}

// replaced is the version in whose place v comes: another null version, wherever
// it stands. ErrLocked if it must stay.
func (ix *Index) replaced(v metadata.Version, clock int64) (found, error) {
	if v.ID != metadata.NullVersion {
		return found{}, nil
	}
	old, err := ix.find(v.Bucket, v.Key, v.ID)
	if err == nil && old.exists && old.v.Lock.Holds(clock, false) {
		return found{}, metadata.ErrLocked
	}
	return old, err
}

// newLock is the lock of a new version: what was asked for, else the default of
// its bucket.
func (ix *Index) newLock(asked metadata.Lock, r metadata.BucketRules, clock int64) (metadata.Lock, error) {
	if r.Lock == nil {
		if asked != (metadata.Lock{}) {
			return asked, metadata.ErrNoObjectLock
		}
		return asked, nil
	}
	if asked.Mode == "" && r.Lock.Mode != "" {
		// From whichever clock is later, so that it is never too short.
		from := time.Unix(0, max(ix.lastTime, clock)).UTC()
		asked.Mode, asked.Until = r.Lock.Mode, from.AddDate(r.Lock.Years, 0, r.Lock.Days).UnixNano()
	}
	return asked, nil
}

func (ix *Index) deleteKey(d metadata.DeleteKey) (any, error) {
	if err := ix.fenced(d.Bucket); err != nil {
		return nil, err
	}
	if d.Version != "" {
		return ix.deleteVersion(d)
	}
	rules, err := ix.rules(d.Bucket)
	if err != nil {
		return nil, err
	}
	cur, err := ix.current(d.Bucket, d.Key)
	if err != nil {
		return nil, err
	}
	if err := holds(d.Condition, cur.v, cur.exists); err != nil {
		return nil, err
	}
	marker := metadata.Version{Bucket: d.Bucket, Key: d.Key, ID: ix.mint(rules.Rules, d.Random), Modified: ix.lastTime, DeleteMarker: true}
	old, err := ix.replaced(marker, d.Clock)
	if err != nil {
		return nil, err
	}
	if err := ix.discard(old); err != nil {
		return nil, err
	}
	if rules.Rules.Versioning == metadata.Unversioned {
		return metadata.Deleted{}, nil
	}
	if err := ix.stepAside(d.Bucket, d.Key); err != nil {
		return nil, err
	}
	ix.stats.Markers++
	ix.use(d.Bucket).Markers++
	return metadata.Deleted{ID: marker.ID, Marker: true}, ix.putAside(marker)
}

// deleteVersion removes one version for good.
func (ix *Index) deleteVersion(d metadata.DeleteKey) (any, error) {
	f, err := ix.find(d.Bucket, d.Key, d.Version)
	if err != nil {
		return nil, err
	}
	if err := holds(d.Condition, f.v, f.exists); err != nil {
		return nil, err
	}
	switch {
	case !f.exists:
		return metadata.Deleted{ID: d.Version}, nil
	case f.v.Lock.Holds(d.Clock, d.Bypass):
		return nil, metadata.ErrLocked
	}
	if err := ix.discard(f); err != nil {
		return nil, err
	}
	return metadata.Deleted{ID: d.Version, Marker: f.v.DeleteMarker}, ix.promote(d.Bucket, d.Key)
}

func (ix *Index) amendVersion(a metadata.AmendVersion) (any, error) {
	if err := ix.fenced(a.Bucket); err != nil {
		return nil, err
	}
	f, err := ix.named(a.Bucket, a.Key, a.Version)
	if err != nil {
		return nil, err
	}
	if f.v.DeleteMarker {
		return nil, metadata.ErrIsMarker
	}
	if a.Retention != nil || a.Hold != nil {
		rules, err := ix.rules(a.Bucket)
		if err != nil {
			return nil, err
		}
		if rules.Rules.Lock == nil {
			return nil, metadata.ErrNoObjectLock
		}
	}
	if r := a.Retention; r != nil {
		if !f.v.Lock.Admits(*r, a.Clock, a.Bypass) {
			return nil, metadata.ErrLocked
		}
		f.v.Lock.Mode, f.v.Lock.Until = r.Mode, r.Until
	}
	if a.Hold != nil {
		f.v.Lock.SetHold(*a.Hold)
	}
	if a.SetTags {
		f.v.Tags = a.Tags
	}
	return metadata.Committed{Modified: f.v.Modified, ID: f.v.ID}, ix.storeAgain(f)
}

// named is the version of that id, or the newest one.
func (ix *Index) named(bucket metadata.BucketID, key, id string) (found, error) {
	if id != "" {
		f, err := ix.find(bucket, key, id)
		if err == nil && !f.exists {
			err = metadata.ErrNoSuchVersion
		}
		return f, err
	}
	f, err := ix.current(bucket, key)
	if err != nil || f.exists {
		return f, err
	}
	_, raw := ix.firstAside(bucket, key)
	f, err = asFound(bucket, key, raw, true)
	if err == nil && (!f.exists || f.v.DeleteMarker) {
		err = metadata.ErrNoSuchKey
	}
	return f, err
}
