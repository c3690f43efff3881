package membership

import (
	"fmt"

	"github.com/fxamacker/cbor/v2"

	"bivalve/cluster"
)

// MaxMetaBytes is what memberlist carries with each node.
const MaxMetaBytes = 512

// Meta is what a node says of itself. Fields unknown to an older node are
// skipped, so new ones may be added; a number is never given another meaning.
type Meta struct {
	Cluster string       `cbor:"1,keyasint"`
	Zone    cluster.Zone `cbor:"2,keyasint"`
	Role    cluster.Role `cbor:"3,keyasint"`
	Addr    string       `cbor:"4,keyasint"`           // host:port of the node transport
	S3      string       `cbor:"5,keyasint,omitempty"` // host:port, "" at the witness
	Admin   string       `cbor:"6,keyasint,omitempty"` // host:port
	Version string       `cbor:"7,keyasint,omitempty"` // of the program
	Load    uint8        `cbor:"8,keyasint,omitempty"` // per cent of the processors in use
	Disks   DiskSummary  `cbor:"9,keyasint"`
	// What 99 in 100 synced writes to its metadata log took at most in the last minute,
	// in microseconds.
	LogMicros uint32 `cbor:"10,keyasint,omitempty"`
}

// DiskSummary counts a node's disks and their space.
type DiskSummary struct {
	Total   uint16 `cbor:"1,keyasint,omitempty"`
	Failed  uint16 `cbor:"2,keyasint,omitempty"`
	Full    uint16 `cbor:"3,keyasint,omitempty"`
	SizeGiB uint32 `cbor:"4,keyasint,omitempty"`
	FreeGiB uint32 `cbor:"5,keyasint,omitempty"`
	// What 99 in 100 reads and syncs of the last minute took at most, in microseconds,
	// by the median disk of the node.
	ReadMicros uint32 `cbor:"6,keyasint,omitempty"`
	SyncMicros uint32 `cbor:"7,keyasint,omitempty"`
	Slow       uint16 `cbor:"8,keyasint,omitempty"`
}

func (m Meta) encode() ([]byte, error) {
	b, err := cbor.Marshal(m)
	if err != nil {
		return nil, fmt.Errorf("membership: encode meta: %w", err)
	}
	if len(b) > MaxMetaBytes {
		return nil, fmt.Errorf("membership: meta takes %d bytes, at most %d", len(b), MaxMetaBytes)
	}
	return b, nil
}

func parseMeta(b []byte) (Meta, error) {
	var m Meta
	if len(b) > MaxMetaBytes {
		return m, fmt.Errorf("membership: meta of %d bytes", len(b))
	}
	if err := cbor.Unmarshal(b, &m); err != nil {
		return Meta{}, fmt.Errorf("membership: parse meta: %w", err)
	}
	if m.Cluster == "" || m.Zone == "" || (m.Role != cluster.RoleStorage && m.Role != cluster.RoleWitness) {
		return Meta{}, fmt.Errorf("membership: meta of cluster %q, zone %q, role %q", m.Cluster, m.Zone, m.Role)
	}
	return m, nil
}
