package boltfile

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"

	"go.etcd.io/bbolt"
)

// sample makes a file with branches, overflow pages, inline buckets and free pages.
func sample(t testing.TB, seed uint64, options *bbolt.Options) (path string, want map[string]string) {
	t.Helper()
	path, want = filepath.Join(t.TempDir(), "sample.db"), map[string]string{}
	if err := Create(path); err != nil {
		t.Fatal(err)
	}
	db, err := bbolt.Open(path, 0o600, options)
	if err != nil {
		t.Fatal(err)
	}
	db.NoSync = true
	rnd := rand.New(rand.NewPCG(seed, 3))
	for range 12 {
		err := db.Update(func(tx *bbolt.Tx) error {
			for _, name := range []string{"big", "small"} {
				b, err := tx.CreateBucketIfNotExists([]byte(name))
				if err != nil {
					return err
				}
				n := 150
				if name == "small" {
					n = 1
				}
				for range n {
					k := fmt.Sprint("key-", rnd.IntN(1500))
					if name == "small" {
						k = fmt.Sprint(rnd.IntN(3))
					}
					if rnd.IntN(3) == 0 {
						delete(want, name+"/"+k)
						err = b.Delete([]byte(k))
					} else {
						v := make([]byte, rnd.IntN(80))
						if rnd.IntN(60) == 0 {
							v = make([]byte, 9000)
						}
						for i := range v {
							v[i] = byte(rnd.Uint32())
						}
						want[name+"/"+k] = string(v)
						err = b.Put([]byte(k), v)
					}
					if err != nil {
						return err
					}
				}
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	return path, want
}

func contents(path string) (map[string]string, error) {
	got := map[string]string{}
	err := Check(path, func(bucket, key, value []byte) error {
		got[string(bucket)+"/"+string(key)] = string(value)
		return nil
	})
	return got, err
}

func TestCheckReadsWhatBboltWrote(t *testing.T) {
	for seed := range uint64(5) {
		for _, o := range []*bbolt.Options{nil, {NoFreelistSync: true, FreelistType: bbolt.FreelistMapType}} {
			path, want := sample(t, seed, o)
			got, err := contents(path)
			if err != nil || !maps.Equal(got, want) {
				t.Fatalf("seed %d: %v, %d records of %d", seed, err, len(got), len(want))
			}
		}
	}
}

// A flipped bit in a page that is in use is either seen, or lies in a record and
// reaches the caller, or changes nothing that counts.
func TestCheckSeesFlippedBits(t *testing.T) {
	path, want := sample(t, 1, nil)
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	rnd := rand.New(rand.NewPCG(9, 9))
	seen, changed, same := 0, 0, 0
	flips := 1500
	if testing.Short() {
		flips = 200
	}
	for range flips {
		b := append([]byte(nil), whole...)
		at := rnd.IntN(len(b))
		if rnd.IntN(2) == 0 { // heads of pages, where a bit weighs most
			at = at/4096*4096 + rnd.IntN(128)
		}
		b[at] ^= 1 << rnd.IntN(8)
		if err := os.WriteFile(path, b, 0o600); err != nil {
			t.Fatal(err)
		}
		got, err := contents(path)
		switch {
		case errors.Is(err, ErrDamaged):
			seen++
			continue
		case err != nil:
			t.Fatal(err)
		case maps.Equal(got, want):
			same++
		default:
			changed++
		}
		// What passes must be safe for bbolt.
		db, err := bbolt.Open(path, 0o600, nil)
		if err != nil {
			t.Fatalf("byte %d: %v", at, err)
		}
		db.NoSync = true
		err = db.Update(func(tx *bbolt.Tx) error {
			for e := range tx.Check() {
				t.Errorf("byte %d: %v", at, e)
			}
			return tx.Bucket([]byte("big")).Put([]byte("key-new"), make([]byte, 5000))
		})
		if err = errors.Join(err, db.Close()); err != nil {
			t.Fatalf("byte %d: %v", at, err)
		}
	}
	t.Logf("seen %d, in a record %d, without effect %d", seen, changed, same)
	if seen == 0 || changed == 0 || same == 0 {
		t.Error("the flips are not where they should be")
	}
}

func TestCheckOfNoFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "x.db")
	if err := Check(path, nil); !errors.Is(err, os.ErrNotExist) {
		t.Fatal(err)
	}
	for _, content := range []string{"", "garbage", string(make([]byte, 100_000))} {
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := Check(path, nil); !errors.Is(err, ErrDamaged) {
			t.Fatal(err)
		}
	}
}

func TestCheckOfTruncatedFiles(t *testing.T) {
	path, _ := sample(t, 2, nil)
	st, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	for size := st.Size() - 1; size > 0; size -= 4999 {
		if err := os.Truncate(path, size); err != nil {
			t.Fatal(err)
		}
		// bbolt grows its file ahead: the end may hold no page yet.
		if err := Check(path, nil); err != nil && !errors.Is(err, ErrDamaged) {
			t.Fatal(err)
		} else if err == nil && size < st.Size()/4 {
			t.Fatalf("%d bytes of %d pass", size, st.Size())
		}
	}
}

func FuzzCheck(f *testing.F) {
	path, _ := sample(f, 4, nil)
	whole, err := os.ReadFile(path)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(whole[:5*4096], uint32(4096+8), byte(0xff))
	f.Add(whole[:2*4096], uint32(0), byte(1))
	f.Fuzz(func(t *testing.T, b []byte, at uint32, x byte) {
		if len(b) > 0 {
			b = append([]byte(nil), b...)
			b[int(at)%len(b)] ^= x
		}
		if err := check(bytes.NewReader(b), int64(len(b)), nil); err != nil && !errors.Is(err, ErrDamaged) {
			t.Fatal(err)
		}
	})
}
