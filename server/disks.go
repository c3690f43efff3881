package server

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"slices"
	"sync"
	"time"

	"bivalve/cluster"
	"bivalve/cluster/disk"
	"bivalve/cluster/disk/vfs"
	"bivalve/metadata"

	"github.com/fxamacker/cbor/v2"
	"github.com/prometheus/client_golang/prometheus"
)

// openDisks opens the node's disks; at its first start it formats the empty ones.
// Later, a disk that does not open is out of service until it is replaced: the
// node goes on without it, for the sake of its other disks and its votes.
func (n *Node) openDisks() error {
	first, err := n.bootstrapping()
	if err != nil {
		return err
	}
	n.seen = openIncarnations(n.dataPath("disks.json"), n.logger)
	for _, dir := range n.cfg.Disks {
		slot := n.newSlot(dir)
		if first {
			empty, err := isEmpty(dir)
			if err != nil {
				return err
			}
			if empty {
				if _, err := disk.Format(slot.cfg); err != nil {
					return fmt.Errorf("format disk %s: %w", dir, err)
				}
			}
		}
		n.slots.add(slot)
		if err := slot.take(); err != nil && first {
			return err
		}
	}
	n.closers = append(n.closers, func() error {
		var errs []error
		for _, s := range n.slots.all() {
			errs = append(errs, s.Close())
		}
		return errors.Join(errs...)
	})
	return nil
}

// newSlot is the slot of a directory, still without a disk.
func (n *Node) newSlot(dir string) *diskSlot {
	cfg := disk.Config{Dir: dir, Cluster: n.file.ClusterID(), Logger: n.logger.With("path", dir),
		Registry:     prometheus.WrapRegistererWith(prometheus.Labels{"path": dir}, n.metrics),
		SegmentBytes: int64(n.cfg.Limits.Segment), ReserveBytes: int64(n.cfg.Limits.DiskReserve), Incarnation: n.seen.of}
	if n.cfg.Faults.Disk != nil {
		cfg.FS = vfs.Wrap(vfs.Real{}, n.cfg.Faults.Disk(dir))
	}
	keep := func(d *disk.Disk) { n.seen.keep(d.ID(), d.Incarnation()) }
	return &diskSlot{dir: dir, cfg: cfg, logger: cfg.Logger, closed: keep, open: func(expected cluster.DiskID) (*disk.Disk, error) {
		cfg := cfg
		cfg.ID = expected
		d, err := disk.Open(cfg)
		if err == nil {
			keep(d)
		}
		return d, err
	}}
}

// disks are those in service.
func (n *Node) disks() []*disk.Disk {
	var out []*disk.Disk
	for _, s := range n.slots.all() {
		if d, err := s.get(); err == nil {
			out = append(out, d)
		}
	}
	return out
}

// isEmpty makes the directory if its parent is there; a file system's own
// lost+found does not count.
func isEmpty(dir string) (bool, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return false, err
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return false, err
	}
	for _, e := range entries {
		if e.Name() != "lost+found" {
			return false, nil
		}
	}
	return true, nil
}

// member is what this node registers in the root group. A disk out of service is
// still one of this node's, as it was registered before.
func (n *Node) member(before cluster.Member) cluster.Member {
	m := cluster.Member{ID: n.self.ID, Zone: n.self.Zone, Role: n.self.Role, Replica: n.self.Replica,
		Addr: n.self.Addr, Gossip: n.self.Gossip, S3: n.self.S3, Admin: n.self.Admin}
	for _, s := range n.slots.all() { // in the order of the configuration
		if d, err := s.get(); err == nil {
			weight := uint32(max(1, d.Usage().CapacityBytes>>30))
			m.Disks = append(m.Disks, cluster.Disk{ID: d.ID(), Node: n.self.ID, Weight: weight, Path: s.dir})
			continue
		}
		for _, d := range before.Disks {
			if d.Path == s.dir {
				m.Disks = append(m.Disks, d)
			}
		}
	}
	return m
}

// register tells the root group who this node is and which disks it carries. It
// tries until it is heard, then ends.
func (n *Node) register(ctx context.Context) error {
	for {
		pctx, cancel := context.WithTimeout(ctx, 5*time.Second)
		err := n.registerOnce(pctx)
		cancel()
		if err == nil {
			return nil
		}
		n.logger.Debug("not registered yet", "err", err)
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(200 * time.Millisecond):
		}
	}
}

// registerOnce writes what this node registers, unless it is there.
func (n *Node) registerOnce(ctx context.Context) error {
	key := keyMemberPrefix + string(n.self.ID)
	values, err := n.catalog.GetConfig(ctx, key)
	if err != nil {
		return err
	}
	var known []byte
	var before cluster.Member
	var revision uint64
	for _, v := range values {
		if v.Key != key {
			continue // of a node whose name begins with this one's
		}
		known, revision = v.Value, v.Revision
		if err := cbor.Unmarshal(v.Value, &before); err != nil {
			return err
		}
	}
	value, err := cbor.Marshal(n.member(before))
	if err != nil || bytes.Equal(value, known) {
		return err
	}
	_, err = n.catalog.PutConfig(ctx, metadata.PutConfig{Key: key, Value: value, Expect: revision})
	return err
}

// failedDisks are those of this node that are out of service, in the order of the
// registration, then of the layout: a disk whose directory was taken out of the
// configuration, or that was put into another node, is registered here no more, but the
// layout still looks for it here.
func (n *Node) failedDisks() []cluster.DiskID {
	out := []cluster.DiskID{}
	lists := [][]cluster.Disk{n.region.Member(n.self.ID).Disks}
	if l := n.region.Layout(); l != nil {
		lists = append(lists, l.Disks, l.Former)
	}
	for _, list := range lists {
		for _, d := range list {
			if d.Node == n.self.ID && n.local.failed(d.ID) != nil && !slices.Contains(out, d.ID) {
				out = append(out, d.ID)
			}
		}
	}
	return out
}

// reportFailed keeps the region informed of disks that are out of service, so that
// writes step aside: to the others such a node looks as alive as ever.
func (n *Node) reportFailed(ctx context.Context) error {
	return n.keepReported(ctx, keyFailedPrefix, time.Second, func() (any, bool) {
		failed := n.failedDisks()
		return failed, !slices.Equal(failed, n.region.Failed(n.self.ID))
	})
}

// damageLog hears of shards that readers had to do without. Each is counted;
// of each disk one a minute is logged.
type damageLog struct {
	logger  *slog.Logger
	counter *prometheus.CounterVec

	mu   sync.Mutex
	last map[cluster.DiskID]time.Time
}

func newDamageLog(logger *slog.Logger, r prometheus.Registerer) *damageLog {
	d := &damageLog{logger: logger, last: map[cluster.DiskID]time.Time{}, counter: prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "bivalve_damaged_shards_total", Help: "Shards that a reader of this node found missing or damaged, by kind.",
	}, []string{"kind"})}
	r.MustRegister(d.counter)
	return d
}

// Damaged reports one shard.
func (d *damageLog) Damaged(id cluster.DiskID, key cluster.ShardKey, err error) {
	kind := "corrupt"
	if errors.Is(err, cluster.ErrNotFound) {
		kind = "missing"
	}
	d.counter.WithLabelValues(kind).Inc()
	d.mu.Lock()
	quiet := time.Since(d.last[id]) < time.Minute
	if !quiet {
		d.last[id] = time.Now()
	}
	d.mu.Unlock()
	if !quiet {
		d.logger.Warn("a reader found a damaged shard", "disk", id.String(), "shard", key.String(), "kind", kind, "err", err)
	}
}
