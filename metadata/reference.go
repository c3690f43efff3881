package metadata

// A copy does not move bytes: its record names the blobs of its source. The partition
// that a blob's id names, its home, is where its owners are counted, and the copy may
// live in another one. So the copy's partition to be first becomes an owner at home,
// by a reference, and then the copy is committed with that reference on its parts.
// When the last record that names the reference is gone, the copy's partition queues a
// release, which a clean-up brings home.
//
// Between the two commits anything may fail. A reference says until when (log time of
// the copy's partition) a record may begin to name it; later that is refused. So a
// reference that no record names by then never will be, and may be dropped.

// RefID names a reference; random, minted by who asks for it.
type RefID [16]byte

// Reference is what a part says of a blob that is held by a reference at its home.
type Reference struct {
	ID    RefID  `cbor:"1,keyasint"`
	Home  uint16 `cbor:"2,keyasint"` // number of the partition that holds the blob
	Until int64  `cbor:"3,keyasint"` // log time, Unix nanoseconds
	// Epoch of the home's forced recoveries in which it was made.
	Epoch uint32 `cbor:"4,keyasint,omitempty"`
}

// AddReference makes partition To an owner of blobs that are held here, each once for
// each time that it is listed. ErrConflict if one of them is not held any more, or has
// MaxOwners.
type AddReference struct {
	ID       RefID    `cbor:"1,keyasint"`
	To       uint16   `cbor:"2,keyasint"`
	Lifetime int64    `cbor:"3,keyasint"` // nanoseconds from now to Until
	Blobs    []BlobID `cbor:"4,keyasint"` // 1..MaxParts
}

// Added answers it.
type Added struct {
	Until int64  `cbor:"1,keyasint"`
	Epoch uint32 `cbor:"2,keyasint,omitempty"` // see Reference
}

// HeldReference is a reference as its home keeps it.
type HeldReference struct {
	To    uint16 `cbor:"1,keyasint"`
	Until int64  `cbor:"2,keyasint"`
	Parts []Part `cbor:"3,keyasint"` // one for each blob, by their order
}

// MaxOwners is how many owners a blob gets by references: its row names them all and is
// written anew with each. What would be one more is read and written instead.
const MaxOwners = 1000

// MaxReferences is how many references one command or page carries.
const MaxReferences = 1000

// RefIDs names references, MaxReferences at most.
type RefIDs struct {
	IDs []RefID `cbor:"1,keyasint"`
}

// Dropped answers CmdDropReferences: how many of the list, from its front, are gone.
// What is left is to be asked for again.
type Dropped struct {
	Done int `cbor:"1,keyasint"`
}

// RefPage asks for pending references, or for releases, with Until before Before,
// the oldest first, behind the place After.
type RefPage struct {
	Before int64    `cbor:"1,keyasint"`
	Limit  int      `cbor:"2,keyasint"`
	After  RefPlace `cbor:"3,keyasint,omitzero"`
}

// RefPlace is where a reference stands in these lists. Zero: before all.
type RefPlace struct {
	Until int64 `cbor:"1,keyasint,omitempty"`
	ID    RefID `cbor:"2,keyasint,omitzero"`
}

// PendingReference is one of which it is not known yet that a record names it.
type PendingReference struct {
	ID    RefID  `cbor:"1,keyasint"`
	Until int64  `cbor:"2,keyasint"`
	To    uint16 `cbor:"3,keyasint"`
}

// PendingReferences answers RefPage at the home of blobs.
type PendingReferences struct {
	Refs []PendingReference `cbor:"1,keyasint"`
}

// Releases answers RefPage where copies live: references that no record names any
// more, to be dropped at their homes.
type Releases struct {
	Refs []Reference `cbor:"1,keyasint"`
}

// JudgeReferences asks the partition where a copy was to live what became of it.
type JudgeReferences struct {
	Refs []PendingReference `cbor:"1,keyasint"` // their To is this partition
}

// RefState is the answer for one reference.
type RefState uint8

const (
	RefOpen RefState = 0 // a record may yet name it, or its release is under way
	RefUsed RefState = 1 // a record names it
	RefGone RefState = 2 // no record names it, and none ever will
)

// RefStates answers JudgeReferences, in the same order.
type RefStates struct {
	States []RefState `cbor:"1,keyasint"`
}

// DropReleases forgets releases that their homes know of. One whose Until has not
// passed stays, so that nothing can name its reference again.
type DropReleases struct {
	Refs []Reference `cbor:"1,keyasint"`
}

// ReferenceOwner is a reference as an owner of blobs.
func ReferenceOwner(id RefID) BlobOwner { return BlobOwner{Reference: id} }

// Held tells whether the record that has the part is an owner of its blob. A copy's
// record is not: it names the reference that is.
func (p Part) Held() bool { return p.Blob != nil && p.Ref == nil }

// Refer is the part as a copy has it, held by a reference. Which shards are missing
// is known at the blob's home alone.
func (p Part) Refer(r Reference) Part {
	p.Blob, p.Ref = p.Blob.PlacesOnly(), &r
	return p
}
