package transport

import (
	"encoding/binary"
	"fmt"

	"github.com/zeebo/xxh3"
)

// Limits of one frame; a longer one is refused before memory is set aside.
const (
	MaxHeadBytes   = 1 << 20
	MaxBodyBytes   = 40 << 20 // the shards of one chunk for one node
	MaxMetaBytes   = 16 << 20 // a metadata call or a raft message
	MaxStreamBytes = 1 << 20  // one piece of a stream

	headerBytes = 64
	wireVersion = 1
	wireMagic   = 0x31545642 // "BVT1"
)

// Kind says what a call is. 1..15 are the shard calls of this package; other
// packages take theirs from KindFirstFree on; 0x100 and up are metadata methods.
type Kind uint16

const (
	kindAppend Kind = 1
	kindRead   Kind = 2
	kindDelete Kind = 3
	kindList   Kind = 4
	kindRelay  Kind = 5
	kindRaft   Kind = 16
	// KindFirstFree to KindLastFree are for Server.Handle and HandleStream.
	KindFirstFree Kind = 0x40
	KindLastFree  Kind = 0xff
	kindMeta      Kind = 0x100 // + method
)

// blockSummed kinds carry the checksums of their body's blocks in the head.
func (k Kind) blockSummed() bool { return k == kindAppend || k == kindRead }

func (k Kind) isMeta() bool { return k >= kindMeta && k < kindMeta+256 }

func (k Kind) maxBody() uint32 {
	if k.isMeta() || k == kindRaft {
		return MaxMetaBytes
	}
	return MaxBodyBytes
}

type frameType uint8

const (
	frameHello    frameType = 1 // client: pool, and whether it wants the clear
	frameWelcome  frameType = 2 // server: agreed, or an error
	frameRequest  frameType = 3
	frameResponse frameType = 4
	frameMessage  frameType = 5 // one way: raft
	frameChunk    frameType = 6 // a piece of a stream
	frameEnd      frameType = 7 // the end of a stream, with its checksum
)

const (
	flagError   uint16 = 1 << 0 // the head is an error record
	flagBodySum uint16 = 1 << 1 // BodySum is set and must hold
	flagPlain   uint16 = 1 << 2 // in hello and welcome: go on in the clear
	flagsKnown         = flagError | flagBodySum | flagPlain
)

// header is the fixed start of every frame; FORMAT.md has the offsets.
type header struct {
	Type             frameType
	Kind             Kind
	Flags            uint16
	HeadLen, BodyLen uint32
	TimeoutMs        uint32 // how long the caller will wait; 0: not said
	ID               uint64 // of the request, repeated in its response
	Epoch            uint64
	HeadSum, BodySum uint64
}

// put writes the header into b[:headerBytes].
func (h *header) put(b []byte) {
	le := binary.LittleEndian
	le.PutUint32(b[0:], wireMagic)
	b[4], b[5] = wireVersion, byte(h.Type)
	le.PutUint16(b[6:], uint16(h.Kind))
	le.PutUint16(b[8:], h.Flags)
	le.PutUint16(b[10:], 0)
	le.PutUint32(b[12:], h.HeadLen)
	le.PutUint32(b[16:], h.BodyLen)
	le.PutUint32(b[20:], h.TimeoutMs)
	le.PutUint64(b[24:], h.ID)
	le.PutUint64(b[32:], h.Epoch)
	le.PutUint64(b[40:], h.HeadSum)
	le.PutUint64(b[48:], h.BodySum)
	le.PutUint64(b[56:], xxh3.Hash(b[:56]))
}

// parseHeader reads b[:headerBytes] and refuses whatever this version of the
// protocol would not have written.
func parseHeader(b []byte) (header, error) {
	le := binary.LittleEndian
	if len(b) < headerBytes {
		return header{}, fmt.Errorf("%w: header of %d bytes", ErrFrame, len(b))
	}
	if m := le.Uint32(b); m != wireMagic {
		return header{}, fmt.Errorf("%w: magic %08x", ErrFrame, m)
	}
	if b[4] != wireVersion {
		return header{}, fmt.Errorf("%w: protocol version %d, want %d", ErrFrame, b[4], wireVersion)
	}
	if le.Uint64(b[56:]) != xxh3.Hash(b[:56]) {
		return header{}, fmt.Errorf("%w: header checksum", ErrFrame)
	}
	h := header{
		Type: frameType(b[5]), Kind: Kind(le.Uint16(b[6:])), Flags: le.Uint16(b[8:]),
		HeadLen: le.Uint32(b[12:]), BodyLen: le.Uint32(b[16:]), TimeoutMs: le.Uint32(b[20:]),
		ID: le.Uint64(b[24:]), Epoch: le.Uint64(b[32:]),
		HeadSum: le.Uint64(b[40:]), BodySum: le.Uint64(b[48:]),
	}
	maxBody := h.Kind.maxBody()
	switch h.Type {
	case frameHello, frameWelcome, frameEnd:
		maxBody = 0
	case frameChunk:
		maxBody = MaxStreamBytes
	case frameRequest, frameResponse, frameMessage:
	default:
		return header{}, fmt.Errorf("%w: type %d", ErrFrame, h.Type)
	}
	switch {
	case h.Flags&^flagsKnown != 0 || le.Uint16(b[10:]) != 0:
		return header{}, fmt.Errorf("%w: unknown flags %04x", ErrFrame, h.Flags)
	case h.HeadLen > MaxHeadBytes:
		return header{}, fmt.Errorf("%w: head of %d bytes, at most %d", ErrFrame, h.HeadLen, MaxHeadBytes)
	case h.BodyLen > maxBody:
		return header{}, fmt.Errorf("%w: body of %d bytes, at most %d", ErrFrame, h.BodyLen, maxBody)
	}
	return h, nil
}

// sumPieces is the XXH3-64 of the pieces laid end to end.
func sumPieces(pieces [][]byte) uint64 {
	switch len(pieces) {
	case 0:
		return 0
	case 1:
		return xxh3.Hash(pieces[0])
	}
	h := xxh3.New()
	for _, p := range pieces {
		_, _ = h.Write(p) // a hash never fails
	}
	return h.Sum64()
}

func totalLen(pieces [][]byte) int {
	n := 0
	for _, p := range pieces {
		n += len(p)
	}
	return n
}
