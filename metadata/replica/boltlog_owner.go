package replica

import (
	"encoding/binary"
	"fmt"

	bolt "go.etcd.io/bbolt"
)

// The owner of a log file. Version 1 carried no sum and is rewritten.
const (
	ownerVersion = 2
	ownerSize    = 1 + 8 + 8
)

func encodeOwner(id ReplicaID) []byte {
	return sealed(0, binary.BigEndian.AppendUint64([]byte{ownerVersion}, uint64(id)))
}

// decodeOwner is zero if there is none.
func decodeOwner(b []byte) (ReplicaID, error) {
	switch {
	case b == nil:
		return 0, nil
	case len(b) == 9 && b[0] == 1:
		return ReplicaID(binary.BigEndian.Uint64(b[1:])), nil
	case len(b) != ownerSize || entrySum(0, 0, b[:9], nil) != binary.BigEndian.Uint64(b[9:]):
		return 0, fmt.Errorf("raft log owner: %w", ErrCorrupt)
	case b[0] != ownerVersion:
		return 0, fmt.Errorf("raft log owner: version %d: %w", b[0], ErrFormat)
	}
	return ReplicaID(binary.BigEndian.Uint64(b[1:])), nil
}

// Claim implements LogStore. A log of groups but without an owner has lost records.
func (l *BoltLog) Claim(id ReplicaID) error {
	var stored []byte
	err := l.db.View(func(tx *bolt.Tx) error {
		if b := tx.Bucket(metaBucket); b != nil {
			stored = append([]byte(nil), b.Get(keyReplica)...)
		}
		return nil
	})
	if err != nil {
		return err
	}
	if len(stored) == 0 {
		stored = nil
	}
	have, err := decodeOwner(stored)
	switch {
	case err != nil:
		return err
	case have != 0 && have != id:
		return fmt.Errorf("raft log belongs to replica %d, not to %d", have, id)
	case have == 0 && len(l.groups) > 0:
		return fmt.Errorf("raft log owner is missing: %w", ErrCorrupt)
	case have == id && stored[0] == ownerVersion:
		return nil // nothing to write: a full disk does not matter here
	}
	return l.db.Update(func(tx *bolt.Tx) error {
		b, err := tx.CreateBucketIfNotExists(metaBucket)
		if err != nil {
			return err
		}
		return b.Put(keyReplica, encodeOwner(id))
	})
}
