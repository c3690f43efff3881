package disk

import (
	"errors"
	"fmt"
	"log/slog"
	"math"
	"path/filepath"
	"time"

	"bivalve/cluster"
	"bivalve/cluster/disk/vfs"

	"github.com/prometheus/client_golang/prometheus"
)

const (
	// LargeBytes is the payload from which a shard goes to a large segment.
	LargeBytes = 64 << 10
	// MaxAppendShards bounds one call of Append, MaxDeleteKeys one of Delete.
	MaxAppendShards = 128
	MaxDeleteKeys   = 4096

	defaultSegmentBytes = 1 << 30
	defaultCompactBytes = 64 << 20
	minSegmentBytes     = 64 << 10
	minReserveBytes     = 1 << 30
)

// Config says which directory is a disk and how to run it.
type Config struct {
	Dir      string
	ID       cluster.DiskID // expected; zero for Format, which makes one
	Cluster  [16]byte
	FS       vfs.FS // nil: the real one
	Logger   *slog.Logger
	Registry prometheus.Registerer // nil: no metrics
	// SegmentBytes is where a segment ends, 0 for 1 GiB.
	SegmentBytes int64
	// ReserveBytes stay free for deletes and compaction; 0 for the greater of
	// 1 GiB and 5% of the file system, negative for none.
	ReserveBytes int64
	// Incarnation tells the highest of a disk that the caller has seen, 0 if none.
	Incarnation func(cluster.DiskID) uint64 // nil: none was ever seen
	// CompactBytes is how many bytes of live shards compaction copies in a second, 0
	// for 64 MiB.
	CompactBytes int64
	Now          func() time.Time

	table table // tests: the index of a file system that bbolt cannot see
}

// withDefaults checks everything at once and fills in what is zero.
func (c Config) withDefaults() (Config, error) {
	var errs []error
	if c.Dir == "" {
		errs = append(errs, errors.New("no Dir"))
	}
	if c.Cluster == [16]byte{} {
		errs = append(errs, errors.New("no Cluster"))
	}
	if c.SegmentBytes != 0 && c.SegmentBytes < minSegmentBytes || c.SegmentBytes > math.MaxUint32 {
		errs = append(errs, fmt.Errorf("SegmentBytes is %d, want %d..%d", c.SegmentBytes, minSegmentBytes, uint32(math.MaxUint32)))
	}
	if err := errors.Join(errs...); err != nil {
		return c, fmt.Errorf("disk config: %w: %w", cluster.ErrInvalid, err)
	}
	c.Dir = filepath.Clean(c.Dir)
	if c.FS == nil {
		c.FS = vfs.Real{}
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	if c.SegmentBytes == 0 {
		c.SegmentBytes = defaultSegmentBytes
	}
	if c.CompactBytes <= 0 {
		c.CompactBytes = defaultCompactBytes
	}
	if c.Incarnation == nil {
		c.Incarnation = func(cluster.DiskID) uint64 { return 0 }
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	return c, nil
}

// reserve is how much of a file system of that capacity stays free.
func (c Config) reserve(capacity int64) int64 {
	switch {
	case c.ReserveBytes < 0:
		return 0
	case c.ReserveBytes > 0:
		return c.ReserveBytes
	}
	return max(minReserveBytes, capacity/20)
}
