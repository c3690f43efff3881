package replica

import (
	"encoding/binary"
	"fmt"

	"github.com/zeebo/xxh3"
	"go.etcd.io/raft/v3/raftpb"
	"google.golang.org/protobuf/proto"
)

// Records of the bbolt log, described in FORMAT.md. Each ends or begins with a
// checksum that also covers where the record belongs, so that neither a flipped
// bit nor a page written to the wrong place passes for an entry.
const (
	recordVersion = 1
	entryHeader   = 1 + 1 + 8 + 8
	hardStateSize = 1 + 3*8 + 8
	markSize      = 1 + 8 + 8 + 4 + 8
	// markVersion: with the replica's id, where that is not the node's number.
	markVersion  = 2
	markSelfSize = markSize + 8
)

func entrySum(g GroupID, index uint64, head, data []byte) uint64 {
	var where [12]byte
	binary.BigEndian.PutUint32(where[:], uint32(g))
	binary.BigEndian.PutUint64(where[4:], index)
	h := xxh3.New()
	// A hash does not fail to write.
	_, _ = h.Write(where[:])
	_, _ = h.Write(head)
	_, _ = h.Write(data)
	return h.Sum64()
}

// encodeLogEntry: version, type, term, sum, data.
func encodeLogEntry(g GroupID, e *raftpb.Entry) []byte {
	b := make([]byte, 0, entryHeader+len(e.GetData()))
	b = append(b, recordVersion, byte(e.GetType()))
	b = binary.BigEndian.AppendUint64(b, e.GetTerm())
	b = binary.BigEndian.AppendUint64(b, entrySum(g, e.GetIndex(), b, e.GetData()))
	return append(b, e.GetData()...)
}

// decodeLogEntry copies the data out of b.
func decodeLogEntry(g GroupID, index uint64, b []byte) (*raftpb.Entry, error) {
	if len(b) < entryHeader {
		return nil, fmt.Errorf("group %d entry %d: %d bytes: %w", g, index, len(b), ErrCorrupt)
	}
	head, data := b[:10], b[entryHeader:]
	if entrySum(g, index, head, data) != binary.BigEndian.Uint64(b[10:]) {
		return nil, fmt.Errorf("group %d entry %d: checksum: %w", g, index, ErrCorrupt)
	}
	if b[0] != recordVersion {
		return nil, fmt.Errorf("group %d entry %d: version %d: %w", g, index, b[0], ErrFormat)
	}
	e := &raftpb.Entry{
		Type:  raftpb.EntryType(b[1]).Enum(),
		Term:  proto.Uint64(binary.BigEndian.Uint64(b[2:])),
		Index: proto.Uint64(index),
	}
	if len(data) > 0 {
		e.Data = append([]byte(nil), data...)
	}
	return e, nil
}

// sealed appends the sum of the group and all before it.
func sealed(g GroupID, b []byte) []byte {
	return binary.BigEndian.AppendUint64(b, entrySum(g, 0, b, nil))
}

func unseal(g GroupID, b []byte, size int, what string) error {
	return unsealAs(g, b, size, recordVersion, what)
}

func unsealAs(g GroupID, b []byte, size int, version byte, what string) error {
	if len(b) != size || entrySum(g, 0, b[:size-8], nil) != binary.BigEndian.Uint64(b[size-8:]) {
		return fmt.Errorf("group %d %s: %w", g, what, ErrCorrupt)
	}
	if b[0] != version {
		return fmt.Errorf("group %d %s: version %d: %w", g, what, b[0], ErrFormat)
	}
	return nil
}

func encodeHardState(g GroupID, hs *raftpb.HardState) []byte {
	b := append(make([]byte, 0, hardStateSize), recordVersion)
	b = binary.BigEndian.AppendUint64(b, hs.GetTerm())
	b = binary.BigEndian.AppendUint64(b, hs.GetVote())
	b = binary.BigEndian.AppendUint64(b, hs.GetCommit())
	return sealed(g, b)
}

func decodeHardState(g GroupID, b []byte) (*raftpb.HardState, error) {
	if err := unseal(g, b, hardStateSize, "hard state"); err != nil {
		return nil, err
	}
	return hardState(binary.BigEndian.Uint64(b[1:]), binary.BigEndian.Uint64(b[9:]), binary.BigEndian.Uint64(b[17:])), nil
}

func hardState(term, vote, commit uint64) *raftpb.HardState {
	return &raftpb.HardState{Term: proto.Uint64(term), Vote: proto.Uint64(vote), Commit: proto.Uint64(commit)}
}

func encodeMark(g GroupID, m Mark) []byte {
	b := append(make([]byte, 0, markSelfSize), recordVersion)
	b = binary.BigEndian.AppendUint64(b, m.Index)
	b = binary.BigEndian.AppendUint64(b, m.Term)
	b = binary.BigEndian.AppendUint32(b, m.Epoch)
	if m.Self != 0 {
		b[0] = markVersion
		b = binary.BigEndian.AppendUint64(b, uint64(m.Self))
	}
	return sealed(g, b)
}

func decodeMark(g GroupID, b []byte) (Mark, error) {
	size, version := markSize, byte(recordVersion)
	if len(b) == markSelfSize {
		size, version = markSelfSize, markVersion
	}
	if err := unsealAs(g, b, size, version, "mark"); err != nil {
		return Mark{}, err
	}
	m := Mark{
		Index: binary.BigEndian.Uint64(b[1:]),
		Term:  binary.BigEndian.Uint64(b[9:]),
		Epoch: binary.BigEndian.Uint32(b[17:]),
	}
	if size == markSelfSize {
		m.Self = ReplicaID(binary.BigEndian.Uint64(b[21:]))
	}
	return m, nil
}
