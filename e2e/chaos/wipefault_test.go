//go:build e2e

package chaos

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"
)

// wipeDisk empties the folder of a disk, of a node that runs or of one that is down for
// the while, and then gives its place to an empty one. Everything has all its shards
// before: a second lost disk may be more than the code survives.
func wipeDisk(t *turn) (func() error, error) {
	n, live := t.anyNode(), t.rng.IntN(2) == 0
	dir := pick(t.rng, n.disks)
	if err := t.quiet(t.ctx); err != nil {
		return nil, fmt.Errorf("%w: %w", errNotNow, err)
	}
	how, err := "killed", error(nil)
	if live {
		how = "running"
	} else {
		err = n.kill()
	}
	undo := func() error {
		if err := errors.Join(n.start(), t.noticed(n, dir)); err != nil {
			return err
		}
		return t.replaceDisk(n, dir)
	}
	return t.begun(undo, errors.Join(err, empty(dir)), "%s of %s, which is %s", filepath.Base(dir), n.id, how)
}

// rotAndWipe flips bytes of a disk and then empties one of another node of the zone:
// what is rebuilt of the second must not be made of what rots on the first.
func rotAndWipe(t *turn) (func() error, error) {
	zone, _ := t.anyZone()
	nodes := t.zone(zone)
	t.rng.Shuffle(len(nodes), func(i, j int) { nodes[i], nodes[j] = nodes[j], nodes[i] })
	rotten, wiped := pick(t.rng, nodes[0].disks), pick(t.rng, nodes[1].disks)
	if err := t.quiet(t.ctx); err != nil {
		return nil, fmt.Errorf("%w: %w", errNotNow, err)
	}
	flips, err := flip(t.rng, rotten)
	if err == nil {
		err = empty(wiped)
	}
	undo := func() error {
		if err := t.noticed(nodes[1], wiped); err != nil {
			return err
		}
		return errors.Join(t.replaceDisk(nodes[1], wiped), t.scrubbed())
	}
	return t.begun(undo, err, "%d bytes of %s of %s, %s of %s", flips, filepath.Base(rotten), nodes[0].id, filepath.Base(wiped), nodes[1].id)
}

// empty removes all that is in a folder. What the owner makes meanwhile goes too.
func empty(dir string) error {
	for {
		names, err := os.ReadDir(dir)
		if err != nil || len(names) == 0 {
			return err
		}
		for _, name := range names {
			if err := os.RemoveAll(filepath.Join(dir, name.Name())); err != nil {
				return err
			}
		}
	}
}

// noticed waits until a node knows that one of its disks is lost.
func (r *region) noticed(n *node, dir string) error {
	ctx, cancel := context.WithTimeout(context.Background(), orderWithin)
	defer cancel()
	return until(ctx, 100*time.Millisecond, func() error { return r.lost(ctx, n, dir) })
}

// replaceDisk gives the place of a disk that was wiped to an empty one, and waits until
// that has all shards.
func (r *region) replaceDisk(n *node, dir string) error {
	return errors.Join(empty(dir), r.order(movedWithin, "disk", "replace", "--node", n.id, "--path", dir, "--force", "--wait"))
}

// lost is nil when a node says of one of its disks that it is out of service.
func (r *region) lost(ctx context.Context, n *node, dir string) error {
	s, err := n.status(ctx)
	if err != nil {
		return err
	}
	for _, o := range s.Nodes {
		if string(o.ID) != n.id || o.Local == nil {
			continue
		}
		for _, d := range o.Local.Disks {
			if d.Path == dir && d.Failed != "" {
				return nil
			}
		}
	}
	return fmt.Errorf("%s says nothing of the loss of %s", n.id, dir)
}
