package metadata

import (
	"math"
	"strings"
	"time"
)

// Lifecycle is the field FieldLifecycle of a bucket: what becomes of its versions
// and uploads with time.
type Lifecycle struct {
	Rules []LifecycleRule `cbor:"1,keyasint"`
}

// LifecycleRule is one rule. Zero means that the rule does not say so.
type LifecycleRule struct {
	ID      string            `cbor:"1,keyasint"`
	Enabled bool              `cbor:"2,keyasint,omitempty"`
	Legacy  bool              `cbor:"3,keyasint,omitempty"` // the prefix stood beside the filter, not in it
	Prefix  string            `cbor:"4,keyasint,omitempty"`
	Tags    map[string]string `cbor:"5,keyasint,omitempty"`
	Larger  *int64            `cbor:"6,keyasint,omitempty"` // than so many bytes
	Smaller *int64            `cbor:"7,keyasint,omitempty"`

	Days         int   `cbor:"8,keyasint,omitempty"`
	Date         int64 `cbor:"9,keyasint,omitempty"` // Unix nanoseconds
	LoneMarkers  bool  `cbor:"10,keyasint,omitempty"`
	OldDays      int   `cbor:"11,keyasint,omitempty"` // since a version is not current any more
	OldKept      int   `cbor:"12,keyasint,omitempty"` // newest ones of these that stay
	AbortedAfter int   `cbor:"13,keyasint,omitempty"` // days of an upload
}

// Matches tells whether the rule is about a version.
func (r *LifecycleRule) Matches(key string, bytes int64, tags map[string]string) bool {
	if !r.Enabled || !strings.HasPrefix(key, r.Prefix) {
		return false
	}
	if r.Larger != nil && bytes <= *r.Larger || r.Smaller != nil && bytes >= *r.Smaller {
		return false
	}
	for k, v := range r.Tags {
		if got, there := tags[k]; !there || got != v {
			return false
		}
	}
	return true
}

// Expiry is when a current version of that age expires by the rule; ok if it does.
func (r *LifecycleRule) Expiry(modified int64, day time.Duration) (at int64, ok bool) {
	switch {
	case r.Days > 0:
		return LifecycleDue(modified, r.Days, day), true
	case r.Date > 0:
		return r.Date, true
	}
	return 0, false
}

// LifecycleDue is the midnight (UTC) after so many days have passed, as S3 counts.
func LifecycleDue(since int64, days int, day time.Duration) int64 {
	if since < 0 || int64(days) > (math.MaxInt64-since)/int64(day)-2 {
		return math.MaxInt64
	}
	at := since + int64(days)*int64(day)
	return (at + int64(day) - 1) / int64(day) * int64(day)
}

// Expiration says when a version expires or an upload is aborted, and by which rule.
type Expiration struct {
	At   int64 // Unix nanoseconds, 0 = it does not
	Rule string
}

// Expires finds the rule by which a current version expires first.
func (l *Lifecycle) Expires(key string, bytes int64, tags map[string]string, modified int64, day time.Duration) (e Expiration) {
	for i := range l.Rules {
		r := &l.Rules[i]
		if !r.Matches(key, bytes, tags) {
			continue
		}
		if at, ok := r.Expiry(modified, day); ok && (e.At == 0 || at < e.At) {
			e = Expiration{at, r.ID}
		}
	}
	return e
}

// Aborts finds the rule by which an upload is thrown away first.
func (l *Lifecycle) Aborts(key string, initiated int64, day time.Duration) (e Expiration) {
	for i := range l.Rules {
		r := &l.Rules[i]
		if r.AbortedAfter == 0 || !r.Matches(key, 0, nil) {
			continue
		}
		if at := LifecycleDue(initiated, r.AbortedAfter, day); e.At == 0 || at < e.At {
			e = Expiration{at, r.ID}
		}
	}
	return e
}

// What a lifecycle does to a version.
const (
	ExpireCurrent    uint8 = 1 // as a DELETE without version id
	ExpireOld        uint8 = 2 // removes a version that is not current
	ExpireLoneMarker uint8 = 3 // removes a delete marker behind which nothing is left
)

// MaxExpire is how many versions one command expires.
const MaxExpire = 100

// ExpireVersion names a version as it was seen; one that is no longer so, or whose
// lock holds, stays.
type ExpireVersion struct {
	Key      string            `cbor:"1,keyasint"`
	Version  string            `cbor:"2,keyasint"`
	Modified int64             `cbor:"3,keyasint"`
	Tags     map[string]string `cbor:"4,keyasint,omitempty"`
	What     uint8             `cbor:"5,keyasint"`
}

// ExpireVersions expires versions of one bucket.
type ExpireVersions struct {
	Bucket BucketID        `cbor:"1,keyasint"`
	Items  []ExpireVersion `cbor:"2,keyasint"`
	Random Random          `cbor:"3,keyasint,omitzero"`
	Clock  int64           `cbor:"4,keyasint"` // the region's
}

// Expired answers it: how many are gone.
type Expired struct {
	Done int `cbor:"1,keyasint"`
}
