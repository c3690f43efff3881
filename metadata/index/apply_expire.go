package index

import (
	"maps"

	"bivalve/metadata"
)

// expireVersions does what a lifecycle found due. Each version is looked at again:
// it must be the one that was seen, in the state that its rule is about, and not be
// protected.
func (ix *Index) expireVersions(e metadata.ExpireVersions) (any, error) {
	if len(e.Items) > metadata.MaxExpire {
		return nil, metadata.ErrMalformed
	}
	if err := ix.fenced(e.Bucket); err != nil {
		return nil, err
	}
	var out metadata.Expired
	for _, item := range e.Items {
		done, err := ix.expire(e, item)
		if err != nil {
			return nil, err
		}
		if done {
			out.Done++
		}
	}
	return out, nil
}

func (ix *Index) expire(e metadata.ExpireVersions, item metadata.ExpireVersion) (bool, error) {
	f, err := ix.find(e.Bucket, item.Key, item.Version)
	if err != nil || !f.exists || f.v.Modified != item.Modified || !maps.Equal(f.v.Tags, item.Tags) {
		return false, err
	}
	isNewest, alone, err := ix.standing(f)
	if err != nil {
		return false, err
	}
	switch item.What {
	case metadata.ExpireCurrent:
		if f.aside {
			return false, nil
		}
		_, err := ix.deleteKey(metadata.DeleteKey{Bucket: e.Bucket, Key: item.Key, Random: e.Random, Clock: e.Clock})
		if err == metadata.ErrLocked {
			return false, nil
		}
		return err == nil, err
	case metadata.ExpireOld:
		if isNewest {
			return false, nil
		}
	case metadata.ExpireLoneMarker:
		if !f.v.DeleteMarker || !alone {
			return false, nil
		}
	default:
		return false, metadata.ErrMalformed
	}
	if f.v.Lock.Holds(e.Clock, false) {
		return false, nil
	}
	return true, ix.discard(f)
}

// standing tells whether a version is the newest of its key, and the only one.
func (ix *Index) standing(f found) (isNewest, alone bool, err error) {
	if !f.aside {
		return true, false, nil
	}
	if ix.t.objects.Get(objectKey(f.v.Bucket, f.v.Key)) != nil {
		return false, false, nil
	}
	k, _ := ix.firstAside(f.v.Bucket, f.v.Key)
	if string(k) != string(versionKey(f.v.Bucket, f.v.Key, f.v.Modified)) {
		return false, false, nil
	}
	next, _ := ix.t.versions.Cursor().Seek(versionKey(f.v.Bucket, f.v.Key, f.v.Modified-1))
	return true, len(next) != len(k) || string(next[:len(next)-8]) != string(k[:len(k)-8]), nil
}
