package metadata

// BlobPage asks for the blobs that a partition knows, by id, after the id After
// (nil: from the first), at most Limit.
type BlobPage struct {
	After []byte `cbor:"1,keyasint,omitempty"`
	Limit int    `cbor:"2,keyasint"`
}

// BlobRow is one of them. One that is garbage has no owners, and of its Blob the id
// alone.
type BlobRow struct {
	Blob   Blob        `cbor:"1,keyasint"`
	Since  int64       `cbor:"2,keyasint,omitempty"` // log time at which it began to lack shards; 0: whole
	Owners []OwnerInfo `cbor:"3,keyasint,omitempty"` // each once
}

// OwnerInfo is a record that a blob's bytes are kept for.
type OwnerInfo struct {
	Owner BlobOwner `cbor:"1,keyasint"`
	Bytes int64     `cbor:"2,keyasint,omitempty"` // of the whole record
	// Standing is that of the record; given with the first blob that it names, so
	// that whoever goes through all blobs sees it once.
	Standing *Standing `cbor:"3,keyasint,omitempty"`
}

// BlobRows answers BlobPage.
type BlobRows struct {
	Rows []BlobRow `cbor:"1,keyasint"`
	More bool      `cbor:"2,keyasint,omitempty"`
}

// LastPage asks for the objects that the loss of one more shard would take, of at most
// so many blobs.
type LastPage struct {
	Limit int `cbor:"1,keyasint"`
}

// LastPlaces answers it: of each such object the places whose loss would take it.
type LastPlaces struct {
	Objects [][]Slot `cbor:"1,keyasint,omitempty"`
	More    bool     `cbor:"2,keyasint,omitempty"` // there are more blobs than were asked for
}
