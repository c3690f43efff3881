package disk

import (
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"

	"bivalve/cluster"
	"bivalve/cluster/disk/vfs"
)

// load opens the index and brings it up from the segments. lost says what is
// known to be lost before.
func (d *Disk) load(lost string) error {
	meta, err := d.openTable()
	if err != nil {
		return err
	}
	d.seq.Store(meta.seq)
	for _, ms := range d.manifest.segments {
		s := d.newSegment(ms.number, ms.kind)
		s.sealed = ms.sealed
		if st, ok := meta.segments[ms.number]; ok && meta.complete {
			s.end, s.live, s.tombs, s.punched, s.shards = st.end, st.live, st.tombs, st.punched, st.shards
			d.shards += st.shards
		}
		d.segments[ms.number] = s
	}
	r := &replay{d: d, tombs: map[cluster.ShardKey]uint64{}}
	if lost != "" {
		r.losses = append(r.losses, lost)
	}
	for _, ms := range d.manifest.segments {
		if err := d.loadSegment(r, d.segments[ms.number], ms.length); err != nil {
			return err
		}
	}
	if len(r.losses) > 0 {
		if err := d.noteLoss(r.losses); err != nil && !transient(err) { // a full disk keeps it in memory
			return err
		}
	}
	if !meta.complete || r.damaged > 0 || d.index.count >= flushRows {
		return d.checkpoint(true)
	}
	return nil
}

// loadSegment replays what of a segment is not in the index. synced is how much
// of it the manifest knows to have been synced: all, if it is sealed.
func (d *Disk) loadSegment(r *replay, s *segment, synced int64) error {
	f, err := d.fs.OpenRead(s.path)
	if errors.Is(err, fs.ErrNotExist) {
		d.log.Error("segment is missing; its shards are lost here", "segment", s.number, "shards", s.shards)
		r.losses = append(r.losses, fmt.Sprintf("segment %d is missing", s.number))
		d.shards -= s.shards
		delete(d.segments, s.number)
		return nil
	}
	if err != nil {
		return err
	}
	err = d.loadOpenSegment(r, s, f, synced)
	return errors.Join(err, f.Close())
}

func (d *Disk) loadOpenSegment(r *replay, s *segment, f vfs.File, synced int64) error {
	size, err := f.Size()
	if err != nil {
		return err
	}
	page := make([]byte, pageBytes)
	if _, err = f.ReadVec([][]byte{page}, 0); err == nil {
		err = checkSuperblock(page, d.owner, s.number, s.kind)
	}
	damaged := err != nil
	if damaged {
		// The records name the segment themselves, so they still count; but it gets
		// no more of them.
		d.log.Error("superblock is damaged", "segment", s.number, "err", err)
	}
	committed := max(s.end, synced)
	end, durable, err := r.segment(s, f, size, synced)
	if err != nil {
		return err
	}
	if end < committed || size < committed {
		d.log.Error("segment was cut short; shards are lost here", "segment", s.number, "bytes", min(end, size), "committed", committed)
		r.losses = append(r.losses, fmt.Sprintf("segment %d was cut at %d of %d bytes", s.number, min(end, size), committed))
		damaged = true
	}
	s.end = max(s.end, end)
	if s.sealed {
		return nil
	}
	return d.writerOf(s.kind).resume(s, size, durable, r.torn, damaged)
}

// openTable opens the index, or begins a new one when it cannot be trusted.
func (d *Disk) openTable() (checkpointMeta, error) {
	files, real := vfs.Unwrap(d.fs).(vfs.Opener)
	if !real {
		if d.index.table = d.cfg.table; d.index.table == nil {
			d.index.table = &memTable{}
		}
		return d.index.table.meta()
	}
	name := filepath.Join(d.cfg.Dir, indexName)
	meta, err := d.tryTable(files, name)
	if err == nil && meta.complete {
		return meta, nil
	}
	if starved(err) {
		return meta, fmt.Errorf("%w: index: %w", cluster.ErrOverloaded, err) // it says nothing of the file
	}
	if err != nil {
		d.log.Warn("index cannot be used; rebuilding it from the segments", "err", err)
	}
	if d.index.table != nil {
		if err := d.index.table.close(); err != nil && !errors.Is(err, errIndex) {
			return meta, err
		}
		d.index.table = nil
	}
	if err := d.fs.Remove(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return meta, err
	}
	meta, err = d.tryTable(files, name)
	if err != nil {
		return meta, fmt.Errorf("%w: new index: %w", cluster.ErrDiskFailed, err)
	}
	return meta, nil
}

func (d *Disk) tryTable(files vfs.Opener, name string) (checkpointMeta, error) {
	t, err := openBolt(files, name, d.owner)
	if err != nil {
		return checkpointMeta{}, err
	}
	d.index.table = t
	return t.meta()
}
