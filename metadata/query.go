package metadata

import "fmt"

// QueryKind numbers the questions.
type QueryKind uint8

// Queries of the root group.
const (
	QueryBucket  QueryKind = 1 // BucketName -> Bucket
	QueryBuckets QueryKind = 2 // BucketPage -> Buckets
	QueryConfig  QueryKind = 3 // ConfigPrefix -> ConfigValues
)

// Queries of a partition.
const (
	QueryVersion  QueryKind = 20 // KeyRef -> a version record
	QueryObjects  QueryKind = 21 // ObjectPage -> ObjectRows
	QueryUpload   QueryKind = 22 // UploadRef -> Upload
	QueryParts    QueryKind = 23 // PartPage -> Parts
	QueryUploads  QueryKind = 24 // UploadPage -> UploadRows
	QueryFinished QueryKind = 25 // UploadRef -> Finished
	QueryGarbage  QueryKind = 26 // GarbagePage -> GarbageItems
	QueryStats    QueryKind = 27 // nothing -> Stats
	QueryBlob     QueryKind = 28 // BlobIDs -> BlobStates: the consent to remove an orphan
	QueryUnder    QueryKind = 29 // UnderPage -> UnderBlobs
	QuerySlots    QueryKind = 30 // SlotPage -> Slots
	QueryBlobs    QueryKind = 31 // BlobPage -> BlobRows
	QueryVersions QueryKind = 32 // VersionPage -> VersionRows
	QueryLast     QueryKind = 33 // LastPage -> LastPlaces
	QueryNews     QueryKind = 34 // MarkShards -> MarkNews
	QueryPending  QueryKind = 40 // RefPage -> PendingReferences
	QueryReleases QueryKind = 41 // RefPage -> Releases
	QueryUsage    QueryKind = 42 // UsageOf -> Usages
	QueryRecovery QueryKind = 43 // nothing -> Recovery
	QueryNamings  QueryKind = 44 // NamingPage -> Namings
)

// queryVersion opens every query.
const queryVersion = 1

// NewQuery encodes a query.
func NewQuery(kind QueryKind, body any) ([]byte, error) {
	b, err := encode(body)
	if err != nil {
		return nil, fmt.Errorf("encode query %d: %w", kind, err)
	}
	return append([]byte{queryVersion, byte(kind)}, b...), nil
}

// ParseQuery splits what NewQuery made; the body aliases raw.
func ParseQuery(raw []byte) (QueryKind, []byte, error) {
	if len(raw) < 2 {
		return 0, nil, fmt.Errorf("%w: query of %d bytes", ErrMalformed, len(raw))
	}
	if raw[0] != queryVersion {
		return 0, nil, fmt.Errorf("%w: query version %d", ErrUnsupportedCommand, raw[0])
	}
	return QueryKind(raw[1]), raw[2:], nil
}

// DecodeBody reads the body of a query or the payload of an answer.
func DecodeBody(raw []byte, into any) error { return decode(raw, into) }

// EncodeBody is its counterpart.
func EncodeBody(v any) ([]byte, error) { return encode(v) }

// BucketName asks for one bucket.
type BucketName struct {
	Name string `cbor:"1,keyasint"`
}

// BucketPage asks for buckets by name.
type BucketPage struct {
	Prefix string `cbor:"1,keyasint,omitempty"`
	After  string `cbor:"2,keyasint,omitempty"`
	Limit  int    `cbor:"3,keyasint"`
}

// Buckets answers BucketPage.
type Buckets struct {
	Buckets []Bucket `cbor:"1,keyasint"`
	More    bool     `cbor:"2,keyasint,omitempty"`
}

// ConfigPrefix asks for all values whose key has the prefix.
type ConfigPrefix struct {
	Prefix string `cbor:"1,keyasint"`
}

// ConfigValues answers it, by key.
type ConfigValues struct {
	Values []ConfigValue `cbor:"1,keyasint"`
}

// KeyRef names a version of a key; without Version the newest one, which may be a
// delete marker.
type KeyRef struct {
	Bucket  BucketID `cbor:"1,keyasint"`
	Key     string   `cbor:"2,keyasint"`
	Version string   `cbor:"3,keyasint,omitempty"`
}

