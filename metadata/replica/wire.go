package replica

import (
	"encoding/binary"
	"fmt"

	"go.etcd.io/raft/v3/raftpb"
	"google.golang.org/protobuf/proto"
)

// Formats of the wire and of entries; FORMAT.md describes them.
const (
	packVersion  = 1
	entryVersion = 1
	headVersion  = 1

	entryPrefix = 1 + 8 + 8
	packPrefix  = 4 + 4 + 4
	// packBytes closes a payload: more messages start the next one.
	packBytes = 4 << 20
	// maxCommand bounds an entry, so that a payload stays below packBytes and two
	// of these: what the transport must be able to carry.
	maxCommand = 4 << 20
)

// groupMessage is one raft message and the group that it belongs to.
type groupMessage struct {
	group GroupID
	epoch uint32
	bytes int
	msg   *raftpb.Message
}

// appendMessage adds one message to a payload; an empty payload starts a new one.
func appendMessage(payload []byte, g GroupID, epoch uint32, m *raftpb.Message) ([]byte, error) {
	if len(payload) == 0 {
		payload = append(payload, packVersion)
	}
	payload = binary.BigEndian.AppendUint32(payload, uint32(g))
	payload = binary.BigEndian.AppendUint32(payload, epoch)
	at := len(payload)
	payload = append(payload, 0, 0, 0, 0)
	payload, err := proto.MarshalOptions{}.MarshalAppend(payload, m)
	if err != nil {
		return nil, fmt.Errorf("marshal raft message: %w", err)
	}
	binary.BigEndian.PutUint32(payload[at:], uint32(len(payload)-at-4))
	return payload, nil
}

// parseMessages reads a whole payload or fails; nothing points into it after.
func parseMessages(payload []byte) ([]groupMessage, error) {
	if len(payload) == 0 || payload[0] != packVersion {
		return nil, fmt.Errorf("raft payload: %w", ErrFormat)
	}
	var out []groupMessage
	for rest := payload[1:]; len(rest) > 0; {
		if len(rest) < packPrefix {
			return nil, fmt.Errorf("raft payload: short message header: %w", ErrFormat)
		}
		n := uint64(binary.BigEndian.Uint32(rest[8:]))
		if n > uint64(len(rest)-packPrefix) {
			return nil, fmt.Errorf("raft payload: message of %d bytes in %d: %w", n, len(rest)-packPrefix, ErrFormat)
		}
		gm := groupMessage{
			group: GroupID(binary.BigEndian.Uint32(rest)),
			epoch: binary.BigEndian.Uint32(rest[4:]),
			bytes: int(n),
			msg:   &raftpb.Message{},
		}
		if err := proto.Unmarshal(rest[packPrefix:packPrefix+n], gm.msg); err != nil {
			return nil, fmt.Errorf("raft payload: %w: %w", ErrFormat, err)
		}
		out = append(out, gm)
		rest = rest[packPrefix+n:]
	}
	return out, nil
}

// encodeEntry puts the id before a command: by it the proposing host finds who waits.
func encodeEntry(by ReplicaID, seq uint64, command []byte) []byte {
	b := make([]byte, 0, entryPrefix+len(command))
	b = append(b, entryVersion)
	b = binary.BigEndian.AppendUint64(b, uint64(by))
	b = binary.BigEndian.AppendUint64(b, seq)
	return append(b, command...)
}

// decodeEntry splits what encodeEntry made. The command shares its memory.
func decodeEntry(data []byte) (by ReplicaID, seq uint64, command []byte, err error) {
	if len(data) < entryPrefix || data[0] != entryVersion {
		return 0, 0, nil, fmt.Errorf("entry: %w", ErrFormat)
	}
	return ReplicaID(binary.BigEndian.Uint64(data[1:])), binary.BigEndian.Uint64(data[9:]), data[entryPrefix:], nil
}

// encodeContext is the id of a read or of a membership change.
func encodeContext(by ReplicaID, seq uint64) []byte {
	b := binary.BigEndian.AppendUint64(make([]byte, 0, 16), uint64(by))
	return binary.BigEndian.AppendUint64(b, seq)
}

// decodeContext reports whether the context is one of ours.
func decodeContext(b []byte, self ReplicaID) (seq uint64, ours bool) {
	if len(b) != 16 || ReplicaID(binary.BigEndian.Uint64(b)) != self {
		return 0, false
	}
	return binary.BigEndian.Uint64(b[8:]), true
}

// encodeHead announces a snapshot: the raft message that it belongs to.
func encodeHead(g GroupID, epoch uint32, m *raftpb.Message) ([]byte, error) {
	b := []byte{headVersion}
	b = binary.BigEndian.AppendUint32(b, uint32(g))
	b = binary.BigEndian.AppendUint32(b, epoch)
	b, err := proto.MarshalOptions{}.MarshalAppend(b, m)
	if err != nil {
		return nil, fmt.Errorf("marshal snapshot message: %w", err)
	}
	return b, nil
}

func decodeHead(b []byte) (groupMessage, error) {
	if len(b) < 9 || b[0] != headVersion {
		return groupMessage{}, fmt.Errorf("snapshot head: %w", ErrFormat)
	}
	gm := groupMessage{
		group: GroupID(binary.BigEndian.Uint32(b[1:])),
		epoch: binary.BigEndian.Uint32(b[5:]),
		msg:   &raftpb.Message{},
	}
	if err := proto.Unmarshal(b[9:], gm.msg); err != nil {
		return groupMessage{}, fmt.Errorf("snapshot head: %w: %w", ErrFormat, err)
	}
	if gm.msg.GetType() != raftpb.MsgSnap || gm.msg.GetSnapshot().GetMetadata().GetIndex() == 0 {
		return groupMessage{}, fmt.Errorf("snapshot head: not a snapshot message: %w", ErrFormat)
	}
	return gm, nil
}
