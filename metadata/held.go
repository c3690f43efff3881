package metadata

import (
	"encoding/binary"
	"time"
)

// BlobOwner is a record that a blob's bytes are kept for: an object version, an
// uploaded part (Upload is set), or a reference by which a copy holds it.
type BlobOwner struct {
	Bucket  BucketID `cbor:"1,keyasint,omitzero"`
	Key     string   `cbor:"2,keyasint,omitempty"`
	Version string   `cbor:"3,keyasint,omitempty"`
	Upload  UploadID `cbor:"4,keyasint,omitzero"`
	Part    int      `cbor:"5,keyasint,omitempty"`

	Reference RefID `cbor:"6,keyasint,omitzero"`
}

// VersionOwner is v as an owner.
func VersionOwner(v *Version) BlobOwner {
	return BlobOwner{Bucket: v.Bucket, Key: v.Key, Version: v.ID}
}

// PartOwner is a part of an upload as an owner.
func PartOwner(id UploadID, number int) BlobOwner { return BlobOwner{Upload: id, Part: number} }

// MaxUncommitted is how old a blob may be, from the minting of its id by the time of the
// command, when a record is first made that holds it. One that is older never gets a
// record: so its shards may be removed without asking anybody but its partition, once
// it is older than this and the partition does not know it.
const MaxUncommitted = 12 * time.Hour

// Minted is the time in the id.
func (b BlobID) Minted() time.Time {
	return time.UnixMilli(int64(binary.BigEndian.Uint64(b[:8]) & (1<<48 - 1)))
}

// BlobState is what a partition knows of a blob.
type BlobState uint8

// A blob that is unknown to the partition that its id names, and too old to get its
// first record, is an orphan.
const (
	BlobUnknown BlobState = 0
	BlobHeld    BlobState = 1 // by a version or an uploaded part
	BlobGarbage BlobState = 2 // queued; its shards are being removed
)

// BlobIDs asks what a partition knows of each.
type BlobIDs struct {
	IDs []BlobID `cbor:"1,keyasint"`
}

// BlobStates answers, in the same order.
type BlobStates struct {
	States []BlobState `cbor:"1,keyasint"`
}

// ShardMark says of one chunk that shards are lost (bits of Set) or there again
// (bits of Clear). PG and Zones are those of ChunkNote. A Clear holds only if no
// shard was marked since its proposer looked: Seen is the Marked that it saw. A mark of
// another PG than that in which the chunk is known to lack shards changes nothing.
type ShardMark struct {
	Blob  BlobID   `cbor:"1,keyasint"`
	Chunk uint32   `cbor:"2,keyasint,omitempty"`
	PG    uint16   `cbor:"3,keyasint,omitempty"`
	Zones []string `cbor:"4,keyasint"`
	Set   uint64   `cbor:"5,keyasint,omitempty"`
	Clear uint64   `cbor:"6,keyasint,omitempty"`
	Seen  int64    `cbor:"7,keyasint,omitempty"`
}

// MaxMarks is how many marks one command carries.
const MaxMarks = 1000

// MarkShards changes what is known to be missing. The answer is of the marks that were
// done, from the first one on; those behind them are to be proposed again.
type MarkShards struct {
	Marks []ShardMark `cbor:"1,keyasint"`
}

// MarkNews answers what of MarkShards would be news: a shard is marked of a held blob
// that is not known to lack it.
type MarkNews struct {
	News []bool `cbor:"1,keyasint"` // one for each mark
}

// UnderPage asks for under-protected blobs, the most endangered first, after the
// place After (nil: from the first).
type UnderPage struct {
	After []byte `cbor:"1,keyasint,omitempty"`
	Limit int    `cbor:"2,keyasint"`
}

// UnderBlob is one of them with its place in the queue.
type UnderBlob struct {
	Place []byte `cbor:"1,keyasint"`
	Blob  Blob   `cbor:"2,keyasint"`
	Since int64  `cbor:"3,keyasint"` // log time at which it began to lack shards
}

// UnderBlobs answers UnderPage.
type UnderBlobs struct {
	Blobs []UnderBlob `cbor:"1,keyasint"`
	More  bool        `cbor:"2,keyasint,omitempty"`
}

// SlotCount is what hangs on one place of a placement group.
type SlotCount struct {
	Slot    Slot  `cbor:"1,keyasint"`
	Last    int64 `cbor:"2,keyasint,omitempty"` // objects that its loss would take
	Missing int64 `cbor:"3,keyasint,omitempty"` // shards that it lacks
	Bytes   int64 `cbor:"4,keyasint,omitempty"` // of these shards
}

// SlotPage asks for them, in order, behind the place After (nil: from the first).
type SlotPage struct {
	After *Slot `cbor:"1,keyasint,omitempty"`
}

// Slots answers SlotPage: those of which anything is to be said, some at a time, for
// there may be a million.
type Slots struct {
	Slots []SlotCount `cbor:"1,keyasint"`
	More  bool        `cbor:"2,keyasint,omitempty"`
}