// VersionPage asks one partition for the versions of keys, by key, then the newest
// first. It goes on behind the version of AfterKey that was committed at AfterTime;
// with AfterTime 0 all of AfterKey is passed; a negative one means where the null
// version of AfterKey is.
type VersionPage struct {
	Bucket    BucketID `cbor:"1,keyasint"`
	Prefix    string   `cbor:"2,keyasint,omitempty"`
	Delimiter string   `cbor:"3,keyasint,omitempty"`
	AfterKey  string   `cbor:"4,keyasint,omitempty"`
	AfterTime int64    `cbor:"5,keyasint,omitempty"`
	Limit     int      `cbor:"6,keyasint"`
}

// VersionRow is a version with its summary record, or a common prefix (Record nil).
// Latest is whether the version is the newest of its key.
type VersionRow struct {
	Name   string `cbor:"1,keyasint"`
	Record []byte `cbor:"2,keyasint,omitempty"`
	Latest bool   `cbor:"3,keyasint,omitempty"`
}

// VersionRows answers VersionPage.
type VersionRows struct {
	Rows []VersionRow `cbor:"1,keyasint"`
	More bool         `cbor:"2,keyasint,omitempty"`
}

// ObjectPage asks one partition for listing rows after After, at most Limit.
type ObjectPage struct {
	Bucket    BucketID `cbor:"1,keyasint"`
	Prefix    string   `cbor:"2,keyasint,omitempty"`
	Delimiter string   `cbor:"3,keyasint,omitempty"`
	After     string   `cbor:"4,keyasint,omitempty"`
	Limit     int      `cbor:"5,keyasint"`
}

// ObjectRow is a key with its summary record, or a common prefix (Record nil).
type ObjectRow struct {
	Name   string `cbor:"1,keyasint"`
	Record []byte `cbor:"2,keyasint,omitempty"`
}

// ObjectRows answers ObjectPage in byte order of the names.
type ObjectRows struct {
	Rows []ObjectRow `cbor:"1,keyasint"`
	More bool        `cbor:"2,keyasint,omitempty"`
}

// PartPage asks for the parts of an upload with numbers above After.
type PartPage struct {
	Upload UploadRef `cbor:"1,keyasint"`
	After  int       `cbor:"2,keyasint,omitempty"`
	Limit  int       `cbor:"3,keyasint"`
}

// Parts answers PartPage.
type Parts struct {
	Upload Upload `cbor:"1,keyasint"`
	Parts  []Part `cbor:"2,keyasint"`
	More   bool   `cbor:"3,keyasint,omitempty"`
}

// UploadPage asks one partition for uploads, by key, then initiation, then id.
// After is the place of the last one seen; AfterKeyOnly skips all of its key.
type UploadPage struct {
	Bucket       BucketID `cbor:"1,keyasint"`
	Prefix       string   `cbor:"2,keyasint,omitempty"`
	Delimiter    string   `cbor:"3,keyasint,omitempty"`
	AfterKey     string   `cbor:"4,keyasint,omitempty"`
	AfterUpload  UploadID `cbor:"5,keyasint,omitempty"`
	AfterKeyOnly bool     `cbor:"6,keyasint,omitempty"`
	Limit        int      `cbor:"7,keyasint"`
}

// UploadRow is an upload, or a common prefix (Upload nil).
type UploadRow struct {
	Name   string  `cbor:"1,keyasint"`
	Upload *Upload `cbor:"2,keyasint,omitempty"`
}

// UploadRows answers UploadPage.
type UploadRows struct {
	Rows []UploadRow `cbor:"1,keyasint"`
	More bool        `cbor:"2,keyasint,omitempty"`
}

// Finished is what is kept of a completed upload, so that a retry is answered alike.
type Finished struct {
	Bucket   BucketID `cbor:"1,keyasint"`
	Key      string   `cbor:"2,keyasint"`
	ETag     string   `cbor:"3,keyasint"`
	Checksum Checksum `cbor:"4,keyasint,omitzero"`
	Modified int64    `cbor:"5,keyasint"`
	Bytes    int64    `cbor:"6,keyasint"`
	Version  string   `cbor:"7,keyasint,omitempty"` // its id, "" = NullVersion
}

