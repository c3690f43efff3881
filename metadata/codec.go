package metadata

import (
	"encoding/binary"
	"fmt"

	"github.com/fxamacker/cbor/v2"
)

// Records and commands are CBOR (RFC 8949) in its deterministic form, so that
// every replica writes the same bytes; field numbers are never used again.
var (
	encMode    = mustMode(cbor.CoreDetEncOptions().EncMode())
	decMode    = mustMode(decOptions.DecMode())
	strictMode = mustMode(strict(decOptions).DecMode())
)

var decOptions = cbor.DecOptions{
	DupMapKey:        cbor.DupMapKeyEnforcedAPF,
	MaxNestedLevels:  16,
	MaxArrayElements: 128 << 10,
	MaxMapPairs:      16 << 10,
	IndefLength:      cbor.IndefLengthForbidden,
	TagsMd:           cbor.TagsForbidden,
}

// strict makes fields that are not known an error.
func strict(o cbor.DecOptions) cbor.DecOptions {
	o.ExtraReturnErrors = cbor.ExtraDecErrorUnknownField
	return o
}

// mustMode panics on a broken law only: the options above are constants.
func mustMode[M any](m M, err error) M {
	if err != nil {
		panic(err)
	}
	return m
}

func encode(v any) ([]byte, error) { return encMode.Marshal(v) }

func decode(raw []byte, v any) error {
	if err := decMode.Unmarshal(raw, v); err != nil {
		return fmt.Errorf("%w: %v", ErrMalformed, err)
	}
	return nil
}

// recordVersion opens every stored version and upload record.
const recordVersion = 1

// summary is the part of a version record that a listing needs; it comes first
// so that a listing does not decode the rest.
type summary struct {
	Modified     int64             `cbor:"1,keyasint"`
	Bytes        int64             `cbor:"2,keyasint"`
	ETag         string            `cbor:"3,keyasint"`
	StorageClass string            `cbor:"4,keyasint,omitempty"`
	Checksum     Checksum          `cbor:"5,keyasint,omitzero"`
	DeleteMarker bool              `cbor:"6,keyasint,omitempty"`
	ID           string            `cbor:"7,keyasint,omitempty"` // "" = NullVersion
	Tags         map[string]string `cbor:"8,keyasint,omitempty"`
}

type detail struct {
	ID         string     `cbor:"1,keyasint"` // as in the summary, which once had none
	Attributes Attributes `cbor:"2,keyasint"`
	Parts      []Part     `cbor:"3,keyasint,omitempty"`
	Inline     []byte     `cbor:"4,keyasint,omitempty"`
	Lock       Lock       `cbor:"5,keyasint,omitzero"`
}

// EncodeVersion makes the stored record of a version: version byte, CBOR of the
// summary, CBOR of the rest. Bucket and key are the record's place, not in it.
func EncodeVersion(v *Version) ([]byte, error) {
	s := summary{v.Modified, v.Bytes, v.ETag, v.Attributes.StorageClass, v.Checksum, v.DeleteMarker, v.ID, v.Tags}
	if s.ID == NullVersion {
		s.ID = ""
	}
	head, err := encode(s)
	if err != nil {
		return nil, fmt.Errorf("encode version: %w", err)
	}
	attributes := v.Attributes
	attributes.StorageClass = ""
	rest, err := encode(detail{v.ID, attributes, v.Parts, v.Inline, v.Lock})
	if err != nil {
		return nil, fmt.Errorf("encode version: %w", err)
	}
	out := make([]byte, 0, 1+len(head)+len(rest))
	out = append(out, recordVersion)
	out = append(out, head...)
	return append(out, rest...), nil
}

// DecodeVersion reads what EncodeVersion wrote for that bucket and key.
func DecodeVersion(bucket BucketID, key string, raw []byte) (Version, error) {
	s, rest, err := decodeSummary(raw)
	if err != nil {
		return Version{}, err
	}
	var d detail
	if err := decode(rest, &d); err != nil {
		return Version{}, fmt.Errorf("version of %q: %w", key, err)
	}
	d.Attributes.StorageClass = s.StorageClass
	return Version{
		Bucket: bucket, Key: key, ID: d.ID, Modified: s.Modified, Bytes: s.Bytes, ETag: s.ETag,
		Checksum: s.Checksum, Attributes: d.Attributes, Parts: d.Parts, Inline: d.Inline, DeleteMarker: s.DeleteMarker,
		Tags: s.Tags, Lock: d.Lock,
	}, nil
}

// DecodeSummary reads the listing row of a version record.
func DecodeSummary(key string, raw []byte) (ObjectSummary, error) {
	s, _, err := decodeSummary(raw)
	if err != nil {
		return ObjectSummary{}, err
	}
	o := ObjectSummary{Key: key, Bytes: s.Bytes, ETag: s.ETag, Modified: s.Modified,
		StorageClass: s.StorageClass, Checksum: s.Checksum, VersionID: s.ID, DeleteMarker: s.DeleteMarker, Tags: s.Tags}
	if o.VersionID == "" {
		o.VersionID = NullVersion
	}
	return o, nil
}

func decodeSummary(raw []byte) (summary, []byte, error) {
	var s summary
	if len(raw) == 0 || raw[0] != recordVersion {
		return s, nil, fmt.Errorf("%w: version record of an unknown format", ErrMalformed)
	}
	rest, err := decMode.UnmarshalFirst(raw[1:], &s)
	if err != nil {
		return s, nil, fmt.Errorf("%w: %v", ErrMalformed, err)
	}
	return s, rest, nil
}

// SummaryOnly cuts a version record down to what DecodeSummary needs.
func SummaryOnly(raw []byte) ([]byte, error) {
	_, rest, err := decodeSummary(raw)
	if err != nil {
		return nil, err
	}
	return raw[:len(raw)-len(rest)], nil
}

// EncodeResult makes the answer to a command or query: a big-endian error code
// (0 = done), then the payload, or the error's text.
func EncodeResult(payload []byte, err error) []byte {
	var code uint16
	if err != nil {
		code, payload = codeOf(err), []byte(err.Error())
		if code == 0 {
			code = codeOther
		}
	}
	out := make([]byte, 2, 2+len(payload))
	binary.BigEndian.PutUint16(out, code)
	return append(out, payload...)
}

// codeOther is an error without a sentinel of its own.
const codeOther = 0xffff

// DecodeResult splits what EncodeResult made. The error is the sentinel itself.
func DecodeResult(raw []byte) ([]byte, error) {
	if len(raw) < 2 {
		return nil, fmt.Errorf("%w: result of %d bytes", ErrMalformed, len(raw))
	}
	switch code := binary.BigEndian.Uint16(raw); code {
	case 0:
		return raw[2:], nil
	default:
		if err := errorOf(code); err != nil {
			return nil, err
		}
		return nil, fmt.Errorf("metadata: %s", raw[2:])
	}
}
