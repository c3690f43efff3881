package index

import (
	"encoding/binary"
	"fmt"

	"bivalve/metadata"
)

// objectKey is bucket id, key.
func objectKey(bucket metadata.BucketID, key string) []byte {
	out := make([]byte, 0, len(bucket)+len(key))
	return append(append(out, bucket[:]...), key...)
}

// versionKey is bucket id, key, 0x00, then the time of the commit with every bit
// turned: the newest version of a key comes first.
func versionKey(bucket metadata.BucketID, key string, at int64) []byte {
	out := make([]byte, 0, len(bucket)+len(key)+1+8)
	out = append(append(out, bucket[:]...), key...)
	return binary.BigEndian.AppendUint64(append(out, 0), ^uint64(at))
}

// nameOf is the object key within a key of versions.
func nameOf(k []byte) string { return string(k[16 : len(k)-9]) }

// uploadKey is bucket id, key, 0x00, upload id.
func uploadKey(bucket metadata.BucketID, key string, id metadata.UploadID) []byte {
	out := make([]byte, 0, len(bucket)+len(key)+1+len(id))
	out = append(append(out, bucket[:]...), key...)
	return append(append(out, 0), id[:]...)
}

// partKey is upload id, part number.
func partKey(id metadata.UploadID, number int) []byte {
	return binary.BigEndian.AppendUint16(append(make([]byte, 0, 18), id[:]...), uint16(number))
}

// timeKey is a log time, then an id.
func timeKey(at int64, id []byte) []byte {
	return append(binary.BigEndian.AppendUint64(make([]byte, 0, 8+len(id)), uint64(at)), id...)
}

func parseRequestKey(raw []byte) (at int64, id metadata.RequestID, err error) {
	if len(raw) != 24 {
		return 0, id, fmt.Errorf("%w: request key of %d bytes", metadata.ErrMalformed, len(raw))
	}
	copy(id[:], raw[8:])
	return int64(binary.BigEndian.Uint64(raw)), id, nil
}

// successor is the least string that is greater than every string with the
// prefix p; nil when there is none.
func successor(p []byte) []byte {
	for i := len(p) - 1; i >= 0; i-- {
		if p[i] != 0xff {
			out := append([]byte(nil), p[:i+1]...)
			out[i]++
			return out
		}
	}
	return nil
}
