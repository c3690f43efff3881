package metadata

import (
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/fxamacker/cbor/v2"
)

// CommandKind numbers the changes; numbers are part of the log format.
type CommandKind uint8

// Commands of the root group.
const (
	CmdCreateBucket    CommandKind = 1 // Bucket -> Bucket
	CmdMarkBucket      CommandKind = 2 // BucketMark -> Bucket
	CmdDropBucket      CommandKind = 3 // BucketMark -> nothing
	CmdPutConfig       CommandKind = 4 // PutConfig -> revision
	CmdConfigureBucket CommandKind = 5 // ConfigureBucket -> Bucket
	CmdSpreadBucket    CommandKind = 6 // SpreadBucket -> nothing
	CmdReportClock     CommandKind = 7 // ClockReport -> nothing
)

// CmdForgetBucket is a command of every group: Forgotten -> nothing.
const CmdForgetBucket CommandKind = 50

// Commands of a partition.
const (
	CmdPutVersion     CommandKind = 20 // PutVersion -> Committed
	CmdDeleteKey      CommandKind = 21 // DeleteKey -> Deleted
	CmdCreateUpload   CommandKind = 22 // Upload -> nothing
	CmdPutPart        CommandKind = 23 // PutPart -> nothing
	CmdCompleteUpload CommandKind = 24 // CompleteUpload -> Committed
	CmdAbortUpload    CommandKind = 25 // UploadRef -> nothing
	CmdFenceBucket    CommandKind = 26 // Fence -> nothing, ErrBucketNotEmpty
	CmdDropGarbage    CommandKind = 27 // DropGarbage -> nothing
	CmdMarkShards     CommandKind = 28 // MarkShards -> BlobStates, one for each mark that was done
	CmdSetRules       CommandKind = 30 // SetRules -> nothing
	CmdAmendVersion   CommandKind = 31 // AmendVersion -> Committed
	CmdExpireVersions CommandKind = 32 // ExpireVersions -> Expired
)

// Commands of a partition about copies: the first three where blobs are held, the
// others where copies of them live.
const (
	CmdAddReference      CommandKind = 40 // AddReference -> Added
	CmdDropReferences    CommandKind = 41 // RefIDs -> Dropped
	CmdConfirmReferences CommandKind = 42 // RefIDs -> nothing
	CmdJudgeReferences   CommandKind = 43 // JudgeReferences -> RefStates
	CmdDropReleases      CommandKind = 44 // DropReleases -> nothing
)

// Commands of a partition after forced recoveries: of the one that was recovered, where
// blobs are held, and where copies of them live.
const (
	CmdRecovered        CommandKind = 45 // Recovered -> nothing
	CmdAssertReferences CommandKind = 46 // AssertReferences -> Asserted
	CmdDoubtReferences  CommandKind = 47 // DoubtReferences -> Doubted
	CmdFenceHome        CommandKind = 48 // FenceHome -> nothing
	CmdToldHome         CommandKind = 49 // ToldHome -> nothing
)

// Level counts the rules of apply: it is raised by one with every release that brings a
// new kind of command, a new field of one, or anything else that makes apply come to
// another result. Every command says by which level it is to be applied, and that is the
// least one that all nodes have reported (RegionClock), so that replicas of different
// versions of the program come to the same state. What a later level brought is proposed,
// and done in apply, from that level on; a replica halts its group on a command of a level
// that it does not have.
const Level uint8 = 1

// commandHeader is level, kind, request id and time (big-endian Unix
// nanoseconds); the body follows.
const commandHeader = 1 + 1 + 16 + 8

// RequestID lets a command that is proposed twice apply once.
type RequestID [16]byte

// Command is one change as it travels through the log.
type Command struct {
	Level   uint8 // 1..Level
	Kind    CommandKind
	Request RequestID
	Time    int64 // Unix nanoseconds by the proposer's clock; apply uses max(Time, last+1)
	Body    []byte
}

