package server

import (
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
	seen := openIncarnations(n.dataPath("disks.json"), n.logger)
	for _, dir := range n.cfg.Disks {
		cfg := disk.Config{Dir: dir, Cluster: n.file.ClusterID(), Logger: n.logger.With("path", dir),
			Registry:     prometheus.WrapRegistererWith(prometheus.Labels{"path": dir}, n.metrics),
			SegmentBytes: int64(n.cfg.Limits.Segment), ReserveBytes: int64(n.cfg.Limits.DiskReserve), Incarnation: seen.of}
		if first {
			empty, err := isEmpty(dir)
			if err != nil {
				return err
			}
			if empty {
				if _, err := disk.Format(cfg); err != nil {
					return fmt.Errorf("format disk %s: %w", dir, err)
				}
			}
		}
		slot := &diskSlot{dir: dir, logger: cfg.Logger, open: func(expected cluster.DiskID) (*disk.Disk, error) {
			cfg := cfg
			cfg.ID = expected
			d, err := disk.Open(cfg)
			if err == nil {
				seen.keep(d.ID(), d.Incarnation())
			}
			return d, err
		}}
		n.slots = append(n.slots, slot)
		n.closers = append(n.closers, slot.Close)
		if err := slot.take(); err != nil && first {
			return err
		}
	}
	return nil
}

// disks are those in service.
func (n *Node) disks() []*disk.Disk {
	var out []*disk.Disk
	for _, s := range n.slots {
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

// member is what this node registers in the root group.
func (n *Node) member() cluster.Member {
	m := cluster.Member{ID: n.self.ID, Zone: n.self.Zone, Role: n.self.Role, Replica: n.self.Replica,
		Addr: n.self.Addr, Gossip: n.self.Gossip, S3: n.self.S3, Admin: n.self.Admin}
	for _, s := range n.slots { // in the order of the configuration
		if d, err := s.get(); err == nil {
			weight := uint32(max(1, d.Usage().CapacityBytes>>30))
			m.Disks = append(m.Disks, cluster.Disk{ID: d.ID(), Node: n.self.ID, Weight: weight, Path: s.dir})
		}
	}
	return m
}

// register tells the root group who this node is and which disks it carries. It
// tries until it is heard, then ends.
func (n *Node) register(ctx context.Context) error {
	value, err := cbor.Marshal(n.member())
	if err != nil {
		return err
	}
	key := keyMemberPrefix + string(n.self.ID)
	for {
		pctx, cancel := context.WithTimeout(ctx, 5*time.Second)
		known, err := n.catalog.GetConfig(pctx, key)
		// A disk out of service is still one of this node's: what is registered stays.
		if err == nil && len(known) == 1 && known[0].Key == key && (len(n.disks()) < len(n.slots) || string(known[0].Value) == string(value)) {
			cancel()
			return nil
		}
		if err == nil {
			_, err = n.catalog.PutConfig(pctx, metadata.PutConfig{Key: key, Value: value, Any: true})
		}
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

// failedDisks are those of this node that are out of service, in the order of the
// registration.
func (n *Node) failedDisks() []cluster.DiskID {
	out := []cluster.DiskID{}
	for _, d := range n.region.Member(n.self.ID).Disks {
		if n.local.failed(d.ID) != nil {
			out = append(out, d.ID)
		}
	}
	return out
}

// reportFailed keeps the region informed of disks that are out of service, so that
// writes step aside: to the others such a node looks as alive as ever.
func (n *Node) reportFailed(ctx context.Context) error {
	t := time.NewTicker(time.Second)
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-t.C:
		}
		failed := n.failedDisks()
		if slices.Equal(failed, n.region.Failed(n.self.ID)) {
			continue
		}
		value, err := cbor.Marshal(failed)
		if err != nil {
			return err
		}
		pctx, cancel := context.WithTimeout(ctx, 5*time.Second)
		_, err = n.catalog.PutConfig(pctx, metadata.PutConfig{Key: keyFailedPrefix + string(n.self.ID), Value: value, Any: true})
		cancel()
		if err == nil {
			err = n.region.refresh()
		}
		if err != nil {
			n.logger.Debug("disks out of service are not reported yet", "err", err)
		}
	}
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
