package disk

import (
	"bytes"
	"path/filepath"
	"testing"

	"bivalve/cluster"
	"bivalve/cluster/disk/disktest"

	bolt "go.etcd.io/bbolt"
)

// An index of another version, though its sums are right, is not used: it is built
// anew from the segments. One whose checkpoint is of another disk or cluster neither.
func TestIndexOfAnotherVersion(t *testing.T) {
	for name, at := range map[string]int{"version": 0, "cluster": 16, "disk": 32} {
		cfg := testConfig(t, nil)
		mustFormat(t, cfg)
		d := mustOpen(t, cfg)
		var all []cluster.Shard
		for i := range 20 {
			all = append(all, disktest.Shard(disktest.Key(1, i), 100, uint64(i)))
		}
		add(t, d, all...)
		mustClose(t, d)
		editIndex(t, cfg, func(tx *bolt.Tx) error {
			// Without its rows: nothing would be found if it were used.
			if err := tx.DeleteBucket(bucketRows); err != nil {
				return err
			}
			if _, err := tx.CreateBucket(bucketRows); err != nil {
				return err
			}
			v := bytes.Clone(tx.Bucket(bucketMeta).Get(metaKey))
			v[at]++
			sealValue(metaKey, v)
			return tx.Bucket(bucketMeta).Put(metaKey, v)
		})
		d = mustOpen(t, cfg)
		for _, s := range all {
			have(t, d, s)
		}
		if n := d.Usage().Shards; n != int64(len(all)) {
			t.Errorf("%s: %d shards", name, n)
		}
		mustClose(t, d)
		editIndex(t, cfg, func(tx *bolt.Tx) error {
			if v := tx.Bucket(bucketMeta).Get(metaKey); v[0] != tableVersion {
				t.Errorf("%s: the new index is of version %d", name, v[0])
			}
			return nil
		})
	}
}

func editIndex(t *testing.T, cfg Config, edit func(*bolt.Tx) error) {
	t.Helper()
	db, err := bolt.Open(filepath.Join(cfg.Dir, indexName), 0o600, nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := db.Update(edit); err != nil {
		t.Fatal(err)
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
}

// A note of a loss whose magic, version or owner is not known is still a note: what
// it says is not believed, that something is missing is.
func TestLossOfAnotherVersion(t *testing.T) {
	for _, at := range []int{0, 7, 8, 9, 16, 32} {
		cfg := testConfig(t, nil)
		mustFormat(t, cfg)
		d := mustOpen(t, cfg)
		if err := d.noteLoss([]string{"a segment"}); err != nil {
			t.Fatal(err)
		}
		mustClose(t, d)
		name := filepath.Join(cfg.Dir, lossName)
		page := readAll(t, name)
		page[at]++
		sealPage(page)
		writeFile(t, name, page)
		d = mustOpen(t, cfg)
		if l := d.Loss(); l == nil || l.Reason == "a segment" {
			t.Errorf("byte %d changed: %+v", at, l)
		}
		mustClose(t, d)
	}
}