// NewCommand encodes a command ready to be proposed.
func NewCommand(level uint8, kind CommandKind, request RequestID, unixNano int64, body any) ([]byte, error) {
	b, err := encode(body)
	if err != nil {
		return nil, fmt.Errorf("encode command %d: %w", kind, err)
	}
	out := make([]byte, commandHeader, commandHeader+len(b))
	out[0], out[1] = level, byte(kind)
	copy(out[2:18], request[:])
	binary.BigEndian.PutUint64(out[18:26], uint64(unixNano))
	return append(out, b...), nil
}

// ParseCommand splits what NewCommand made; the body aliases raw.
func ParseCommand(raw []byte) (Command, error) {
	if len(raw) < commandHeader {
		return Command{}, fmt.Errorf("%w: command of %d bytes", ErrMalformed, len(raw))
	}
	if raw[0] < 1 || raw[0] > Level {
		return Command{}, fmt.Errorf("%w: a command of level %d, this program has level %d", ErrUnsupportedCommand, raw[0], Level)
	}
	c := Command{Level: raw[0], Kind: CommandKind(raw[1]), Time: int64(binary.BigEndian.Uint64(raw[18:26])), Body: raw[commandHeader:]}
	copy(c.Request[:], raw[2:18])
	return c, nil
}

// Decode reads the body into the struct that the kind names. A field that this program
// does not know is ErrUnsupportedCommand: passed over, it would do something else here
// than on other replicas.
func (c Command) Decode(into any) error {
	err := strictMode.Unmarshal(c.Body, into)
	var unknown *cbor.UnknownFieldError
	switch {
	case err == nil:
		return nil
	case errors.As(err, &unknown):
		return fmt.Errorf("%w: command %d: %v", ErrUnsupportedCommand, c.Kind, err)
	}
	return fmt.Errorf("%w: %v", ErrMalformed, err)
}

// BucketMark names a bucket by both name and id, so that a late command cannot
// touch a bucket made again under the same name.
type BucketMark struct {
	Name string   `cbor:"1,keyasint"`
	ID   BucketID `cbor:"2,keyasint"`
	Mark bool     `cbor:"3,keyasint,omitempty"` // set or clear Deleting
	// Attempt is the Deleting mark that a clear or a drop belongs to; ErrConflict
	// if another one stands. Setting a mark that stands already is ErrConflict
	// too, unless Attempt names it: that takes an interrupted deletion over.
	Attempt int64 `cbor:"4,keyasint,omitempty"`
}

// PutConfig replaces one configuration value of the region. Value is opaque
// here. Expect is the revision that must be there (0: the key is absent); with
// Any it is not looked at. ErrConflict otherwise.
type PutConfig struct {
	Key    string `cbor:"1,keyasint"`
	Value  []byte `cbor:"2,keyasint"`
	Expect uint64 `cbor:"3,keyasint,omitempty"`
	Any    bool   `cbor:"4,keyasint,omitempty"`
}

// ConfigValue is one configuration value with its revision (a log time).
type ConfigValue struct {
	Key      string `cbor:"1,keyasint"`
	Value    []byte `cbor:"2,keyasint"`
	Revision uint64 `cbor:"3,keyasint"`
}

// PutVersion makes a version current.
type PutVersion struct {
	Version   Version   `cbor:"1,keyasint"`
	Condition Condition `cbor:"2,keyasint,omitzero"`
	Random    Random    `cbor:"3,keyasint,omitzero"`  // for the version id, if there is to be one
	Clock     int64     `cbor:"4,keyasint,omitempty"` // see DeleteKey
}

// Committed answers a command that made a version current.
type Committed struct {
	Modified int64  `cbor:"1,keyasint"` // Unix nanoseconds
	ID       string `cbor:"2,keyasint,omitempty"`
}

