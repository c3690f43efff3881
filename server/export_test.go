package server

import (
	"context"
	"fmt"
	"time"

	"bivalve/cluster"
	"bivalve/erasure"
	"bivalve/metadata"
	"bivalve/metadata/replica"
	"bivalve/s3api/s3test"
)

// Stores are the node's own, as the door sees them.
func (n *Node) Stores() s3test.Stores {
	d := door{n.store}
	return s3test.Stores{Buckets: d, Settings: d, Objects: d, Lister: d, Uploads: d, Copier: d, Sealed: d}
}

// Failed is how many disks of a node are known to be out of service.
func (n *Node) Failed(id cluster.NodeID) int { return len(n.region.Failed(id)) }

// Counter is one of the node's metrics, by the value of its only label; "" of one that
// has none.
func (n *Node) Counter(name, label string) float64 {
	families, err := n.metrics.Gather()
	if err != nil {
		return -1
	}
	for _, f := range families {
		for _, m := range f.Metric {
			if f.GetName() == name && (label == "" && len(m.Label) == 0 || len(m.Label) > 0 && m.Label[0].GetValue() == label) {
				return m.Counter.GetValue()
			}
		}
	}
	return -1
}

// WhatMayNotLag asks all partitions for what would do harm if it was of a replica that
// lags, and lists what was answered.
func (n *Node) WhatMayNotLag(ctx context.Context) (answered []string) {
	counts, book := n.shardCounts(), n.comparer().Book
	for g := replica.GroupID(1); int(g) <= n.file.Partitions; g++ {
		_, slots := counts.Slots(ctx, g)
		_, stats := counts.GroupStats(ctx, g)
		_, recovery := book.Recovery(ctx, g)
		_, namings := book.Namings(ctx, g, metadata.NamingPage{Home: 1, Limit: metadata.MaxReferences})
		for what, err := range map[string]error{"slots": slots, "statistics": stats, "recovery": recovery, "namings": namings} {
			if err == nil {
				answered = append(answered, fmt.Sprintf("%s of partition %d", what, g))
			}
		}
	}
	return answered
}

// Lose removes shards from the node's first disk behind the region's back, at most so
// many, and tells how many there were.
func (n *Node) Lose(ctx context.Context, most int) (lost int, err error) {
	d := n.disks()[0]
	groups := n.region.Layout().Groups
	for pg := 0; pg < len(groups) && lost < most; pg++ {
		page, err := d.List(ctx, cluster.PG(pg), nil, most-lost)
		if err != nil {
			return lost, err
		}
		keys := make([]cluster.ShardKey, len(page))
		for i, s := range page {
			keys[i] = s.Key
		}
		if err := d.Delete(ctx, keys); err != nil {
			return lost, err
		}
		lost += len(keys)
	}
	return lost, nil
}

// Gauge is one of the node's gauges; label "" is of one without labels. -1: there is none.
func (n *Node) Gauge(name, label string) float64 {
	families, err := n.metrics.Gather()
	if err != nil {
		return -1
	}
	for _, f := range families {
		for _, m := range f.Metric {
			if f.GetName() == name && (label == "" || m.Label[0].GetValue() == label) {
				return m.Gauge.GetValue()
			}
		}
	}
	return -1
}

// WriteOrphans stores shards of so many blobs that no record knows on the node's first
// disk, where they would belong, minted at a time.
func (n *Node) WriteOrphans(ctx context.Context, partition uint16, minted time.Time, blobs int) (written int, err error) {
	l, d := n.region.Layout(), n.disks()[0]
	for b := range blobs {
		id := cluster.NewBlobID(partition, minted.UnixMilli(), [8]byte{0xff, byte(b)})
		pg := l.Probe(id, 0, 0)
		for i := range cluster.ShardIndex(2 * l.Profile.PerZone()) {
			if !l.Owns(d.ID(), pg, i) {
				continue
			}
			payload := []byte{byte(b), 1, 2, 3}
			s := cluster.Shard{Key: cluster.ShardKey{PG: pg, Blob: id, Index: i}, Profile: l.Profile, Sums: erasure.Sums(nil, payload), Payload: payload}
			if err := n.local.AppendShards(ctx, l.Epoch, []cluster.DiskID{d.ID()}, []cluster.Shard{s})[0]; err != nil {
				return written, err
			}
			written++
		}
	}
	return written, nil
}

// LocalBucket is a bucket as the node's own copy has it.
func (n *Node) LocalBucket(ctx context.Context, name string) (metadata.Bucket, error) {
	return n.catalog.GetBucket(ctx, name)
}
