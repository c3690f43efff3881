package metadata

import (
	"encoding/binary"
	"fmt"
)

// CommandKind numbers the changes; numbers are part of the log format.
type CommandKind uint8

// Commands of the root group.
const (
	CmdCreateBucket CommandKind = 1 // Bucket -> Bucket
	CmdMarkBucket   CommandKind = 2 // BucketMark -> Bucket
	CmdDropBucket   CommandKind = 3 // BucketMark -> nothing
	CmdPutConfig    CommandKind = 4 // PutConfig -> revision
)

// Commands of a partition.
const (
	CmdPutVersion     CommandKind = 20 // PutVersion -> Committed
	CmdDeleteKey      CommandKind = 21 // DeleteKey -> nothing
	CmdCreateUpload   CommandKind = 22 // Upload -> nothing
	CmdPutPart        CommandKind = 23 // PutPart -> nothing
	CmdCompleteUpload CommandKind = 24 // CompleteUpload -> Committed
	CmdAbortUpload    CommandKind = 25 // UploadRef -> nothing
	CmdFenceBucket    CommandKind = 26 // Fence -> nothing, ErrBucketNotEmpty
	CmdDropGarbage    CommandKind = 27 // DropGarbage -> nothing
)

// commandVersion opens every command; a replica halts on one it does not know.
const commandVersion = 1

// commandHeader is version, kind, request id and time (big-endian Unix
// nanoseconds); the body follows.
const commandHeader = 1 + 1 + 16 + 8

// RequestID lets a command that is proposed twice apply once.
type RequestID [16]byte

// Command is one change as it travels through the log.
type Command struct {
	Kind    CommandKind
	Request RequestID
	Time    int64 // Unix nanoseconds by the proposer's clock; apply uses max(Time, last+1)
	Body    []byte
}

// NewCommand encodes a command ready to be proposed.
func NewCommand(kind CommandKind, request RequestID, unixNano int64, body any) ([]byte, error) {
	b, err := encode(body)
	if err != nil {
		return nil, fmt.Errorf("encode command %d: %w", kind, err)
	}
	out := make([]byte, commandHeader, commandHeader+len(b))
	out[0], out[1] = commandVersion, byte(kind)
	copy(out[2:18], request[:])
	binary.BigEndian.PutUint64(out[18:26], uint64(unixNano))
	return append(out, b...), nil
}

// ParseCommand splits what NewCommand made; the body aliases raw.
func ParseCommand(raw []byte) (Command, error) {
	if len(raw) < commandHeader {
		return Command{}, fmt.Errorf("%w: command of %d bytes", ErrMalformed, len(raw))
	}
	if raw[0] != commandVersion {
		return Command{}, fmt.Errorf("%w: command version %d", ErrUnsupportedCommand, raw[0])
	}
	c := Command{Kind: CommandKind(raw[1]), Time: int64(binary.BigEndian.Uint64(raw[18:26])), Body: raw[commandHeader:]}
	copy(c.Request[:], raw[2:18])
	return c, nil
}

// Decode reads the body into the struct that the kind names.
func (c Command) Decode(into any) error { return decode(c.Body, into) }

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
}

// Committed answers a command that made a version current.
type Committed struct {
	Modified int64 `cbor:"1,keyasint"` // Unix nanoseconds
}

// DeleteKey removes the current version; an absent key is success.
type DeleteKey struct {
	Bucket    BucketID  `cbor:"1,keyasint"`
	Key       string    `cbor:"2,keyasint"`
	Condition Condition `cbor:"3,keyasint,omitzero"`
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
