package server

import (
	"time"

	"bivalve/server/upkeep"
)

// openSweeper builds what removes orphans.
func (n *Node) openSweeper() (err error) {
	n.sweeper, err = upkeep.NewSweeper(upkeep.SweeperConfig{
		Disks: func() (out []upkeep.OrphanDisk) {
			for _, d := range n.disks() {
				out = append(out, d)
			}
			return out
		},
		Consent: n.strict, Clock: n.catalog.Clock, Partitions: n.file.Partitions,
		Groups: func() int {
			if l := n.region.Layout(); l != nil {
				return len(l.Groups)
			}
			return 0
		},
		Age: time.Duration(n.cfg.OrphanAge), Every: time.Duration(n.cfg.OrphanAge),
		Logger: n.logger, Registry: n.metrics, Now: time.Now,
	})
	return err
}
