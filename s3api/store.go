package s3api

import (
	"context"
	"io"
	"time"

	"bivalve/metadata"
)

// The interfaces below are what the door needs from the house behind it. All
// methods may be called concurrently. Errors are those of metadata/errors.go,
// those of errors.go here (ErrSlowDown and its kin) and whatever a body's Read
// returned, wrapped. An error outside of these is a 500 InternalError.

// Buckets is the region's list of buckets.
type Buckets interface {
	CreateBucket(ctx context.Context, name string) (metadata.Bucket, error)                           // ErrBucketExists
	GetBucket(ctx context.Context, name string) (metadata.Bucket, error)                              // ErrNoSuchBucket
	DeleteBucket(ctx context.Context, name string) error                                              // ErrNoSuchBucket, ErrBucketNotEmpty
	ListBuckets(ctx context.Context, q BucketQuery) (buckets []metadata.Bucket, more bool, err error) // by name, ascending
}

// Settings is the configuration of buckets.
type Settings interface {
	// CreateLockedBucket makes a bucket with versioning and object lock. ErrBucketExists.
	CreateLockedBucket(ctx context.Context, name string) (metadata.Bucket, error)
	// ConfigureBucket replaces one field (metadata.FieldVersioning and its kin); an
	// empty value takes it away. On return every later request acts by it. What is
	// set stands in what GetBucket answers. ErrNoSuchBucket, ErrInvalidBucketState.
	ConfigureBucket(ctx context.Context, name, field string, value []byte) (metadata.Bucket, error)
}

// BucketQuery is one page of buckets whose names have Prefix and come after After.
type BucketQuery struct {
	Prefix, After string
	Limit         int // 1..10000
}

// Body is the verified stream of an upload. Read returns an error instead of
// io.EOF when what the client sent does not hold together (short, wrong hash,
// wrong signature). Sums may be called once Read has returned io.EOF.
type Body interface {
	io.Reader
	Sums() Sums
}

// Sums is what the door computed while the bytes went by.
type Sums = metadata.Sums

// PutRequest stores one object. Bytes is the exact size of Body.
type PutRequest struct {
	Bucket, Key string
	Bytes       int64
	Body        Body
	Attributes  metadata.Attributes
	Tags        map[string]string
	Lock        metadata.Lock
	Condition   metadata.Condition
	Seal        metadata.SealWith
}

// DeleteRequest removes an object, or with Version that version for good. Bypass
// is of governance.
type DeleteRequest struct {
	Bucket, Key, Version string
	Condition            metadata.Condition
	Bypass               bool
}

// AmendRequest changes what is said about a version; "" is the current one.
type AmendRequest struct {
	Bucket, Key, Version string
	SetTags              bool
	Tags                 map[string]string
	Retention            *metadata.Lock // its Hold is not looked at
	Hold                 *bool
	Bypass               bool
}

// Objects reads and writes single objects.
type Objects interface {
	// PutObject returns once the version is committed (laws L1, L2).
	PutObject(ctx context.Context, r PutRequest) (metadata.Version, error)
	// HeadObject is a linearizable look-up: the version of that id (ErrNoSuchVersion),
	// or with "" the newest (ErrNoSuchKey). Either may be a delete marker.
	HeadObject(ctx context.Context, bucket, key, version string) (metadata.Version, error)
	// OpenObject reads bytes [offset, offset+length) of a version that HeadObject
	// returned. Every byte is checked (law L7); a Read error after the first byte
	// means that the response must be broken off. The reader is used by one
	// goroutine and must be closed. Close may be called in the midst.
	OpenObject(ctx context.Context, v metadata.Version, offset, length int64) (io.ReadCloser, error)
	// DeleteObject succeeds when the key or version is absent. ErrLocked.
	DeleteObject(ctx context.Context, r DeleteRequest) (metadata.Deleted, error)
	// AmendObject changes tags or lock and answers the id of the version. ErrLocked,
	// ErrNoObjectLock, ErrIsMarker.
	AmendObject(ctx context.Context, r AmendRequest) (version string, err error)
}

// Sealed reads objects that are encrypted with a key of the client.
type Sealed interface {
	// CheckKey answers ErrWrongKey unless the key is the one of the version.
	CheckKey(v metadata.Version, clientKey []byte) error
	// OpenSealed is OpenObject with the client's key.
	OpenSealed(ctx context.Context, v metadata.Version, clientKey []byte, offset, length int64) (io.ReadCloser, error)
}

// ListRequest is one page of a listing. Keys are those with Prefix and strictly
// after After, in byte order. With a Delimiter, keys that contain it behind the
// prefix collapse into common prefixes; a common prefix that is not after
// After is skipped whole.
type ListRequest struct {
	Bucket, Prefix, Delimiter, After string
	Limit                            int // 1..1000, counts objects and prefixes together
}

