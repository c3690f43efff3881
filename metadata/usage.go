package metadata

// Usage is what a bucket has, in one partition or in all. A copy counts as any other
// object, though it may share its bytes with one.
type Usage struct {
	Objects     int64 `cbor:"1,keyasint,omitempty"` // keys with a current version
	Versions    int64 `cbor:"2,keyasint,omitempty"` // with content, current or not
	Markers     int64 `cbor:"3,keyasint,omitempty"` // delete markers
	Bytes       int64 `cbor:"4,keyasint,omitempty"` // of all versions
	Uploads     int64 `cbor:"5,keyasint,omitempty"` // in progress
	UploadBytes int64 `cbor:"6,keyasint,omitempty"` // of their parts
}

// Add makes u the sum of both.
func (u *Usage) Add(o Usage) {
	u.Objects += o.Objects
	u.Versions += o.Versions
	u.Markers += o.Markers
	u.Bytes += o.Bytes
	u.Uploads += o.Uploads
	u.UploadBytes += o.UploadBytes
}

// UsageOf asks a partition what it has of buckets, MaxUsages at most.
type UsageOf struct {
	Buckets []BucketID `cbor:"1,keyasint"`
}

// MaxUsages is how many buckets one question names.
const MaxUsages = 1000

// Usages answers it, in the same order.
type Usages struct {
	Usages []Usage `cbor:"1,keyasint"`
}

// Quota limits what a bucket may have: bytes and number of all its versions. 0: no
// limit. It is the value of FieldQuota, by EncodeBody.
type Quota struct {
	Bytes   int64 `cbor:"1,keyasint,omitempty"`
	Objects int64 `cbor:"2,keyasint,omitempty"`
}

// Room is how much of a bucket one partition may have for the bucket to stay within
// its quota, as far as its proposer knows what the other partitions have. Below 0: they
// have too much already.
type Room struct {
	Bytes    int64 `cbor:"1,keyasint"`
	Versions int64 `cbor:"2,keyasint"`
}
