package server

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"sync"
	"time"

	"bivalve/cluster"
	"bivalve/cluster/disk"

	"golang.org/x/sync/errgroup"
)

const (
	// A disk that is not there is looked for at once, then less and less often.
	reopenFirst = time.Second
	reopenMost  = 10 * time.Second
	// closeWait is how long the end of a node waits for a disk that hangs.
	closeWait = 5 * time.Second
)

// diskSlot is one configured directory and the disk in it, if it can be had. The
// disk is opened again when it was lost: unmounted and back, or hung and back, or
// with a damaged index.
type diskSlot struct {
	dir    string
	cfg    disk.Config
	open   func(expected cluster.DiskID) (*disk.Disk, error) // zero: whichever is there
	closed func(*disk.Disk)
	logger *slog.Logger

	opening sync.Mutex // held by take

	mu    sync.RWMutex
	disk  *disk.Disk     // nil: out of service
	id    cluster.DiskID // of the disk that was here last
	state disk.State     // why there is none
	why   error
	slow  bool

	pace pace // judgePaces owns it
}

// get is the disk, or why there is none.
func (s *diskSlot) get() (*disk.Disk, error) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	if s.disk == nil {
		return nil, fmt.Errorf("%w: %w", cluster.ErrDiskFailed, s.why)
	}
	return s.disk, nil
}

// holds tells whether the slot is that of the disk, in service or not.
func (s *diskSlot) holds(id cluster.DiskID) bool {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.id == id && !id.IsZero()
}

// take opens the disk. Once one was here it must be that one: another of the same
// cluster belongs elsewhere, and opening it would write to it.
func (s *diskSlot) take() error {
	s.opening.Lock()
	defer s.opening.Unlock()
	s.mu.RLock()
	expected, there := s.id, s.disk != nil
	s.mu.RUnlock()
	if there {
		return nil
	}
	d, err := s.open(expected)
	s.mu.Lock()
	defer s.mu.Unlock()
	if err != nil {
		if s.why == nil || s.why.Error() != err.Error() { // not again at each look
			s.logger.Error("a disk is out of service", "err", err)
		}
		s.why, s.state = err, disk.StateFailed
		if errors.Is(err, fs.ErrNotExist) || errors.Is(err, cluster.ErrInvalid) {
			s.state = disk.StateMissing
		}
		return err
	}
	s.disk, s.id, s.state, s.why = d, d.ID(), "", nil
	return nil
}

// format makes the empty directory of a slot without a disk a new one, on an
// operator's word, and opens it. What was here before is not waited for any more.
func (s *diskSlot) format() (cluster.DiskID, error) {
	s.opening.Lock()
	id, err := disk.Format(s.cfg)
	if err == nil {
		s.mu.Lock()
		s.id = id
		s.mu.Unlock()
	}
	s.opening.Unlock()
	if err != nil {
		return id, err
	}
	return id, s.take()
}

// slotList are the slots of a node, which get more while it runs.
type slotList struct {
	mu   sync.RWMutex
	list []*diskSlot
}

func (l *slotList) all() []*diskSlot {
	l.mu.RLock()
	defer l.mu.RUnlock()
	return l.list[:len(l.list):len(l.list)]
}

func (l *slotList) add(s *diskSlot) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.list = append(l.list, s)
}

// give takes the disk out of the slot.
func (s *diskSlot) give() *disk.Disk {
	s.mu.Lock()
	defer s.mu.Unlock()
	d := s.disk
	if d != nil {
		s.disk, s.state, s.why = nil, d.Usage().State, d.Failed()
	}
	return d
}

// Run does the work of the disk until ctx ends, and has it opened again when it
// was lost. The disk stays open at the end, for Close.
func (s *diskSlot) Run(ctx context.Context) error {
	wait := reopenFirst
	for ctx.Err() == nil {
		d, err := s.get()
		if err != nil {
			select {
			case <-ctx.Done():
				return nil
			case <-time.After(wait):
			}
			if s.take() == nil {
				s.logger.Info("the disk is in service again", "disk", s.id.String())
				wait = reopenFirst
			} else {
				wait = min(2*wait, reopenMost)
			}
			continue
		}
		var g errgroup.Group
		g.Go(func() error { return d.Run(ctx) })
		g.Go(func() error { return d.Watch(ctx) })
		if err := g.Wait(); err != nil || ctx.Err() != nil {
			return err
		}
		s.logger.Warn("the disk is lost; looking for it", "state", d.Usage().State, "err", d.Failed())
		s.give()
		if err := closeDisk(ctx, d); err != nil {
			s.logger.Warn("a lost disk did not close well", "err", err)
		}
	}
	return nil
}

// closeDisk closes a disk, which may take as long as it hangs.
func closeDisk(ctx context.Context, d *disk.Disk) error {
	done := make(chan error, 1)
	go func() { done <- d.Close() }() // left behind if the disk hangs when the node ends
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
		return fmt.Errorf("disk %s: not closed: %w", d.ID(), context.Cause(ctx))
	}
}

// Close ends the use of the disk.
func (s *diskSlot) Close() error {
	d := s.give()
	if d == nil {
		return nil
	}
	ctx, cancel := context.WithTimeoutCause(context.Background(), closeWait, errors.New("it hangs"))
	defer cancel()
	err := closeDisk(ctx, d)
	if err == nil {
		s.closed(d)
	}
	return err
}
