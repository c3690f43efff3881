package replica

import (
	"errors"
	"fmt"

	bolt "go.etcd.io/bbolt"
	berrors "go.etcd.io/bbolt/errors"
)

// Drop implements LogStore.
func (l *BoltLog) Drop(id GroupID) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.broken != nil {
		return l.broken
	}
	err := l.tryDrop(id)
	if err != nil {
		l.broken = fmt.Errorf("raft log: drop group %d: %w", id, err)
		return l.broken
	}
	delete(l.groups, id)
	return nil
}

func (l *BoltLog) tryDrop(id GroupID) (err error) {
	defer func() { l.stuck = l.stuck || errors.Is(err, ErrCorrupt) }()
	defer guardLog(&err)()
	return l.update(func(tx *bolt.Tx) error {
		if err := tx.DeleteBucket(bucketName(id)); err != nil && !errors.Is(err, berrors.ErrBucketNotFound) {
			return err
		}
		return nil
	})
}
