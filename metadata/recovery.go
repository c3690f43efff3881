package metadata

// A forced recovery goes on with what one replica had, so a partition may have lost its
// last commits while others have not. What two partitions know of each other then has to
// be compared: the home of blobs may have lost references that records elsewhere name,
// or the end of references that nobody names any more. Until every partition has told
// which references to a recovered one its records name, that one gives no garbage away.
//
// One pass goes for one partition, From, and one home of blobs: From is fenced, so that
// its records begin to name no reference of before; then it tells all that they name, and
// the home takes what it does not have.

// Recovered is applied once by a forced recovery, to the state with which a partition
// goes on.
type Recovered struct {
	Epoch      uint32 `cbor:"1,keyasint"`
	Partitions uint16 `cbor:"2,keyasint"` // of the region: 1..Partitions
}

// PeerState is what a partition keeps of another one, or of itself, because of forced
// recoveries.
type PeerState struct {
	// Epoch of that one as far as known: of its references, those that were made in
	// earlier ones are not named anew here.
	Epoch   uint32 `cbor:"1,keyasint,omitempty"`
	Awaited bool   `cbor:"2,keyasint,omitempty"` // it has to tell which references to here its records name
	Untold  bool   `cbor:"3,keyasint,omitempty"` // it has to be told which references to it records here name
}

// Recovery answers QueryRecovery.
type Recovery struct {
	Epoch   uint32   `cbor:"1,keyasint,omitempty"` // how often this partition was recovered
	Awaited []uint16 `cbor:"2,keyasint,omitempty"` // see PeerState; ascending
	Untold  []uint16 `cbor:"3,keyasint,omitempty"`
}

// FenceHome makes Epoch known as that of partition Home.
type FenceHome struct {
	Home  uint16 `cbor:"1,keyasint"`
	Epoch uint32 `cbor:"2,keyasint"`
}

// Naming is a reference that records name, and the blobs that they have by it.
type Naming struct {
	Ref    Reference `cbor:"1,keyasint"`
	Blobs  []Blob    `cbor:"2,keyasint"`           // one for each part
	Broken bool      `cbor:"3,keyasint,omitempty"` // its home does not hold them any more
}

// NamingPage asks which references to Home records name, by id, behind After.
type NamingPage struct {
	Home  uint16 `cbor:"1,keyasint"`
	After RefID  `cbor:"2,keyasint,omitzero"`
	Limit int    `cbor:"3,keyasint"`
}

// Namings answers it.
type Namings struct {
	Refs []Naming `cbor:"1,keyasint"`
	More bool     `cbor:"2,keyasint,omitempty"`
}

// AssertReferences tells a home which references the records of partition From name; Last
// that these were the last ones. Epoch is that of the home; ErrConflict in another one.
// What the home does not have is made as it was. Blobs that it takes for garbage, or does
// not know, are held again if From is awaited: nothing was reclaimed meanwhile.
type AssertReferences struct {
	From  uint16   `cbor:"1,keyasint"`
	Epoch uint32   `cbor:"2,keyasint"`
	Refs  []Naming `cbor:"3,keyasint,omitempty"`
	Last  bool     `cbor:"4,keyasint,omitempty"`
}

// Asserted answers it.
type Asserted struct {
	Made    int     `cbor:"1,keyasint,omitempty"` // references
	Revived int     `cbor:"2,keyasint,omitempty"` // blobs that were garbage or unknown
	Gone    []RefID `cbor:"3,keyasint,omitempty"` // whose blobs are not held any more
}

// ToldHome notes in the partition that told what its home had to say: Broken are
// references whose blobs are gone, Whole those that were called so, and are not. Done ends what is untold, if neither has been recovered
// again since: Own is the epoch of this partition, Epoch that of the home.
type ToldHome struct {
	Home   uint16  `cbor:"1,keyasint"`
	Epoch  uint32  `cbor:"2,keyasint"`
	Own    uint32  `cbor:"3,keyasint"`
	Broken []RefID `cbor:"4,keyasint,omitempty"`
	Whole  []RefID `cbor:"5,keyasint,omitempty"`
	Done   bool    `cbor:"6,keyasint,omitempty"`
}

// DoubtReferences makes a home ask again about the references that were made for
// partition To, by id, behind After; the partition may have lost the end of what named
// them, or the beginning.
type DoubtReferences struct {
	To    uint16 `cbor:"1,keyasint"`
	After RefID  `cbor:"2,keyasint,omitzero"`
}

// Doubted answers it: how far it came, and whether there is more.
type Doubted struct {
	Last RefID `cbor:"1,keyasint,omitzero"`
	More bool  `cbor:"2,keyasint,omitempty"`
}
