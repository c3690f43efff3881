package metadata

import (
	"encoding/hex"
)

// BucketID is minted when a bucket is created; a bucket made again under the
// same name has another id, so nothing of the old one can reappear in it.
type BucketID [16]byte

func (b BucketID) String() string { return hex.EncodeToString(b[:]) }

// BlobID names an immutable blob; see cluster.BlobID for its structure.
type BlobID [16]byte

func (b BlobID) String() string { return hex.EncodeToString(b[:]) }

// UploadID names a multipart upload.
type UploadID [16]byte

// String is what clients see: 32 hex digits.
func (u UploadID) String() string { return hex.EncodeToString(u[:]) }

// ParseUploadID answers ErrNoSuchUpload for whatever String did not write.
func ParseUploadID(s string) (UploadID, error) {
	var u UploadID
	raw, err := hex.DecodeString(s)
	if err != nil || len(raw) != len(u) || hex.EncodeToString(raw) != s {
		return u, ErrNoSuchUpload
	}
	copy(u[:], raw)
	return u, nil
}

// NullVersion is the id of versions that were written while the versioning of
// their bucket was not enabled. A key has one at most.
const NullVersion = "null"

// MaxInlineBytes is the largest object that travels inside its record.
const MaxInlineBytes = 16 << 10

// Limits of S3 (Amazon S3 user guide, "Amazon S3 multipart upload limits").
const (
	MaxParts       = 10_000
	MinPartBytes   = 5 << 20
	MaxPartBytes   = 5 << 30
	MaxObjectBytes = 50 << 40
	MaxKeyBytes    = 1024
)

// Checksum is one of the S3 object checksums.
type Checksum struct {
	Algorithm string `cbor:"1,keyasint,omitempty"` // CRC32 CRC32C CRC64NVME SHA1 SHA256, "" = none
	Type      string `cbor:"2,keyasint,omitempty"` // FULL_OBJECT or COMPOSITE
	Value     string `cbor:"3,keyasint,omitempty"` // base64; composite ones end in -N
}

// Sums is what is computed over the bytes of an upload as they go by.
type Sums struct {
	MD5      string   // hex: the ETag of a simple object or part
	Checksum Checksum // Algorithm "" = none was asked for
}

// Attributes is what a client says about an object and gets back unchanged.
type Attributes struct {
	ContentType        string            `cbor:"1,keyasint,omitempty"`
	CacheControl       string            `cbor:"2,keyasint,omitempty"`
	ContentDisposition string            `cbor:"3,keyasint,omitempty"`
	ContentEncoding    string            `cbor:"4,keyasint,omitempty"`
	ContentLanguage    string            `cbor:"5,keyasint,omitempty"`
	Expires            string            `cbor:"6,keyasint,omitempty"`
	WebsiteRedirect    string            `cbor:"7,keyasint,omitempty"`
	User               map[string]string `cbor:"8,keyasint,omitempty"` // x-amz-meta-*, names in lower case
	StorageClass       string            `cbor:"9,keyasint,omitempty"` // "" = STANDARD
}

// Profile is the code of a blob: k data shards, k+m slots per zone. Class says
// which of the slots its chunks take.
type Profile struct {
	K     uint8  `cbor:"1,keyasint"`
	M     uint8  `cbor:"2,keyasint"`
	Class uint8  `cbor:"3,keyasint,omitempty"` // as cluster.Class
	Zone  string `cbor:"4,keyasint,omitempty"` // of class OneZone: which
}

// Classes of a profile.
const (
	ClassStandard uint8 = iota // every slot
	ClassLean                  // the first k of each zone
	ClassOneZone               // those of one zone, which holds the systematic shards
)

// ChunkNote says what is particular about one chunk of a blob.
type ChunkNote struct {
	Chunk   uint32 `cbor:"1,keyasint"`
	Attempt uint8  `cbor:"2,keyasint,omitempty"` // of the placement probe sequence
	Missing uint64 `cbor:"3,keyasint,omitempty"` // bit i: shard i was not written, or is lost
	// Of a chunk that lacks shards: its placement group, and the zones of the
	// first and of the second half of its shards.
	PG    uint16   `cbor:"4,keyasint,omitempty"`
	Zones []string `cbor:"5,keyasint,omitempty"`
	// Marked is the log time at which a shard was last found missing; 0: at PUT.
	Marked int64 `cbor:"6,keyasint,omitempty"`
}

// Blob says where the bytes of one part lie. Chunks without a note are at
// attempt 0 and whole.
type Blob struct {
	ID      BlobID      `cbor:"1,keyasint"`
	Bytes   int64       `cbor:"2,keyasint"`
	Profile Profile     `cbor:"3,keyasint"`
	Notes   []ChunkNote `cbor:"4,keyasint,omitempty"` // by chunk, ascending
	// AtRisk names the zones whose loss would now take the blob with it.
	AtRisk []string `cbor:"5,keyasint,omitempty"`
}

// UnderProtected tells whether any shard of the blob is known to be missing.
func (b *Blob) UnderProtected() bool {
	for _, n := range b.Notes {
		if n.Missing != 0 {
			return true
		}
	}
	return false
}

