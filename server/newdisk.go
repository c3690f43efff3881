package server

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"bivalve/cluster"
	"bivalve/cluster/placement"
	"bivalve/server/admin"

	"github.com/fxamacker/cbor/v2"
)

// DiskOrder is an operator's order to make an empty directory of a node a disk. It
// is also the body of methodNewDisk.
type DiskOrder struct {
	Path    string `cbor:"1,keyasint"`
	Replace bool   `cbor:"2,keyasint,omitempty"` // it takes the slots of the disk that was there
	Force   bool   `cbor:"3,keyasint,omitempty"` // though it does not look mounted
}

// DiskAdded answers the order.
type DiskAdded struct {
	Node     cluster.NodeID `json:"node" cbor:"1,keyasint"`
	Path     string         `json:"path" cbor:"2,keyasint"`
	Disk     cluster.DiskID `json:"disk" cbor:"3,keyasint"`
	Replaced cluster.DiskID `json:"replaced,omitzero" cbor:"4,keyasint"`
	Epoch    cluster.Epoch  `json:"layout_epoch" cbor:"5,keyasint"` // 0: the layout stays for now
}

// refusal carries across nodes that an order was refused or bad.
type refusal struct {
	Bad   string    `cbor:"1,keyasint,omitempty"`
	No    string    `cbor:"2,keyasint,omitempty"`
	Added DiskAdded `cbor:"3,keyasint"`
}

// NewDisk has a node take an empty directory as a disk.
func (n *Node) NewDisk(ctx context.Context, id cluster.NodeID, o DiskOrder) (*DiskAdded, error) {
	if id == n.self.ID {
		return n.takeNewDisk(ctx, o)
	}
	if _, ok := n.peer(id); !ok {
		return nil, fmt.Errorf("%w: no node %q", admin.ErrBad, id)
	}
	body, err := cbor.Marshal(o)
	if err != nil {
		return nil, err
	}
	raw, err := n.client.CallMetaAgain(ctx, id, methodNewDisk, body)
	if err != nil {
		return nil, err
	}
	var r refusal
	if err := cbor.Unmarshal(raw, &r); err != nil {
		return nil, err
	}
	switch {
	case r.Bad != "":
		return nil, fmt.Errorf("%w: %s", admin.ErrBad, r.Bad)
	case r.No != "":
		return nil, fmt.Errorf("%w: %s", admin.ErrRefused, r.No)
	}
	return &r.Added, nil
}

// handleNewDisk serves methodNewDisk.
func (n *Node) handleNewDisk(ctx context.Context, body []byte) ([]byte, error) {
	var o DiskOrder
	if err := cbor.Unmarshal(body, &o); err != nil {
		return nil, fmt.Errorf("%w: %w", cluster.ErrInvalid, err)
	}
	var r refusal
	added, err := n.takeNewDisk(ctx, o)
	switch {
	case errors.Is(err, admin.ErrBad):
		r.Bad = strings.TrimPrefix(err.Error(), admin.ErrBad.Error()+": ")
	case errors.Is(err, admin.ErrRefused):
		r.No = strings.TrimPrefix(err.Error(), admin.ErrRefused.Error()+": ")
	case err != nil:
		return nil, err
	default:
		r.Added = *added
	}
	return cbor.Marshal(r)
}

