package disk

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"

	"bivalve/cluster"
	"bivalve/cluster/disk/disktest"
)

// crashPGs is how many placement groups, that is writers, a crash run has.
const crashPGs = 3

// model is what the store may hold: for each key the states that an observer may
// find, nil for absent. One state: it is known.
type model struct {
	mu     sync.Mutex
	states map[cluster.ShardKey][]*cluster.Shard
	tried  map[cluster.ShardKey]*cluster.Shard // the last that was asked for, nil if that was a delete
}

func newModel() *model {
	return &model{states: map[cluster.ShardKey][]*cluster.Shard{}, tried: map[cluster.ShardKey]*cluster.Shard{}}
}

func (m *model) begin(k cluster.ShardKey, next *cluster.Shard) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if len(m.states[k]) == 0 {
		m.states[k] = []*cluster.Shard{nil}
	}
	m.states[k] = append(m.states[k], next)
	m.tried[k] = next
}

func (m *model) done(k cluster.ShardKey, now *cluster.Shard) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.states[k] = []*cluster.Shard{now}
}

// last is what was asked for last under the key.
func (m *model) last(k cluster.ShardKey) *cluster.Shard {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.tried[k]
}

// find reads a key and tells which of its possible states that is.
func (m *model) find(ctx context.Context, d *Disk, k cluster.ShardKey) (*cluster.Shard, error) {
	got, err := disktest.ReadWhole(ctx, d, k)
	if err != nil && !errors.Is(err, cluster.ErrNotFound) {
		return nil, fmt.Errorf("%s: %w", k, err)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	states := m.states[k]
	if len(states) == 0 {
		states = []*cluster.Shard{nil}
	}
	i := slices.IndexFunc(states, func(s *cluster.Shard) bool {
		return s == nil && err != nil || s != nil && err == nil && bytes.Equal(s.Payload, got)
	})
	if i < 0 {
		return nil, fmt.Errorf("%s: found %d bytes (%v), which is none of %d possible states; known absent %v",
			k, len(got), err, len(states), len(states) == 1 && states[0] == nil)
	}
	return states[i], nil
}

// check compares the disk with the model, and takes over what it finds. Nobody
// writes meanwhile.
func (m *model) check(ctx context.Context, d *Disk) error {
	listed := map[cluster.ShardKey]bool{}
	for pg := range cluster.PG(crashPGs) {
		rows, err := d.List(ctx, pg, nil, MaxListLimit)
		if err != nil {
			return err
		}
		for _, r := range rows {
			listed[r.Key] = true
		}
	}
	shards := len(listed)
	for k := range m.states {
		s, err := m.find(ctx, d, k)
		if err != nil {
			return err
		}
		if listed[k] != (s != nil) {
			return fmt.Errorf("%s: listed %v, read %v", k, listed[k], s != nil)
		}
		delete(listed, k)
		m.done(k, s)
	}
	if len(listed) > 0 {
		return fmt.Errorf("%d shards nobody wrote", len(listed))
	}
	if u := d.Usage(); u.Shards != int64(shards) {
		return fmt.Errorf("usage counts %d shards, there are %d", u.Shards, shards)
	}
	return recount(d)
}

// recount compares the sizes that each segment keeps with the rows of the index.
func recount(d *Disk) error {
	live, shards := map[uint64]int64{}, map[uint64]int64{}
	for pg := range cluster.PG(crashPGs) {
		rows, err := d.index.list(pg, nil, MaxListLimit)
		if err != nil {
			return err
		}
		for _, r := range rows {
			if s := d.segments[r.place.segment]; s != nil {
				live[s.number] += s.shape.size(r.place.length)
				shards[s.number]++
			}
		}
	}
	for n, s := range d.segments {
		if s.live != live[n] || s.shards != shards[n] {
			return fmt.Errorf("segment %d counts %d shards of %d bytes, the index has %d of %d", n, s.shards, s.live, shards[n], live[n])
		}
	}
	return nil
}
