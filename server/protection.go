package server

import (
	"bytes"
	"context"
	"slices"
	"sync"
	"time"

	"bivalve/cluster"
	"bivalve/metadata"
	"bivalve/metadata/replica"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/errgroup"
)

// Protection counts objects, and those that lack shards. Unknown: nobody could be
// asked, and neither these counts nor what a zone's death would cost mean anything.
type Protection struct {
	Unknown        bool  `json:"unknown,omitempty"`
	Objects        int64 `json:"objects"`
	Bytes          int64 `json:"bytes"`
	Uploads        int64 `json:"uploads"`
	Garbage        int64 `json:"garbage_blobs"`
	OnDisks        int64 `json:"on_disks"` // objects and uploaded parts that are not in their records as a whole
	UnderProtected int64 `json:"under_protected"`
	UnderBytes     int64 `json:"under_protected_bytes"`
	Unreadable     int64 `json:"unreadable"`    // of these, with a chunk of which fewer than k shards are left
	Queued         int64 `json:"blobs_to_heal"` // of which these consist
	// Oldest is since when the first of them has lacked shards.
	Oldest    time.Time     `json:"oldest,omitzero"`
	OldestAge time.Duration `json:"oldest_age_ns,omitempty"`
	// References are those by which copies hold blobs; Releases wait to be brought to
	// where their blobs are.
	References int64 `json:"references"`
	Releases   int64 `json:"releases"`
	// Recovering is how many pairs of partitions have not compared yet, after a forced
	// recovery, what copies share; Broken are references of copies whose blobs were found
	// to be held no more.
	Recovering int64 `json:"recovering,omitempty"`
	Broken     int64 `json:"broken_references,omitempty"`
}

// DiskRisk is what hangs on one disk of the layout, and what it lacks.
type DiskRisk struct {
	Disk cluster.DiskID `json:"disk"`
	Node cluster.NodeID `json:"node"`
	Zone cluster.Zone   `json:"zone"`
	Up   bool           `json:"up"`
	// Lost is how many objects could not be read any more if the disk died now. With
	// AtMost there are too many to tell them apart: an object counts once for each
	// placement group that it has a last shard in.
	Lost   int64 `json:"lost_if_it_died"`
	AtMost bool  `json:"at_most,omitempty"`
	Lacks  int64 `json:"lacks_shards"`
	Bytes  int64 `json:"lacks_bytes"` // of these shards
}

// lastLimit is of how many blobs of one partition objects are told apart that hang on
// their last shards.
const lastLimit = 2000

// protection is what some partitions say, summed up by disk.
type protection struct {
	stats  metadata.Stats
	layout *cluster.Layout

	disks map[cluster.DiskID]*DiskRisk
}

func newProtection(l *cluster.Layout) *protection {
	p := &protection{layout: l, disks: map[cluster.DiskID]*DiskRisk{}}
	p.stats.AtRisk = map[string]int64{}
	if l == nil {
		return p
	}
	for pg := range l.Groups {
		for i := range l.Groups[pg] {
			pg, i := cluster.PG(pg), cluster.ShardIndex(i)
			for _, d := range l.Holders(pg, i) {
				if p.disks[d.ID] == nil {
					p.disks[d.ID] = &DiskRisk{Disk: d.ID, Node: d.Node, Zone: l.ZoneOf(pg, i)}
				}
			}
		}
	}
	return p
}

// holders are the disks that a place is on: while it moves its shards may be on any.
func (p *protection) holders(s metadata.Slot) []cluster.Disk {
	if p.layout == nil || int(s.PG) >= len(p.layout.Groups) || int(s.Index) >= len(p.layout.Groups[s.PG]) {
		return nil
	}
	return p.layout.Holders(cluster.PG(s.PG), cluster.ShardIndex(s.Index))
}

// add takes in one partition.
func (p *protection) add(s metadata.Stats, slots []metadata.SlotCount, last metadata.LastPlaces) {
	p.stats.Add(s)
	for _, c := range slots {
		for i, d := range p.holders(c.Slot) {
			r := p.disks[d.ID]
			if i == 0 { // the owner is who is given them
				r.Lacks, r.Bytes = r.Lacks+c.Missing, r.Bytes+c.Bytes
			}
			if last.More && c.Last > 0 {
				r.Lost, r.AtMost = r.Lost+c.Last, true
			}
		}
	}
	if last.More {
		return
	}
	on := map[cluster.DiskID]bool{}
	for _, places := range last.Objects {
		clear(on)
		for _, s := range places {
			for _, d := range p.holders(s) {
				on[d.ID] = true
			}
		}
		for id := range on {
			p.disks[id].Lost++
		}
	}
}

// lostWith is how many objects could not be read if a zone died now: with the other one
// down all that are on disks, otherwise those whose records say so.
func (n *Node) lostWith(s *metadata.Stats, i int) int64 {
	if n.region.ZoneDown(n.file.Zones[1-i]) {
		return s.WithBlobs
	}
	return s.AtRisk[string(n.file.Zones[i])]
}

