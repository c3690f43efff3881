package disk

import (
	"errors"
	"fmt"
	"hash/fnv"
	"math/rand/v2"
	"sync"
	"syscall"

	"bivalve/cluster/disk/vfs"
)

var (
	errPower = fmt.Errorf("power cut: %w", syscall.EIO)
	errSync  = fmt.Errorf("sync failed: %w", syscall.EIO)
)

// opCheckpoint is the write of the index, which a memTable makes without any
// file system.
const opCheckpoint vfs.Op = "checkpoint"

// changes are the calls at which power may go; between them nothing changes.
var changes = map[vfs.Op]bool{
	vfs.OpCreate: true, vfs.OpRemove: true, vfs.OpRename: true, vfs.OpSyncDir: true, vfs.OpWrite: true,
	vfs.OpSyncData: true, vfs.OpSync: true, vfs.OpTruncate: true, vfs.OpPreallocate: true, vfs.OpPunch: true,
	opCheckpoint: true,
}

// ending is how a round of a crash run ends.
type ending int

const (
	powerCut   ending = iota // what was not synced survives in part
	killed                   // the process alone dies; what was written is still read
	failedSync               // a sync fails, the disk is closed, and opened again
	closed                   // nothing fails
)

// power is the hook between a disk and its file system: it ends a round at one
// call, and can tell lies about syncs.
type power struct {
	mu    sync.Mutex
	mem   *vfs.MemFS
	rng   *rand.Rand // of its own: writers call in any order
	lie   func(op vfs.Op, name string) bool
	how   ending
	left  int  // changes until the end
	apply bool // the last call is made, though nobody hears of it
	over  bool
	trace uint64 // of all changes so far, to tell whether a seed replays
}

func (p *power) hook(op vfs.Op, name string) (bool, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if changes[op] {
		h := fnv.New64a()
		_, _ = fmt.Fprint(h, p.trace, op, name) // a hash takes all
		p.trace = h.Sum64()
	}
	if p.lie != nil && p.lie(op, name) && !p.over {
		return false, nil
	}
	if p.over && p.how != failedSync {
		// Space is asked by Usage, which has no error to return.
		return op == vfs.OpSpace, errPower
	}
	if !changes[op] || p.over || p.how == closed {
		return true, nil
	}
	p.left--
	sync := op == vfs.OpSync || op == vfs.OpSyncData
	if p.left > 0 || p.how == failedSync && !sync {
		return true, nil
	}
	p.over = true
	if p.how == failedSync {
		p.mem.FailSync(name, p.rng, p.rng.Float64())
		return false, errSync
	}
	return p.apply, errPower
}

// ours tells whether an error is of our making.
func ours(err error) bool { return errors.Is(err, errPower) || errors.Is(err, errSync) }

// crashTable is an index that loses power with the disk. A checkpoint that
// returned is durable, as with bbolt.
type crashTable struct {
	memTable
	power *power
}

func (t *crashTable) write(changes overlay, meta checkpointMeta) error {
	apply, err := t.power.hook(opCheckpoint, indexName)
	if apply {
		return errors.Join(t.memTable.write(changes, meta), err)
	}
	return err
}
