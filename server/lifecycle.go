package server

import (
	"time"

	"bivalve/server/upkeep"
)

// newLifecycle makes the task that applies the lifecycle rules of buckets.
func (n *Node) newLifecycle() *upkeep.Lifecycle {
	day := time.Duration(n.cfg.LifecycleDay)
	return &upkeep.Lifecycle{Catalog: n.catalog, Partitions: n.file.Partitions, Leads: n.leads, Day: day,
		Every: min(time.Minute, day/4), Rest: 20 * time.Millisecond, Logger: n.logger, Registry: n.metrics}
}

// clockEvery is how often this node reports its clock: a small part of a day.
func (n *Node) clockEvery() time.Duration {
	return min(20*time.Second, time.Duration(n.cfg.LifecycleDay)/4)
}