// GarbagePage asks for garbage queued before Before (Unix nanoseconds of log time), and
// behind the item After (its GarbageID) if that is not empty.
type GarbagePage struct {
	Before int64  `cbor:"1,keyasint"`
	Limit  int    `cbor:"2,keyasint"`
	After  []byte `cbor:"3,keyasint,omitempty"`
}

// GarbageItems answers it, oldest first.
type GarbageItems struct {
	Items []Garbage `cbor:"1,keyasint"`
}

// Stats counts what a partition holds. What UnderProtected, UnderBytes, WithBlobs,
// Unreadable and AtRisk count are owners of blobs: versions, uploaded parts, and
// references. So a copy counts there where its blobs are held, by its references, and
// not where its record is.
type Stats struct {
	Objects        int64            `cbor:"1,keyasint"` // versions with content, current or not
	Bytes          int64            `cbor:"2,keyasint"`
	Uploads        int64            `cbor:"3,keyasint"`
	Garbage        int64            `cbor:"4,keyasint"`
	UnderProtected int64            `cbor:"5,keyasint"` // objects that lack shards
	UnderBytes     int64            `cbor:"6,keyasint"` // of these objects
	WithBlobs      int64            `cbor:"7,keyasint"` // objects with bytes on disks, not inline
	AtRisk         map[string]int64 `cbor:"8,keyasint,omitempty"`
	Unreadable     int64            `cbor:"9,keyasint,omitempty"`  // objects with a chunk of which too few shards are left
	Queued         int64            `cbor:"10,keyasint,omitempty"` // blobs in the queue of the healer
	Oldest         int64            `cbor:"11,keyasint,omitempty"` // log time at which the first of them began to lack shards; 0 = none
	Markers        int64            `cbor:"13,keyasint,omitempty"` // delete markers
	Changes        uint64           `cbor:"12,keyasint,omitempty"` // of what any of this counts; a census compares it
	References     int64            `cbor:"14,keyasint,omitempty"` // to blobs that are held here
	Releases       int64            `cbor:"15,keyasint,omitempty"` // of references elsewhere, still to be brought there
	// After forced recoveries (see PeerState): how often there was one, partitions that are
	// awaited, those that are untold, and references named here whose blobs are gone.
	Epoch   uint32 `cbor:"16,keyasint,omitempty"`
	Awaited int64  `cbor:"17,keyasint,omitempty"`
	Untold  int64  `cbor:"18,keyasint,omitempty"`
	Broken  int64  `cbor:"19,keyasint,omitempty"`
}

// Add makes s the sum of itself and of another partition's, but for Epoch; AtRisk is made
// if it is nil.
func (s *Stats) Add(o Stats) {
	for _, x := range []struct {
		sum *int64
		add int64
	}{
		{&s.Objects, o.Objects}, {&s.Bytes, o.Bytes}, {&s.Uploads, o.Uploads}, {&s.Garbage, o.Garbage}, {&s.UnderProtected, o.UnderProtected},
		{&s.UnderBytes, o.UnderBytes}, {&s.WithBlobs, o.WithBlobs}, {&s.Unreadable, o.Unreadable}, {&s.Queued, o.Queued}, {&s.Markers, o.Markers},
		{&s.References, o.References}, {&s.Releases, o.Releases}, {&s.Awaited, o.Awaited}, {&s.Untold, o.Untold}, {&s.Broken, o.Broken},
	} {
		*x.sum += x.add
	}
	s.Changes += o.Changes
	if o.Oldest != 0 && (s.Oldest == 0 || o.Oldest < s.Oldest) {
		s.Oldest = o.Oldest
	}
	if s.AtRisk == nil {
		s.AtRisk = map[string]int64{}
	}
	for zone, n := range o.AtRisk {
		s.AtRisk[zone] += n
	}
}
