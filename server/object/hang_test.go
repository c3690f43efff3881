package object

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"bivalve/cluster"
	"bivalve/erasure"
)

// hangs makes every call to one disk wait, whatever its context says, until the
// returned function is called: so does a disk whose driver never answers.
func (r *rig) hangs(disk cluster.DiskID) (release func()) {
	back := make(chan struct{})
	r.shards.setHook(func(_ context.Context, c call) (bool, error) {
		if c.disk == disk {
			<-back
		}
		return true, nil
	})
	return func() { close(back) }
}

// TestReadLeavesHungDisk: a read is answered from the other shards, and the call
// that hangs keeps its own memory only, until it returns.
func TestReadLeavesHungDisk(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, erasure.Geometry{K: 2, M: 1})
		data := pattern(2*chunk, 8)
		v := r.putInto(zoneA, data)
		release := r.hangs(r.of(v, 0)[0].disk.ID)
		began := time.Now()
		r.check(v, data, 0, v.Bytes)
		if took := time.Since(began); took > time.Second {
			t.Errorf("took %v", took)
		}
		r.buffers.mu.Lock()
		held := len(r.buffers.lent)
		r.buffers.mu.Unlock()
		if held == 0 {
			t.Error("nothing hangs: the test shows nothing")
		}
		release()
		synctest.Wait()
		r.settled()
	})
}

// TestWriteLeavesHungDisk: a chunk that is durable without the disk is acknowledged
// with that shard missing, and the memory is whole again when the call returns.
func TestWriteLeavesHungDisk(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, erasure.Geometry{K: 2, M: 1})
		data := pattern(chunk, 8)
		release := r.hangs(r.of(r.putInto(zoneA, data), 0)[0].disk.ID)
		v := r.putInto(zoneA, data)
		if notes := v.Parts[0].Blob.Notes; len(notes) != 1 || notes[0].Missing == 0 {
			t.Errorf("notes: %+v", notes)
		}
		r.check(v, data, 0, v.Bytes)
		release()
		synctest.Wait()
		r.settled()
	})
}
