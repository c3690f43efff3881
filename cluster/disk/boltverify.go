package disk

import (
	"encoding/binary"
	"fmt"

	bolt "go.etcd.io/bbolt"
)

// verify reads all rows: each checks, each is found by its key, counts for a
// segment, and no segment counts more or fewer than the checkpoint says. A damaged page of bbolt may hide
// rows, which no look-up of a single one can notice.
func (t *boltTable) verify() (err error) {
	defer guard(&err)()
	return t.db.View(func(tx *bolt.Tx) error {
		found := map[uint64]int64{}
		rows := tx.Bucket(bucketRows)
		c := rows.Cursor()
		for key, v := c.First(); key != nil; key, v = c.Next() {
			if len(key) != keyBytes {
				return fmt.Errorf("%w: key of %d bytes", errIndex, len(key))
			}
			p, err := parseRow(key, v)
			if err != nil {
				return err
			}
			found[p.segment]++
			if len(rows.Get(key)) == 0 { // the pages above it lead elsewhere
				return fmt.Errorf("%w: %x is there and is not found", errIndex, key)
			}
		}
		return tx.Bucket(bucketSegments).ForEach(func(key, v []byte) error {
			if err := checkValue(key, v, stateBytes+8); err != nil {
				return err
			}
			want, got := int64(binary.LittleEndian.Uint64(v[32:])), found[binary.BigEndian.Uint64(key)]
			if want != got {
				return fmt.Errorf("%w: %d rows of segment %d, want %d", errIndex, got, binary.BigEndian.Uint64(key), want)
			}
			return nil
		})
	})
}

// checkIndex verifies the table, and throws it away if it is damaged. Writes and
// reads go on meanwhile.
func (d *Disk) checkIndex() error {
	if err := d.enter(); err != nil {
		return err
	}
	defer d.users.Done()
	t, ok := d.index.table.(*boltTable)
	if !ok {
		return nil
	}
	if err := t.verify(); err != nil {
		return d.indexFailed(err)
	}
	return nil
}