// takeNewDisk formats the directory, registers the disk and, if it replaces one,
// gives it the slots of that. Each step looks first whether it is done already, so
// an order that was cut short is given again.
func (n *Node) takeNewDisk(ctx context.Context, o DiskOrder) (*DiskAdded, error) {
	n.adding.Lock()
	defer n.adding.Unlock()
	slot, fresh, err := n.slotOf(o.Path)
	if err != nil {
		return nil, err
	}
	v, err := n.agreedView(ctx)
	if err != nil {
		return nil, err
	}
	out := &DiskAdded{Node: n.self.ID, Path: slot.dir}
	if d, err := slot.get(); err == nil {
		out.Disk = d.ID()
		if owned, _, away := v.slots(out.Disk); owned+away > 0 {
			if !o.Replace {
				return out, nil
			}
			return nil, fmt.Errorf("%w: %s holds disk %s, which is in service with %d slots; to empty it, drain it", admin.ErrRefused, slot.dir, out.Disk, owned+away)
		}
	} else if out.Disk, err = n.formatSlot(slot, o.Force); err != nil {
		return nil, err
	}
	if fresh {
		n.slots.add(slot)
		select {
		case n.newSlots <- slot: // Run has it do its work
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	old, known := v.diskAt(n.self.ID, slot.dir, out.Disk)
	if known && !o.Replace {
		if owned, _, away := v.slots(old.ID); owned+away > 0 {
			return nil, fmt.Errorf("%w: %s is the place of disk %s, which has %d slots; replace it instead", admin.ErrRefused, slot.dir, old.ID, owned+away)
		}
	}
	if err := n.registerOnce(ctx); err != nil {
		return nil, err
	}
	if !o.Replace || !known {
		return out, n.region.refresh()
	}
	out.Replaced = old.ID
	if _, err := n.SetDisk(ctx, old.ID.String(), cluster.StateRemoved, true); err != nil {
		return nil, err
	}
	out.Epoch, err = n.swap(ctx, old.ID, out.Disk)
	return out, err
}

// swap gives a disk the slots of another that is removed.
func (n *Node) swap(ctx context.Context, old, by cluster.DiskID) (cluster.Epoch, error) {
	v, err := n.agreedView(ctx)
	if err != nil {
		return 0, err
	}
	if owned, _, _ := v.slots(old); owned == 0 {
		return 0, nil
	}
	d, ok := v.disks[by]
	if !ok {
		return 0, fmt.Errorf("disk %s is not registered", by)
	}
	next, err := placement.Swap(v.layout, old, d, v.lost)
	if err != nil {
		return 0, err
	}
	p, err := n.planOf(ctx, v, next)
	if err != nil {
		return 0, err
	}
	return next.Epoch, n.propose(ctx, p)
}

// diskAt is the disk that was in a directory of a node before another came: the one
// that owns slots, or else the one that is registered.
func (v *view) diskAt(node cluster.NodeID, dir string, but cluster.DiskID) (cluster.Disk, bool) {
	for _, list := range [][]cluster.Disk{v.layout.Disks, v.members[node].Disks} {
		for _, d := range list {
			if d.Node == node && d.Path == dir && d.ID != but {
				return d, true
			}
		}
	}
	return cluster.Disk{}, false
}

// slotOf finds the slot of a directory. For one that the configuration file lists
// since the node began it makes a slot, which is not among the node's yet.
func (n *Node) slotOf(dir string) (slot *diskSlot, fresh bool, err error) {
	dir = filepath.Clean(dir)
	for _, s := range n.slots.all() {
		if filepath.Clean(s.dir) == dir {
			return s, false, nil
		}
	}
	if n.mover == nil {
		return nil, false, fmt.Errorf("%w: node %s runs without disks; it takes some when it is started with them", admin.ErrRefused, n.self.ID)
	}
	if n.cfg.file == "" {
		return nil, false, fmt.Errorf("%w: %s is no disk of node %s", admin.ErrBad, dir, n.self.ID)
	}
	cfg, err := LoadConfig(n.cfg.file)
	if err != nil {
		return nil, false, fmt.Errorf("%w: %w", admin.ErrRefused, err)
	}
	i := slices.IndexFunc(cfg.Disks, func(d string) bool { return filepath.Clean(d) == dir })
	if i < 0 {
		return nil, false, fmt.Errorf("%w: %s is not among the disks of %s; list it there first", admin.ErrBad, dir, n.cfg.file)
	}
	return n.newSlot(cfg.Disks[i]), true, nil
}

// formatSlot makes the directory of a slot a disk if it is there, empty and, as far
// as can be told, the file system that it should be.
func (n *Node) formatSlot(slot *diskSlot, force bool) (cluster.DiskID, error) {
	var none cluster.DiskID
	entries, err := os.ReadDir(slot.dir)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ENOTDIR) {
		return none, fmt.Errorf("%w: %w", admin.ErrRefused, err)
	}
	if err != nil {
		return none, err
	}
	for _, e := range entries {
		if e.Name() != "lost+found" {
			return none, fmt.Errorf("%w: %s is not empty: it holds %s. Only an empty directory is formatted", admin.ErrRefused, slot.dir, e.Name())
		}
	}
	if !force && !mounted(slot.dir) {
		for _, s := range n.slots.all() {
			if s != slot && mounted(s.dir) {
				return none, fmt.Errorf("%w: nothing is mounted at %s, as there is at %s. Mount it, or use force if it is meant to be so", admin.ErrRefused, slot.dir, s.dir)
			}
		}
	}
	id, err := slot.format()
	if err == nil {
		n.logger.Info("a new disk", "disk", id.String(), "path", slot.dir)
	}
	return id, err
}

// mounted tells whether a directory is the root of a file system of its own.
func mounted(dir string) bool {
	var own, parent syscall.Stat_t
	return syscall.Stat(dir, &own) == nil && syscall.Stat(filepath.Dir(filepath.Clean(dir)), &parent) == nil && own.Dev != parent.Dev
}

// newDiskOrder serves POST /v1/nodes/{node}/disks.
func (n *Node) newDiskOrder(ctx context.Context, r *http.Request) (any, error) {
	q := r.URL.Query()
	if !filepath.IsAbs(q.Get("path")) {
		return nil, fmt.Errorf("%w: path %q is not absolute", admin.ErrBad, q.Get("path"))
	}
	return n.NewDisk(ctx, cluster.NodeID(r.PathValue("node")), DiskOrder{Path: q.Get("path"), Replace: q.Get("replace") == "true", Force: q.Get("force") == "true"})
}
