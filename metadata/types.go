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

// NullVersion is the version id of objects in a bucket without versioning.
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

// Bucket is one bucket of the region, kept by the root group.
type Bucket struct {
	Name    string   `cbor:"1,keyasint"`
	ID      BucketID `cbor:"2,keyasint"`
	Created int64    `cbor:"3,keyasint"` // Unix nanoseconds
	// Deleting is set while DeleteBucket proves the bucket empty; the bucket is
	// still listed, and upkeep finishes what a crash interrupted.
	Deleting int64 `cbor:"4,keyasint,omitempty"` // Unix nanoseconds, 0 = no
}

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

// Profile is the code of a blob: k data shards, k+m shards per zone.
type Profile struct {
	K uint8 `cbor:"1,keyasint"`
	M uint8 `cbor:"2,keyasint"`
}

// ChunkNote says what is particular about one chunk of a blob.
type ChunkNote struct {
	Chunk   uint32 `cbor:"1,keyasint"`
	Attempt uint8  `cbor:"2,keyasint,omitempty"` // of the placement probe sequence
	Missing uint64 `cbor:"3,keyasint,omitempty"` // bit i: shard i was not written
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
}

// Version is one immutable object version.
type Version struct {
	Bucket       BucketID   `cbor:"1,keyasint"`
	Key          string     `cbor:"2,keyasint"`
	ID           string     `cbor:"3,keyasint"`
	Modified     int64      `cbor:"4,keyasint"` // Unix nanoseconds, set by apply
	Bytes        int64      `cbor:"5,keyasint"`
	ETag         string     `cbor:"6,keyasint"` // without quotes
	Checksum     Checksum   `cbor:"7,keyasint,omitzero"`
	Attributes   Attributes `cbor:"8,keyasint"`
	Parts        []Part     `cbor:"9,keyasint,omitempty"`
	Inline       []byte     `cbor:"10,keyasint,omitempty"`
	DeleteMarker bool       `cbor:"11,keyasint,omitempty"`
}

// Upload is a multipart upload in progress.
type Upload struct {
	Bucket            BucketID   `cbor:"1,keyasint"`
	Key               string     `cbor:"2,keyasint"`
	ID                UploadID   `cbor:"3,keyasint"`
	Initiated         int64      `cbor:"4,keyasint"` // Unix nanoseconds
	Attributes        Attributes `cbor:"5,keyasint"`
	ChecksumAlgorithm string     `cbor:"6,keyasint,omitempty"`
	ChecksumType      string     `cbor:"7,keyasint,omitempty"`
}

// Condition is evaluated inside the commit, never by reading first.
type Condition struct {
	IfNoneMatchAny bool   `cbor:"1,keyasint,omitempty"` // If-None-Match: *
	IfMatch        string `cbor:"2,keyasint,omitempty"` // an ETag without quotes, or *; "" = no condition
}

// ObjectSummary is one row of an object listing.
type ObjectSummary struct {
	Key          string
	Bytes        int64
	ETag         string
	Modified     int64 // Unix nanoseconds
	StorageClass string
	Checksum     Checksum
}