// DeleteKey without a Version removes the current version of a bucket that is not
// versioned; in one that is it puts a delete marker in front. With a Version it
// removes that version, unless its lock holds: ErrLocked. What is not there is
// success.
type DeleteKey struct {
	Bucket    BucketID  `cbor:"1,keyasint"`
	Key       string    `cbor:"2,keyasint"`
	Condition Condition `cbor:"3,keyasint,omitzero"`
	Version   string    `cbor:"4,keyasint,omitempty"`
	Bypass    bool      `cbor:"5,keyasint,omitempty"` // of governance
	Random    Random    `cbor:"6,keyasint,omitzero"`
	// Clock is the region's clock as the proposer knew it, by which locks expire:
	// never the clock of one node. 0: not known.
	Clock int64 `cbor:"7,keyasint,omitempty"`
}

// Deleted answers it: the version that was removed, or the marker that was made.
// Marker is whether the version is a delete marker.
type Deleted struct {
	ID     string `cbor:"1,keyasint,omitempty"`
	Marker bool   `cbor:"2,keyasint,omitempty"`
}

// AmendVersion changes what is said about a version and not what it is. Version ""
// is the current one. ErrNoObjectLock, ErrLocked, ErrIsMarker.
type AmendVersion struct {
	Bucket    BucketID          `cbor:"1,keyasint"`
	Key       string            `cbor:"2,keyasint"`
	Version   string            `cbor:"3,keyasint,omitempty"`
	SetTags   bool              `cbor:"4,keyasint,omitempty"`
	Tags      map[string]string `cbor:"5,keyasint,omitempty"`
	Retention *Lock             `cbor:"6,keyasint,omitempty"` // its Hold is not looked at
	Hold      *bool             `cbor:"7,keyasint,omitempty"`
	Bypass    bool              `cbor:"8,keyasint,omitempty"` // of governance
	Clock     int64             `cbor:"9,keyasint,omitempty"` // see DeleteKey
}

// UploadRef names an upload by its place and id.
type UploadRef struct {
	Bucket BucketID `cbor:"1,keyasint"`
	Key    string   `cbor:"2,keyasint"`
	ID     UploadID `cbor:"3,keyasint"`
}

// PutPart stores one part of an upload.
type PutPart struct {
	Upload UploadRef `cbor:"1,keyasint"`
	Part   Part      `cbor:"2,keyasint"`
}

// CompleteUpload turns the parts of Version into its object, if each is still
// the part that the upload holds.
type CompleteUpload struct {
	Upload    UploadID  `cbor:"1,keyasint"`
	Version   Version   `cbor:"2,keyasint"`
	Condition Condition `cbor:"3,keyasint,omitzero"`
	Random    Random    `cbor:"4,keyasint,omitzero"`
	Clock     int64     `cbor:"5,keyasint,omitempty"`
}

// Fence closes a bucket in one partition if it is empty there (no object, no
// upload); with Lift it opens it again. Attempt is the Deleting mark of the
// deletion that asks. One that comes late, after a newer attempt or after its own
// lift, is ErrConflict: it must not close a bucket that lives on.
type Fence struct {
	Bucket  BucketID `cbor:"1,keyasint"`
	Lift    bool     `cbor:"2,keyasint,omitempty"`
	Attempt int64    `cbor:"3,keyasint,omitempty"`
}

// Forgotten is a bucket that was dropped so long ago that no command for it can be
// under way: what a group keeps of it, its fence and its rules, can go.
type Forgotten struct {
	Bucket BucketID `cbor:"1,keyasint"`
}

// DropGarbage forgets garbage whose shards have been removed.
type DropGarbage struct {
	Items []GarbageID `cbor:"1,keyasint"`
}

// GarbageID is the place of an item in the partition's queue: log time, number.
type GarbageID [10]byte

// Garbage is a blob that no version references any more.
type Garbage struct {
	ID   GarbageID `cbor:"1,keyasint"`
	Blob Blob      `cbor:"2,keyasint"`
}

// QueuedAt is when the blob became garbage, in Unix nanoseconds of log time.
func (g GarbageID) QueuedAt() int64 { return int64(binary.BigEndian.Uint64(g[:8])) }
