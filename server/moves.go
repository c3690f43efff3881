package server

import (
	"context"
	"encoding/binary"
	"fmt"
	"slices"
	"sync"
	"time"

	"bivalve/cluster"
)

// settled asks a disk's node which epoch the disk has come to.
func (n *Node) settled(ctx context.Context, d cluster.Disk) (cluster.Epoch, error) {
	if d.Node == n.self.ID {
		return n.local.Settled(d.ID), nil
	}
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	raw, err := n.client.CallMetaAgain(ctx, d.Node, methodSettled, d.ID[:])
	if err != nil {
		return 0, err
	}
	if len(raw) != 8 {
		return 0, fmt.Errorf("%w: an epoch of %d bytes", cluster.ErrInvalid, len(raw))
	}
	return cluster.Epoch(binary.BigEndian.Uint64(raw)), nil
}

// handleSettled serves methodSettled.
func (n *Node) handleSettled(body []byte) ([]byte, error) {
	if len(body) != len(cluster.DiskID{}) {
		return nil, fmt.Errorf("%w: a disk id of %d bytes", cluster.ErrInvalid, len(body))
	}
	return binary.BigEndian.AppendUint64(nil, uint64(n.local.Settled(cluster.DiskID(body)))), nil
}

// movedSlots are the slots that disks of this node have in full, until the region
// has agreed to it.
type movedSlots struct {
	mu    sync.Mutex
	epoch cluster.Epoch
	slots []cluster.Slot
}

func (m *movedSlots) add(e cluster.Epoch, s cluster.Slot) {
	m.mu.Lock()
	defer m.mu.Unlock()
	switch {
	case e < m.epoch:
		return // another disk of the node was quicker to see the layout that makes this one void
	case e > m.epoch:
		m.epoch, m.slots = e, nil
	}
	m.slots = append(m.slots, s)
}

// of lists those of one epoch.
func (m *movedSlots) of(e cluster.Epoch) []cluster.Slot {
	m.mu.Lock()
	defer m.mu.Unlock()
	if e != m.epoch {
		return nil
	}
	return slices.Clone(m.slots)
}

// reportEvery is how long moved slots wait to be agreed together with others.
const reportEvery = 500 * time.Millisecond

// reportMoved tells the root group which slots have moved. This node is the only
// one to write its list.
func (n *Node) reportMoved(ctx context.Context) error {
	return n.keepReported(ctx, keyMovedPrefix, reportEvery, func() (any, bool) {
		layout := n.region.Layout()
		if layout == nil || len(layout.Moving) == 0 {
			return nil, false
		}
		known := n.region.MovedBy(n.self.ID, layout.Epoch)
		all := append(n.moves.of(layout.Epoch), known...)
		slices.SortFunc(all, cluster.Slot.Compare)
		all = slices.Compact(all)
		return moved{Epoch: layout.Epoch, Slots: all}, len(all) > len(known)
	})
}
