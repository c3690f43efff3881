package replica

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"go.etcd.io/raft/v3"
	"go.etcd.io/raft/v3/raftpb"
)

// snapshotStall ends a transfer of which the receiver has taken nothing for so
// long, or whose end it has not confirmed.
const snapshotStall = time.Minute

// snapshotJob is one snapshot on its way to one peer.
type snapshotJob struct {
	g    *group
	to   ReplicaID
	head []byte
}

// sendSnapshot starts to answer raft's wish. The state is flushed behind all that
// was handed over, so the image includes the membership change that brought the
// receiver in: one without it would be refused there.
func (g *group) sendSnapshot(m *raftpb.Message) {
	to := ReplicaID(m.GetTo())
	if g.sending[to] {
		return // raft is told when that one ends
	}
	head, err := encodeHead(g.id, g.st.mark.Epoch, m)
	if err != nil {
		g.h.cfg.Logger.Error("cannot encode a snapshot", "group", uint32(g.id), "err", err)
		g.h.in.call(func() { g.rn.ReportSnapshot(uint64(to), raft.SnapshotFailure) })
		return
	}
	g.sending[to] = true
	job := &snapshotJob{g: g, to: to, head: head}
	g.ap.add(applyItem{drop: job.report, task: func() error {
		if err := g.ap.doFlush(); err != nil {
			return err
		}
		if err := g.h.cfg.hooks.at(pointSnapshotQueued, g.id); err != nil {
			return err
		}
		if g.h.cfg.hooks.runSnapshot != nil {
			g.h.cfg.hooks.runSnapshot(job)
			return nil
		}
		g.h.workers.Add(1)
		go func() {
			defer g.h.workers.Done()
			job.report(job.run())
		}()
		return nil
	}})
}

// run streams the image; the pipe's writer ends before it returns.
func (j *snapshotJob) run() error {
	ctx, cancel := context.WithCancelCause(context.Background())
	defer cancel(nil)
	pr, pw := io.Pipe()
	wrote := make(chan error, 1)
	go func() {
		err := j.stream(pw)
		pw.CloseWithError(err) // nil means EOF
		wrote <- err
	}()
	stalled := time.AfterFunc(snapshotStall, func() {
		cancel(fmt.Errorf("receiver took nothing for %v", snapshotStall))
	})
	defer stalled.Stop()
	// Neither a peer that hangs nor the end of this host may leave the writer behind.
	defer context.AfterFunc(ctx, func() { pr.CloseWithError(context.Cause(ctx)) })()
	ended := make(chan struct{})
	defer close(ended)
	go func() {
		select {
		case <-j.g.h.stop:
			cancel(ErrClosed)
		case <-ended:
		}
	}()
	err := j.g.h.cfg.Transport.SendSnapshot(ctx, j.to, j.head, readerFunc(func(p []byte) (int, error) {
		stalled.Reset(snapshotStall)
		return pr.Read(p)
	}))
	pr.CloseWithError(io.ErrClosedPipe)
	return errors.Join(err, <-wrote)
}

func (j *snapshotJob) stream(w io.Writer) error {
	sw := newStreamWriter(w)
	if _, err := j.g.ap.sm.StreamSnapshot(sw); err != nil {
		j.g.ap.lost(err)
		return fmt.Errorf("group %d: stream snapshot: %w", j.g.id, err)
	}
	return sw.end()
}

// report tells raft how it went; on failure it will ask again.
func (j *snapshotJob) report(err error) {
	g, status := j.g, raft.SnapshotFinish
	if err != nil {
		status = raft.SnapshotFailure
		g.h.cfg.Logger.Warn("snapshot was not delivered", "group", uint32(g.id), "to", uint64(j.to), "err", err)
	}
	g.h.metrics.snapshots.WithLabelValues(map[bool]string{true: "sent", false: "failed"}[err == nil]).Inc()
	g.h.in.call(func() {
		delete(g.sending, j.to)
		if g.halted == nil {
			g.rn.ReportSnapshot(uint64(j.to), status)
			g.dirty = true
		}
	})
}
