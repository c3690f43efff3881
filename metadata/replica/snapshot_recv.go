package replica

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	"go.etcd.io/raft/v3/raftpb"
	"google.golang.org/protobuf/proto"
)

// maxReceives bounds the snapshots that a host takes in at once, by disk space
// and bandwidth; the sender tries again.
const maxReceives = 2

// HandleSnapshot takes a snapshot that a peer sent with SendSnapshot and returns
// when it is installed. The order keeps every crash harmless:
//
//  1. the file is complete, checked and synced;
//  2. the state machine is replaced by it, durably (the applier does that, so no
//     entry is applied meanwhile);
//  3. raft is told, and the log is reset behind it.
//
// After a crash between 2 and 3 the log is reset at boot. The other order would
// leave a log without the entries that the state still lacks.
//
// What was installed is committed, so it stays right even if raft then has no
// use for the message, because its term is over or the log caught up meanwhile.
func (h *Host) HandleSnapshot(ctx context.Context, from ReplicaID, head []byte, r io.Reader) error {
	select {
	case h.receives <- struct{}{}:
		defer func() { <-h.receives }()
	default:
		return fmt.Errorf("%d snapshots are coming in already: %w", maxReceives, ErrUnavailable)
	}
	m, err := h.checkHead(from, head)
	if err != nil {
		return err
	}
	g := h.group(m.group)
	if g == nil {
		if a := h.absentGroup(m.group); a != nil {
			return a.take(ctx, m, r)
		}
		return ErrNoGroup
	}
	if !g.expects(m) {
		return fmt.Errorf("group %d: a snapshot for replica %d of epoch %d: %w", g.id, m.msg.GetTo(), m.epoch, ErrNoGroup)
	}
	if !g.receiving.CompareAndSwap(false, true) {
		return fmt.Errorf("group %d: a snapshot is coming in already: %w", g.id, ErrUnavailable)
	}
	release := func() { g.receiving.Store(false) }
	path, err := h.receive(ctx, r)
	if err != nil {
		release()
		return fmt.Errorf("group %d: receive snapshot: %w", g.id, err)
	}
	done := make(chan error, 1)
	g.install(m.msg, path, func(err error) {
		release() // not before: the applier still has the file
		done <- err
	})
	select {
	case err := <-done:
		if err == nil {
			h.metrics.snapshots.WithLabelValues("installed").Inc()
		}
		return err
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-h.done:
		return ErrClosed
	}
}

func (h *Host) checkHead(from ReplicaID, head []byte) (groupMessage, error) {
	m, err := decodeHead(head)
	if err != nil {
		return m, err
	}
	if ReplicaID(m.msg.GetTo()).Host() != h.cfg.Replica || ReplicaID(m.msg.GetFrom()).Host() != from.Host() {
		return m, fmt.Errorf("snapshot from %d for %d came from %d to %d: %w",
			m.msg.GetFrom(), m.msg.GetTo(), uint64(from), uint64(h.cfg.Replica), ErrFormat)
	}
	return m, nil
}

// expects tells whether a snapshot is for the replica that is here. One of another
// epoch comes from members that were declared dead, and must not replace anything.
func (g *group) expects(m groupMessage) bool {
	return ReplicaID(m.msg.GetTo()) == g.self && (!epochsCount || m.epoch == g.st.mark.Epoch)
}

// receive writes the stream to a synced file in Dir.
func (h *Host) receive(ctx context.Context, r io.Reader) (string, error) {
	f, err := os.CreateTemp(h.cfg.Dir, leftoverPattern)
	if err != nil {
		return "", err
	}
	_, err = io.Copy(f, newStreamReader(readerFunc(func(p []byte) (int, error) {
		if ctx.Err() != nil {
			return 0, context.Cause(ctx)
		}
		return r.Read(p)
	})))
	if err == nil {
		err = f.Sync()
	}
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	if err != nil {
		return "", errors.Join(err, os.Remove(f.Name()))
	}
	return f.Name(), nil
}

type readerFunc func([]byte) (int, error)

func (f readerFunc) Read(p []byte) (int, error) { return f(p) }

// install queues steps 2 and 3; done is called once, unless the host ends.
func (g *group) install(m *raftpb.Message, path string, done func(error)) {
	drop := func(err error) { done(errors.Join(err, removeIfThere(path))) }
	g.ap.add(applyItem{drop: drop, task: func() error {
		a, err := g.ap.install(m.GetSnapshot().GetMetadata().GetIndex(), path)
		if errors.Is(err, ErrBadSnapshot) {
			done(errors.Join(err, removeIfThere(path)))
			return nil
		}
		if err == nil {
			err = removeIfThere(path)
		}
		if err != nil {
			if g.ap.lost(err) {
				drop(err)
			}
			return err
		}
		g.h.in.call(func() {
			g.stepSnapshot(m, a)
			done(nil)
		})
		return nil
	}})
}

// install replaces the state. The image may be newer than atLeast, which is what
// its sender promised, and never older.
//
// If the state is as new already there is nothing to replace, but raft must still
// be told where it stands: an earlier snapshot may have been installed without
// raft's hearing of it, because a crash came between or its sender was deposed.
// Refusing here would leave the leader sending snapshots for ever.
func (ap *applier) install(atLeast uint64, path string) (Applied, error) {
	if atLeast <= ap.applied.Load().Index {
		err := ap.doFlush() // the log is only ever reset to what is durable
		return *ap.durable.Load(), err
	}
	if err := ap.g.h.cfg.hooks.at(pointBeforeInstall, ap.g.id); err != nil {
		return Applied{}, err
	}
	a, err := ap.sm.InstallSnapshot(path)
	if err != nil {
		return a, fmt.Errorf("group %d: install snapshot: %w", ap.g.id, err)
	}
	if a.Index < atLeast {
		return a, fmt.Errorf("group %d: snapshot of entry %d promised %d", ap.g.id, a.Index, atLeast)
	}
	ap.durable.Store(&a)
	ap.unflushed = 0
	ap.moved(a)
	return a, ap.g.h.cfg.hooks.at(pointAfterInstall, ap.g.id)
}

// stepSnapshot tells raft, with the position that was found inside the image.
func (g *group) stepSnapshot(m *raftpb.Message, a Applied) {
	snap := snapshotAt(a)
	if g.halted != nil || snap == nil {
		return
	}
	told := proto.Clone(m).(*raftpb.Message)
	told.Snapshot = snap
	g.h.step(groupMessage{group: g.id, epoch: g.st.mark.Epoch, msg: told})
}

func removeIfThere(path string) error {
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	return nil
}