// Part is one uploaded part of an object; a simple PUT is one part with number 0.
type Part struct {
	Number   int      `cbor:"1,keyasint,omitempty"`
	Bytes    int64    `cbor:"2,keyasint"`
	ETag     string   `cbor:"3,keyasint,omitempty"` // hex MD5, no quotes
	Checksum Checksum `cbor:"4,keyasint,omitzero"`
	Modified int64    `cbor:"5,keyasint,omitempty"` // Unix nanoseconds
	Blob     *Blob    `cbor:"6,keyasint,omitempty"` // nil for an empty or inline part
	Seal     *Seal    `cbor:"7,keyasint,omitempty"` // nil: not encrypted
	// Ref is the reference by which a copy holds the blob at its home; nil: the record
	// itself is an owner of the blob.
	Ref *Reference `cbor:"8,keyasint,omitempty"`
}

// SealKind says whose key seals the data key of a part.
type SealKind uint8

const (
	SealNone   SealKind = iota
	SealRegion          // a master key of the region's keyring (SSE-S3)
	SealClient          // a key that the client brings with each request (SSE-C)
)

// Seal says how the bytes of a part are encrypted. A small object in its record has
// one part, without a blob, to hold it.
type Seal struct {
	Kind  SealKind `cbor:"1,keyasint"`
	KeyID string   `cbor:"2,keyasint,omitempty"` // of the master key
	Key   []byte   `cbor:"3,keyasint"`           // the data key, sealed
}

// SealOf is whose key seals an object.
func SealOf(parts []Part) SealKind {
	for _, p := range parts {
		if p.Seal != nil {
			return p.Seal.Kind
		}
	}
	return SealNone
}

// EncryptAES256 is the value of FieldEncryption in a bucket whose new objects are
// encrypted with the region's keys unless their request says otherwise.
const EncryptAES256 = "AES256"

// Version is one immutable object version.
type Version struct {
	Bucket       BucketID          `cbor:"1,keyasint"`
	Key          string            `cbor:"2,keyasint"`
	ID           string            `cbor:"3,keyasint"`
	Modified     int64             `cbor:"4,keyasint"` // Unix nanoseconds, set by apply
	Bytes        int64             `cbor:"5,keyasint"`
	ETag         string            `cbor:"6,keyasint"` // without quotes
	Checksum     Checksum          `cbor:"7,keyasint,omitzero"`
	Attributes   Attributes        `cbor:"8,keyasint"`
	Parts        []Part            `cbor:"9,keyasint,omitempty"`
	Inline       []byte            `cbor:"10,keyasint,omitempty"`
	DeleteMarker bool              `cbor:"11,keyasint,omitempty"`
	Tags         map[string]string `cbor:"12,keyasint,omitempty"`
	Lock         Lock              `cbor:"13,keyasint,omitzero"`

	// Versioned is whether the bucket has or had versioning. It is not kept: who
	// answers a request adds it.
	Versioned bool `cbor:"-"`
	// Expires is when the lifecycle of its bucket ends the version; as Versioned.
	Expires Expiration `cbor:"-"`
}

// Upload is a multipart upload in progress.
type Upload struct {
	Bucket            BucketID          `cbor:"1,keyasint"`
	Key               string            `cbor:"2,keyasint"`
	ID                UploadID          `cbor:"3,keyasint"`
	Initiated         int64             `cbor:"4,keyasint"` // Unix nanoseconds
	Attributes        Attributes        `cbor:"5,keyasint"`
	ChecksumAlgorithm string            `cbor:"6,keyasint,omitempty"`
	ChecksumType      string            `cbor:"7,keyasint,omitempty"`
	Tags              map[string]string `cbor:"8,keyasint,omitempty"` // of the object to be
	Lock              Lock              `cbor:"9,keyasint,omitzero"`
	// Seal says that the parts are to be encrypted. With a client's key it holds a
	// data key of no part, which proves that the same key comes with each of them.
	Seal *Seal `cbor:"10,keyasint,omitempty"`

	// Aborts is when the lifecycle of its bucket throws the upload away. It is not kept:
	// who answers a request adds it.
	Aborts Expiration `cbor:"-"`
}

// Condition is evaluated inside the commit, never by reading first.
type Condition struct {
	IfNoneMatchAny bool   `cbor:"1,keyasint,omitempty"` // If-None-Match: *
	IfMatch        string `cbor:"2,keyasint,omitempty"` // an ETag without quotes, or *; "" = no condition
	Room           *Room  `cbor:"3,keyasint,omitempty"` // of the bucket's quota; nil: it has none
}

// ObjectSummary is one row of an object listing.
type ObjectSummary struct {
	Key          string
	Bytes        int64
	ETag         string
	Modified     int64 // Unix nanoseconds
	StorageClass string
	Checksum     Checksum
	VersionID    string
	DeleteMarker bool
	Latest       bool // only in a listing of versions
	Tags         map[string]string
}

// SealWith says how new bytes are to be encrypted. The zero value leaves it to the
// bucket.
type SealWith struct {
	Kind      SealKind
	ClientKey []byte // of SealClient: 32 bytes, which are never kept
}
