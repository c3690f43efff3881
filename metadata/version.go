package metadata

import (
	"encoding/base64"
	"encoding/binary"
)

// versionIDBytes are the time of the commit and 16 random bytes.
const versionIDBytes = 8 + 16

// Random is what the proposer adds to a version id, so that nobody can guess one.
type Random [16]byte

// NewVersionID names the version that was committed at a log time. The time in it
// finds the record; since log time only grows within a partition, no two versions
// of a key have the same.
func NewVersionID(at int64, random Random) string {
	raw := binary.BigEndian.AppendUint64(make([]byte, 0, versionIDBytes), uint64(at))
	return base64.RawURLEncoding.EncodeToString(append(raw, random[:]...))
}

// VersionTime is the log time in a version id; ok is false for whatever
// NewVersionID did not make, NullVersion included.
func VersionTime(id string) (at int64, ok bool) {
	raw, err := base64.RawURLEncoding.Strict().DecodeString(id)
	if err != nil || len(raw) != versionIDBytes {
		return 0, false
	}
	at = int64(binary.BigEndian.Uint64(raw))
	return at, at > 0
}

// Lock is what protects a version from being removed.
type Lock struct {
	Mode  LockMode `cbor:"1,keyasint,omitempty"` // "" = no retention
	Until int64    `cbor:"2,keyasint,omitempty"` // Unix nanoseconds
	Hold  bool     `cbor:"3,keyasint,omitempty"` // a legal hold
	// NoHold: a hold was lifted, or said not to be. It protects nothing, but S3 shows
	// OFF then, and nothing where a hold was never spoken of.
	NoHold bool `cbor:"4,keyasint,omitempty"`
}

// SetHold places or lifts a legal hold.
func (l *Lock) SetHold(on bool) { l.Hold, l.NoHold = on, !on }

// Holds tells whether the version must stay. now is the region's clock (0: not
// known, then nothing expires). What cannot be understood holds for good.
func (l Lock) Holds(now int64, bypassGovernance bool) bool {
	switch {
	case l.Hold:
		return true
	case l.Mode == "":
		return false
	case l.Mode != Governance && l.Mode != Compliance, now <= 0:
		return true
	case l.Mode == Governance && bypassGovernance:
		return false
	}
	return now < l.Until
}

// Admits tells whether the retention may become that of to: it may always be made
// longer; shorter, weaker or none only once it is over, or under governance with
// the right to bypass it.
func (l Lock) Admits(to Lock, now int64, bypassGovernance bool) bool {
	l.Hold = false // a hold does not stand in the way of a retention
	if !l.Holds(now, bypassGovernance) {
		return true
	}
	return to.Mode == l.Mode && to.Until >= l.Until
}
