package reach

import (
	"fmt"

	"bivalve/cluster"

	"github.com/fxamacker/cbor/v2"
)

// MaxPeers bounds whom one node asks, and so the size of an answer.
const MaxPeers = 64

// Answer is what a node says when it is asked. Fields unknown to an older node are
// skipped.
type Answer struct {
	Clock int64 `cbor:"1,keyasint"` // Unix nanoseconds when it answered
	// Refused says that the node takes no part in the metadata of the asker's zone
	// at present, so it must not be counted on for a quorum.
	Refused bool             `cbor:"2,keyasint,omitempty"`
	Asks    []cluster.NodeID `cbor:"3,keyasint,omitempty"` // whom it asks itself ...
	Missing []cluster.NodeID `cbor:"4,keyasint,omitempty"` // ... and who of them is missing
	// Recovered grows with every forced recovery of a metadata group of the node.
	Recovered uint64 `cbor:"5,keyasint,omitempty"`
}

// Encode makes the bytes of an answer.
func (a Answer) Encode() ([]byte, error) { return cbor.Marshal(a) }

// ParseAnswer reads what Encode made.
func ParseAnswer(b []byte) (Answer, error) {
	var a Answer
	if err := cbor.Unmarshal(b, &a); err != nil {
		return Answer{}, fmt.Errorf("%w: answer: %w", cluster.ErrInvalid, err)
	}
	if len(a.Asks) > MaxPeers || len(a.Missing) > MaxPeers {
		return Answer{}, fmt.Errorf("%w: answer about %d nodes, at most %d", cluster.ErrInvalid, max(len(a.Asks), len(a.Missing)), MaxPeers)
	}
	return a, nil
}
