package object

import (
	"io"

	"bivalve/metadata"
)

// Body is the verified stream of an upload. Read returns an error instead of
// io.EOF when the stream does not hold together; Sums is called after io.EOF.
type Body interface {
	io.Reader
	Sums() metadata.Sums
}

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

// BucketQuery is one page of buckets whose names have Prefix and come after After.
type BucketQuery struct {
	Prefix, After string
	Limit         int
}

// ListRequest is one page of a listing: keys with Prefix, strictly after After.
type ListRequest struct {
	Bucket, Prefix, Delimiter, After string
	Limit                            int
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

// ListPage has Objects and Prefixes each in byte order; Next is the last entry.
type ListPage struct {
	Objects  []metadata.ObjectSummary
	Prefixes []string
	More     bool
	Next     string
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

// PutPartRequest stores one part; one of the same number is replaced.
type PutPartRequest struct {
	Bucket, Key string
	Upload      metadata.UploadID
	Number      int
	Bytes       int64
	Body        Body
	ClientKey   []byte // of an upload that is encrypted with a key of the client
}

// CompleteRequest turns parts into an object; the commit proves them unchanged.
type CompleteRequest struct {
	Bucket, Key string
	Upload      metadata.UploadID
	Parts       []metadata.Part
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

// UploadQuery is one page of uploads, by key, then age; see s3api.
type UploadQuery struct {
	Bucket, Prefix, Delimiter, KeyMarker, UploadMarker string
	Limit                                              int
}

// UploadPage is one page of uploads; NextKey and NextUpload continue it.
type UploadPage struct {
	Uploads             []metadata.Upload
	Prefixes            []string
	More                bool
	NextKey, NextUpload string
}
