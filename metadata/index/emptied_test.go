package index

import (
	"fmt"
	"path/filepath"
	"testing"
	"time"

	"go.etcd.io/bbolt"
)

// A table of many pages of which one transaction deletes every record, or all but
// one, can still be asked in that transaction for what is not there and for its last.
func TestTableEmptied(t *testing.T) {
	db, err := bbolt.Open(filepath.Join(t.TempDir(), "db"), 0o600, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := db.Close(); err != nil {
			t.Error(err)
		}
	}()
	const n = 3000
	key := func(i int) []byte { return fmt.Appendf(nil, "key-%05d", i) }
	var digest uint64
	change := func(f func(table) error) {
		t.Helper()
		err := db.Update(func(tx *bbolt.Tx) error {
			b, err := tx.CreateBucketIfNotExists([]byte("t"))
			if err != nil {
				return err
			}
			return f(table{name: "t", b: b, digest: &digest})
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	for _, left := range []int{-1, 0, n / 2, n - 1} {
		change(func(tb table) error {
			for i := range n {
				if err := tb.Put(key(i), make([]byte, 100)); err != nil {
					return err
				}
			}
			return nil
		})
		done := make(chan struct{})
		go func() {
			defer close(done)
			change(func(tb table) error {
				for i := range n {
					if i == left {
						continue
					}
					if err := tb.Delete(key(i)); err != nil {
						return err
					}
				}
				if v := tb.Get([]byte("zzz")); v != nil {
					t.Errorf("%d bytes of what is not there", len(v))
				}
				k, _ := tb.Cursor().Last()
				if want := string(key(max(left, 0))); left >= 0 && string(k) != want || left < 0 && k != nil {
					t.Errorf("the last is %q with %d left", k, left)
				}
				return nil
			})
		}()
		select {
		case <-done:
		case <-time.After(time.Minute):
			t.Fatalf("no answer from a table with %d left", left)
		}
	}
	if digest != recordSum([]byte("t"), key(n-1), make([]byte, 100)) {
		t.Error("the digest is not that of the record that is left")
	}
}
