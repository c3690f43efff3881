package metadata

// ConfigDropped begins the keys of buckets that were dropped and of which partitions
// still keep something; the id in hexadecimal follows. The revision is when it was.
const ConfigDropped = "dropped/"

// ConfigClock is the key of the region's clock among the configuration values.
const ConfigClock = "clock"

// ClockReport is what the clock of one node shows, and the Level of its program. Nodes is
// how many nodes the region was made of.
type ClockReport struct {
	Node  string `cbor:"1,keyasint"`
	Clock int64  `cbor:"2,keyasint"` // Unix nanoseconds
	Nodes int    `cbor:"3,keyasint"`
	Level uint8  `cbor:"4,keyasint,omitempty"`
}

// RegionClock is the time that most nodes agree has come. It never goes back, and
// no node can put it forward alone. Retention and lifecycle go by it.
type RegionClock struct {
	Agreed  int64                  `cbor:"1,keyasint,omitempty"` // Unix nanoseconds, 0 = not known yet
	Reports map[string]ClockReader `cbor:"2,keyasint,omitempty"`
	// Level is the least one of all nodes that reported in the last week, once most have.
	// It never goes back.
	Level uint8 `cbor:"3,keyasint,omitempty"`
}

// ClockReader is the last report of a node, and what was agreed when it came.
type ClockReader struct {
	Clock int64 `cbor:"1,keyasint"`
	Seen  int64 `cbor:"2,keyasint"`
	Level uint8 `cbor:"3,keyasint,omitempty"`
}