// list is the disks, by node.
func (p *protection) list(up func(cluster.Disk) bool) []DiskRisk {
	out := make([]DiskRisk, 0, len(p.disks))
	for _, r := range p.disks {
		r.Up = up(cluster.Disk{ID: r.Disk, Node: r.Node})
		out = append(out, *r)
	}
	slices.SortFunc(out, func(a, b DiskRisk) int {
		if a.Node != b.Node {
			return bytes.Compare([]byte(a.Node), []byte(b.Node))
		}
		return bytes.Compare(a.Disk[:], b.Disk[:])
	})
	return out
}

// protectionParallel is how many partitions are asked at a time.
const protectionParallel = 16

// countProtection asks the leaders of all partitions.
func (n *Node) countProtection(ctx context.Context) (*protection, error) {
	p := newProtection(n.region.Layout())
	var mu sync.Mutex
	work, ctx := errgroup.WithContext(ctx)
	work.SetLimit(protectionParallel)
	for g := replica.GroupID(1); int(g) <= n.file.Partitions; g++ {
		work.Go(func() error {
			s, err := n.catalog.GroupStats(ctx, g)
			if err != nil {
				return err
			}
			var slots []metadata.SlotCount
			var last metadata.LastPlaces
			if s.Queued > 0 { // else nothing lacks shards
				if slots, err = n.catalog.Slots(ctx, g); err != nil {
					return err
				}
				if last, err = n.catalog.Last(ctx, g, lastLimit); err != nil {
					return err
				}
			}
			mu.Lock()
			defer mu.Unlock()
			p.add(s, slots, last)
			return nil
		})
	}
	return p, work.Wait()
}

// protectionMetrics tells the same of the partitions that this node leads, from its own
// copy; the sum over all nodes is the region's.
type protectionMetrics struct {
	n *Node

	objects, under, underBytes, unreadable, oldest, zone, disk, lacks, lacksBytes *prometheus.Desc
}

func newProtectionMetrics(n *Node) *protectionMetrics {
	desc := func(name, help string, labels ...string) *prometheus.Desc {
		return prometheus.NewDesc("bivalve_"+name, help+", of the partitions that this node leads.", labels, nil)
	}
	return &protectionMetrics{n: n,
		objects:    desc("objects_on_disks", "Objects and uploaded parts with bytes on disks"),
		under:      desc("under_protected_objects", "Objects that lack shards"),
		underBytes: desc("under_protected_bytes", "Bytes of objects that lack shards"),
		unreadable: desc("unreadable_objects", "Objects with a chunk of which fewer than k shards are left"),
		oldest:     desc("under_protected_oldest_seconds", "For how long the first of those that lack shards has done so; 0: none does"),
		zone:       desc("lost_if_zone_died_objects", "Objects that could not be read if the zone died now", "zone"),
		disk:       desc("lost_if_disk_died_objects", "Objects that could not be read if the disk died now", "disk", "node"),
		lacks:      desc("disk_lacks_shards", "Shards that are known to be missing on the disk", "disk", "node"),
		lacksBytes: desc("disk_lacks_bytes", "Bytes of shards that are known to be missing on the disk", "disk", "node"),
	}
}

// Describe implements prometheus.Collector.
func (m *protectionMetrics) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{m.objects, m.under, m.underBytes, m.unreadable, m.oldest, m.zone, m.disk, m.lacks, m.lacksBytes} {
		ch <- d
	}
}

// Collect implements prometheus.Collector.
func (m *protectionMetrics) Collect(ch chan<- prometheus.Metric) {
	p := newProtection(m.n.region.Layout())
	for g := replica.GroupID(1); int(g) <= m.n.file.Partitions; g++ {
		if !m.n.leads(g) {
			continue
		}
		if err := m.add(p, g); err != nil {
			ch <- prometheus.NewInvalidMetric(m.under, err) // rather none than a wrong sum
			return
		}
	}
	gauge := func(d *prometheus.Desc, v int64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, float64(v), labels...)
	}
	gauge(m.objects, p.stats.WithBlobs)
	gauge(m.under, p.stats.UnderProtected)
	gauge(m.underBytes, p.stats.UnderBytes)
	gauge(m.unreadable, p.stats.Unreadable)
	gauge(m.oldest, int64(age(p.stats.Oldest).Seconds()))
	for i, z := range m.n.file.Zones {
		gauge(m.zone, m.n.lostWith(&p.stats, i), string(z))
	}
	for _, r := range p.list(m.n.region.DiskUp) {
		gauge(m.disk, r.Lost, r.Disk.String(), string(r.Node))
		gauge(m.lacks, r.Lacks, r.Disk.String(), string(r.Node))
		gauge(m.lacksBytes, r.Bytes, r.Disk.String(), string(r.Node))
	}
}

func (m *protectionMetrics) add(p *protection, g replica.GroupID) error {
	s, err := m.n.catalog.GroupStatsLocal(g)
	if err != nil {
		return err
	}
	var slots []metadata.SlotCount
	var last metadata.LastPlaces
	if s.Queued > 0 {
		if slots, err = m.n.catalog.SlotsLocal(g); err != nil {
			return err
		}
		if last, err = m.n.catalog.LastLocal(g, lastLimit); err != nil {
			return err
		}
	}
	p.add(s, slots, last)
	return nil
}

// age is how long ago a log time was; 0 for none.
func age(at int64) time.Duration {
	if at == 0 {
		return 0
	}
	return max(0, time.Since(time.Unix(0, at)))
}
