package metadata

// Bucket is one bucket of the region, kept by the root group.
type Bucket struct {
	Name    string   `cbor:"1,keyasint"`
	ID      BucketID `cbor:"2,keyasint"`
	Created int64    `cbor:"3,keyasint"` // Unix nanoseconds
	// Deleting is set while DeleteBucket proves the bucket empty; the bucket is
	// still listed, and upkeep finishes what a crash interrupted.
	Deleting int64 `cbor:"4,keyasint,omitempty"` // Unix nanoseconds, 0 = no

	Rules BucketRules `cbor:"5,keyasint,omitzero"`
	// Revision is the log time of the last change of Rules, 0 = never changed.
	// Spread is the revision that every partition is known to have.
	Revision int64 `cbor:"6,keyasint,omitempty"`
	Spread   int64 `cbor:"7,keyasint,omitempty"`

	// Settings are the further parts of the configuration, by the name of their
	// sub-resource: encoded by whoever knows them, opaque to the root group. A
	// listing of buckets has their names alone.
	Settings map[string][]byte `cbor:"8,keyasint,omitempty"`
}

// Versioning is the versioning state of a bucket.
type Versioning string

const (
	Unversioned         Versioning = ""
	VersioningEnabled   Versioning = "Enabled"
	VersioningSuspended Versioning = "Suspended"
)

// BucketRules are what every partition must know of a bucket to apply a command
// to it. The root group keeps them; each partition has a copy, which decides. A
// change is acknowledged once every partition has it.
type BucketRules struct {
	Versioning Versioning `cbor:"1,keyasint,omitempty"`
	Lock       *LockRule  `cbor:"2,keyasint,omitempty"` // nil: object lock is not enabled
	Seal       bool       `cbor:"3,keyasint,omitempty"` // new objects and uploads are encrypted
}

// LockRule says that a bucket has object lock, and the retention of new versions
// that name none. At most one of Days and Years is set; neither: no default.
type LockRule struct {
	Mode  LockMode `cbor:"1,keyasint,omitempty"`
	Days  int      `cbor:"2,keyasint,omitempty"`
	Years int      `cbor:"3,keyasint,omitempty"`
}

// LockMode is how strictly a version is retained.
type LockMode string

const (
	Governance LockMode = "GOVERNANCE"
	Compliance LockMode = "COMPLIANCE"
)

// Names of the configuration fields. The first two change Rules, every other name
// is a field of Settings.
const (
	FieldVersioning = "versioning"  // a Versioning
	FieldLock       = "object-lock" // EncodeBody of a LockRule
	FieldTagging    = "tagging"
	FieldLifecycle  = "lifecycle"
	FieldCORS       = "cors"
	FieldEncryption = "encryption"
	FieldQuota      = "quota"
)

// Limits of a bucket's Settings.
const (
	MaxSettings     = 32
	MaxSettingBytes = 128 << 10
)

// ConfigureBucket replaces one field of a bucket's configuration; an empty value
// takes it away. ErrInvalidBucketState if it contradicts the others.
type ConfigureBucket struct {
	Name  string   `cbor:"1,keyasint"`
	ID    BucketID `cbor:"2,keyasint"`
	Field string   `cbor:"3,keyasint"`
	Value []byte   `cbor:"4,keyasint,omitempty"`
}

// SpreadBucket notes that every partition has the rules of a revision.
type SpreadBucket struct {
	Name     string   `cbor:"1,keyasint"`
	ID       BucketID `cbor:"2,keyasint"`
	Revision int64    `cbor:"3,keyasint"`
}

// SetRules hands the rules of a bucket to a partition; older ones than it has are
// passed over.
type SetRules struct {
	Bucket   BucketID    `cbor:"1,keyasint"`
	Revision int64       `cbor:"2,keyasint"`
	Rules    BucketRules `cbor:"3,keyasint,omitzero"`
}