// VersionQuery is one page of versions, by key, then the newest first. It goes on
// behind the version of AfterKey that was committed at AfterTime; with AfterTime 0
// all of AfterKey is passed; a negative one means where the null version is.
type VersionQuery struct {
	Bucket, Prefix, Delimiter, AfterKey string
	AfterTime                           int64
	Limit                               int // 1..1000, counts versions and prefixes together
}

// VersionPage has the last entry in Next* when More.
type VersionPage struct {
	Versions             []metadata.ObjectSummary
	Prefixes             []string
	More                 bool
	NextKey, NextVersion string
	NextTime             int64
}

// ListPage has Objects and Prefixes each in byte order. Next is the last entry
// (key or common prefix) of the page when More.
type ListPage struct {
	Objects  []metadata.ObjectSummary
	Prefixes []string
	More     bool
	Next     string
}

// Lister lists objects.
type Lister interface {
	ListObjects(ctx context.Context, r ListRequest) (ListPage, error)
	ListVersions(ctx context.Context, q VersionQuery) (VersionPage, error)
}

// CreateUploadRequest starts a multipart upload.
type CreateUploadRequest struct {
	Bucket, Key                     string
	Attributes                      metadata.Attributes
	Tags                            map[string]string
	Lock                            metadata.Lock
	ChecksumAlgorithm, ChecksumType string
	Seal                            metadata.SealWith
}

// PutPartRequest stores one part; a part with the same number is replaced.
type PutPartRequest struct {
	Bucket, Key string
	Upload      metadata.UploadID
	Number      int // 1..10000
	Bytes       int64
	Body        Body
	ClientKey   []byte // of an upload that is encrypted with a key of the client
}

// CompletePart is one line of CompleteMultipartUpload, ETag without quotes.
type CompletePart struct {
	Number   int
	ETag     string
	Checksum metadata.Checksum // Value "" = not given
}

// CompleteRequest turns parts into an object. ETag and Checksum are those of
// the whole object, computed by the door from the parts that ListParts gave.
type CompleteRequest struct {
	Bucket, Key string
	Upload      metadata.UploadID
	Parts       []metadata.Part // as ListParts returned them, chosen and ordered; commit proves them unchanged (ErrPartChanged)
	ETag        string
	Checksum    metadata.Checksum
	Condition   metadata.Condition
}

// PartPage is a page of the parts of one upload, by number.
type PartPage struct {
	Upload metadata.Upload
	Parts  []metadata.Part
	More   bool
}

// UploadQuery is one page of uploads, ordered by key, then by initiation time,
// then by id. (KeyMarker, UploadMarker) is the last upload of the page before; with an
// empty UploadMarker, all uploads of KeyMarker itself are skipped.
type UploadQuery struct {
	Bucket, Prefix, Delimiter, KeyMarker, UploadMarker string
	Limit                                              int // 1..1000
}

// UploadPage is one page of uploads; NextKey/NextUpload continue it when More.
type UploadPage struct {
	Uploads             []metadata.Upload
	Prefixes            []string
	More                bool
	NextKey, NextUpload string
}

// Uploads is multipart upload. All answer ErrNoSuchUpload for an upload that is
// unknown, aborted, or of another bucket or key.
type Uploads interface {
	CreateUpload(ctx context.Context, r CreateUploadRequest) (metadata.Upload, error)
	PutPart(ctx context.Context, r PutPartRequest) (metadata.Part, error)
	GetUpload(ctx context.Context, bucket, key string, id metadata.UploadID) (metadata.Upload, error)
	// ListParts returns up to limit (1..10000) parts with numbers above after.
	ListParts(ctx context.Context, bucket, key string, id metadata.UploadID, after, limit int) (PartPage, error)
	// CompleteUpload commits. FinishedUpload answers for an upload that was
	// completed before (a client's retry after a timeout): ErrNoSuchUpload if not known.
	CompleteUpload(ctx context.Context, r CompleteRequest) (metadata.Version, error)
	FinishedUpload(ctx context.Context, bucket, key string, id metadata.UploadID) (metadata.Version, error)
	AbortUpload(ctx context.Context, bucket, key string, id metadata.UploadID) error
	ListUploads(ctx context.Context, q UploadQuery) (UploadPage, error)
}

// Credentials finds the secret of an access key.
type Credentials interface {
	Secret(ctx context.Context, accessKey string) (secret string, err error) // ErrNoSuchAccessKey
}

// Clock is the time against which signatures are checked.
type Clock func() time.Time
