package disk

import (
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"runtime/debug"
	"slices"
	"time"

	"bivalve/cluster"
	"bivalve/cluster/disk/vfs"

	"github.com/zeebo/xxh3"
	bolt "go.etcd.io/bbolt"
)

const (
	tableVersion = 1
	keyBytes     = 23
	rowBytes     = 56
	stateBytes   = 40
	metaBytes    = 56
)

var (
	bucketRows     = []byte("shards")
	bucketSegments = []byte("segments")
	bucketMeta     = []byte("meta")
	metaKey        = []byte("checkpoint")
)

// errIndex: the index file cannot be trusted. It is a cache: throw it away.
var errIndex = errors.New("index is damaged")

// boltTable is the table in a bbolt file. bbolt has no page checksums, so every
// value carries one over key and value, and its panics are turned into errors.
type boltTable struct {
	db *bolt.DB
	o  owner
}

// guard turns a panic of bbolt into an error, and a page number that points out of
// the mapped file into a panic first. What it returns is to be deferred.
func guard(err *error) func() {
	old := debug.SetPanicOnFault(true)
	return func() {
		debug.SetPanicOnFault(old)
		if r := recover(); r != nil {
			*err = fmt.Errorf("%w: %v", errIndex, r)
		}
	}
}

func openBolt(files vfs.Opener, name string, o owner) (t *boltTable, err error) {
	defer guard(&err)()
	db, err := bolt.Open(name, 0o600, &bolt.Options{Timeout: time.Second, FreelistType: bolt.FreelistMapType, NoStatistics: true,
		OpenFile: files.OpenFile})
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errIndex, err)
	}
	t = &boltTable{db: db, o: o}
	err = db.Update(func(tx *bolt.Tx) error {
		for _, name := range [][]byte{bucketRows, bucketSegments, bucketMeta} {
			if _, err := tx.CreateBucketIfNotExists(name); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return nil, errors.Join(fmt.Errorf("%w: %w", errIndex, err), db.Close())
	}
	return t, nil
}

func putKey(b []byte, k cluster.ShardKey) {
	binary.BigEndian.PutUint16(b, uint16(k.PG))
	copy(b[2:18], k.Blob[:])
	binary.BigEndian.PutUint32(b[18:], k.Chunk)
	b[22] = uint8(k.Index)
}

func parseKey(b []byte) (cluster.ShardKey, error) {
	var k cluster.ShardKey
	if len(b) != keyBytes {
		return k, fmt.Errorf("%w: key of %d bytes", errIndex, len(b))
	}
	k = cluster.ShardKey{PG: cluster.PG(binary.BigEndian.Uint16(b)), Chunk: binary.BigEndian.Uint32(b[18:]), Index: cluster.ShardIndex(b[22])}
	copy(k.Blob[:], b[2:18])
	return k, nil
}

func sealValue(key, b []byte) {
	n := len(b) - 8
	binary.LittleEndian.PutUint64(b[n:], xxh3.HashSeed(b[:n], xxh3.Hash(key)))
}

func checkValue(key, b []byte, size int) error {
	if len(b) != size || binary.LittleEndian.Uint64(b[size-8:]) != xxh3.HashSeed(b[:size-8], xxh3.Hash(key)) {
		return fmt.Errorf("%w: value of %x does not check", errIndex, key)
	}
	return nil
}

func putRow(b, key []byte, p place) {
	le := binary.LittleEndian
	le.PutUint64(b[0:], p.segment)
	le.PutUint64(b[8:], uint64(p.offset))
	le.PutUint32(b[16:], p.length)
	le.PutUint32(b[20:], p.gen)
	b[24], b[25], b[26] = p.profile.K, p.profile.M, p.flags
	b[27] = byte(p.prior >> 32)
	le.PutUint32(b[28:], uint32(p.prior))
	le.PutUint64(b[32:], p.seq)
	le.PutUint64(b[40:], p.content)
	sealValue(key, b)
}

func parseRow(key, b []byte) (place, error) {
	if err := checkValue(key, b, rowBytes); err != nil {
		return place{}, err
	}
	le := binary.LittleEndian
	return place{
		segment: le.Uint64(b[0:]), offset: int64(le.Uint64(b[8:])), length: le.Uint32(b[16:]), gen: le.Uint32(b[20:]),
		profile: cluster.Profile{K: b[24], M: b[25]}, flags: b[26],
		prior: uint64(b[27])<<32 | uint64(le.Uint32(b[28:])), seq: le.Uint64(b[32:]), content: le.Uint64(b[40:]),
	}, nil
}

func (t *boltTable) get(k cluster.ShardKey) (p place, ok bool, err error) {
	defer guard(&err)()
	err = t.db.View(func(tx *bolt.Tx) error {
		var key [keyBytes]byte
		putKey(key[:], k)
		v := tx.Bucket(bucketRows).Get(key[:])
		if v == nil {
			return nil
		}
		ok = true
		p, err = parseRow(key[:], v)
		return err
	})
	return p, ok && err == nil, err
}

func (t *boltTable) scan(pg cluster.PG, after *cluster.ShardKey, fn func(cluster.ShardKey, place) bool) (err error) {
	defer guard(&err)()
	return t.db.View(func(tx *bolt.Tx) error {
		var start [keyBytes]byte
		putKey(start[:], cluster.ShardKey{PG: pg})
		if after != nil && after.PG == pg {
			putKey(start[:], *after)
		} else if after != nil && after.PG > pg {
			return nil
		}
		c := tx.Bucket(bucketRows).Cursor()
		for key, v := c.Seek(start[:]); key != nil; key, v = c.Next() {
			k, err := parseKey(key)
			if err != nil {
				return err
			}
			if k.PG != pg {
				return nil
			}
			if after != nil && k == *after {
				continue
			}
			p, err := parseRow(key, v)
			if err != nil {
				return err
			}
			if !fn(k, p) {
				return nil
			}
		}
		return nil
	})
}

func (t *boltTable) write(changes overlay, meta checkpointMeta) (err error) {
	defer guard(&err)()
	return t.db.Update(func(tx *bolt.Tx) error {
		rows := tx.Bucket(bucketRows)
		// In order: bbolt splits its pages at the commit only, so that each row put
		// before others moves all of them.
		for _, pg := range slices.Sorted(maps.Keys(changes)) {
			m := changes[pg]
			for _, k := range slices.SortedFunc(maps.Keys(m), compareKeys) {
				row := make([]byte, keyBytes+rowBytes) // bbolt keeps it until the commit
				key, v := row[:keyBytes:keyBytes], row[keyBytes:]
				putKey(key, k)
				c := m[k]
				if c.deleted {
					if err := rows.Delete(key); err != nil {
						return err
					}
					continue
				}
				putRow(v, key, c.place)
				if err := rows.Put(key, v); err != nil {
					return err
				}
			}
		}
		return t.putMeta(tx, meta)
	})
}

func (t *boltTable) putMeta(tx *bolt.Tx, meta checkpointMeta) error {
	if err := tx.DeleteBucket(bucketSegments); err != nil {
		return err
	}
	states, err := tx.CreateBucket(bucketSegments)
	if err != nil {
		return err
	}
	for number, s := range meta.segments {
		key := binary.BigEndian.AppendUint64(nil, number)
		v := make([]byte, 0, stateBytes+8)
		for _, n := range []int64{s.end, s.live, s.tombs, s.punched, s.shards, 0} {
			v = binary.LittleEndian.AppendUint64(v, uint64(n))
		}
		sealValue(key, v)
		if err := states.Put(key, v); err != nil {
			return err
		}
	}
	v := make([]byte, metaBytes)
	v[0] = tableVersion
	if meta.complete {
		v[1] = 1
	}
	binary.LittleEndian.PutUint64(v[8:], meta.seq)
	copy(v[16:32], t.o.cluster[:])
	copy(v[32:48], t.o.disk[:])
	sealValue(metaKey, v)
	return tx.Bucket(bucketMeta).Put(metaKey, v)
}

func (t *boltTable) meta() (meta checkpointMeta, err error) {
	defer guard(&err)()
	meta.segments = map[uint64]segmentState{}
	err = t.db.View(func(tx *bolt.Tx) error {
		v := tx.Bucket(bucketMeta).Get(metaKey)
		if v == nil {
			return nil // a new file
		}
		if err := checkValue(metaKey, v, metaBytes); err != nil {
			return err
		}
		if v[0] != tableVersion || [16]byte(v[16:32]) != t.o.cluster || cluster.DiskID(v[32:48]) != t.o.disk {
			return fmt.Errorf("%w: of version %d, disk %x", errIndex, v[0], v[32:48])
		}
		meta.complete, meta.seq = v[1] == 1, binary.LittleEndian.Uint64(v[8:])
		return tx.Bucket(bucketSegments).ForEach(func(key, v []byte) error {
			if err := checkValue(key, v, stateBytes+8); err != nil || len(key) != 8 {
				return errors.Join(errIndex, err)
			}
			n := func(i int) int64 { return int64(binary.LittleEndian.Uint64(v[8*i:])) }
			meta.segments[binary.BigEndian.Uint64(key)] = segmentState{n(0), n(1), n(2), n(3), n(4)}
			return nil
		})
	})
	return meta, err
}

func (t *boltTable) close() (err error) {
	defer guard(&err)()
	return t.db.Close()
}
