package checksum

import (
	"encoding/binary"
	"hash/crc32"
	"math/bits"
)

// Part is one piece of an object.
type Part struct {
	Value string // base64
	Bytes int64
}

// crc64Poly is the reflected polynomial of CRC64NVME.
const crc64Poly = 0x9a6c9329ac4bc9b5

// matrix is a linear map over GF(2): column i is the image of bit i.
type matrix [64]uint64

func (m *matrix) times(v uint64) uint64 {
	var sum uint64
	for v != 0 {
		sum ^= m[bits.TrailingZeros64(v)]
		v &= v - 1
	}
	return sum
}

func (m *matrix) square() *matrix {
	var out matrix
	for i := range out {
		out[i] = m.times(m[i])
	}
	return &out
}

// zeroByte is the map that appends one zero byte to what a reflected CRC of
// width bits has seen (without its initial and final inversion).
func zeroByte(poly uint64, width int) *matrix {
	var bit matrix
	bit[0] = poly
	for i := 1; i < width; i++ {
		bit[i] = 1 << (i - 1)
	}
	return bit.square().square().square()
}

// FullObject combines the CRCs of consecutive parts into that of the whole: the
// CRC of a then b is the CRC of a carried over len(b) zero bytes, xor that of b.
func FullObject(algorithm string, parts []Part) (string, error) {
	var poly uint64
	width := Size(algorithm) * 8
	switch algorithm {
	case CRC32:
		poly = crc32.IEEE
	case CRC32C:
		poly = crc32.Castagnoli
	case CRC64NVME:
		poly = crc64Poly
	default:
		return "", ErrUnknown
	}
	powers := []*matrix{zeroByte(poly, width)} // powers[i] appends 2^i zero bytes
	var sum uint64
	for _, p := range parts {
		raw, err := Decode(algorithm, p.Value)
		if err != nil {
			return "", err
		}
		for i, n := 0, p.Bytes; n > 0; i, n = i+1, n>>1 {
			if i == len(powers) {
				powers = append(powers, powers[i-1].square())
			}
			if n&1 == 1 {
				sum = powers[i].times(sum)
			}
		}
		sum ^= number(raw)
	}
	var out [8]byte
	binary.BigEndian.PutUint64(out[:], sum)
	return Encode(out[8-width/8:]), nil
}

func number(raw []byte) uint64 {
	if len(raw) == 4 {
		return uint64(binary.BigEndian.Uint32(raw))
	}
	return binary.BigEndian.Uint64(raw)
}
