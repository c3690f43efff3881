package demo

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
	"time"
)

// Files in a node's folder by which another process speaks to the demo.
const (
	stoppedFile = "stopped" // killed on purpose: leave it
	startFile   = "start"   // start it again
	lockFile    = "demo.lock"
)

// lock makes sure that one process at a time runs the demo in dir.
func lock(dir string) (*os.File, error) {
	f, err := os.OpenFile(filepath.Join(dir, lockFile), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		return nil, errors.Join(fmt.Errorf("a demo runs in %s already", dir), f.Close())
	}
	return f, nil
}

// running tells whether a demo owns dir.
func running(dir string) error {
	if _, err := os.Stat(filepath.Join(dir, infoFile)); err != nil {
		return err
	}
	f, err := lock(dir)
	if err != nil {
		return nil
	}
	return errors.Join(fmt.Errorf("no demo is running in %s", dir), f.Close())
}

// StopZone pulls the plug: SIGKILL to every server of the zone. The demo must be
// running: the process ids that one of the past left behind may be anybody's now.
func StopZone(dir, zone string) error {
	if err := running(dir); err != nil {
		return err
	}
	nodes, err := zoneNodes(dir, zone)
	if err != nil {
		return err
	}
	for _, n := range nodes {
		if err := os.WriteFile(filepath.Join(n.Dir, stoppedFile), nil, 0o600); err != nil {
			return err
		}
	}
	for _, n := range nodes {
		if n.PID > 0 {
			if err := syscall.Kill(n.PID, syscall.SIGKILL); err != nil && !errors.Is(err, syscall.ESRCH) {
				return fmt.Errorf("kill node %s: %w", n.ID, err)
			}
		}
	}
	return nil
}

// StartZone plugs it back in and waits until its nodes serve.
func StartZone(ctx context.Context, dir, zone string) error {
	if err := running(dir); err != nil {
		return err
	}
	nodes, err := zoneNodes(dir, zone)
	if err != nil {
		return err
	}
	for _, n := range nodes {
		if err := os.Remove(filepath.Join(n.Dir, stoppedFile)); err != nil && !errors.Is(err, os.ErrNotExist) {
			return err
		}
		if err := os.WriteFile(filepath.Join(n.Dir, startFile), nil, 0o600); err != nil {
			return err
		}
	}
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	for _, n := range nodes {
		for ready(ctx, n) != nil {
			select {
			case <-ctx.Done():
				return fmt.Errorf("node %s does not serve yet: %w", n.ID, ready(context.Background(), n))
			case <-time.After(100 * time.Millisecond):
			}
		}
	}
	return nil
}

func zoneNodes(dir, zone string) ([]NodeInfo, error) {
	info, err := ReadInfo(dir)
	if err != nil {
		return nil, err
	}
	var out []NodeInfo
	for _, n := range info.Nodes {
		if n.Zone == zone {
			out = append(out, n)
		}
	}
	if len(out) == 0 {
		return nil, fmt.Errorf("no zone %q in %s", zone, dir)
	}
	return out, nil
}
