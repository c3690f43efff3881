package servertest

import (
	"sync"
	"time"

	"bivalve/cluster"
	"bivalve/metadata/replica"
)

// delays are how much longer things take than they should, by what they are.
type delays struct {
	mu sync.Mutex
	by map[string]time.Duration
}

func (d *delays) set(what string, by time.Duration) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.by == nil {
		d.by = map[string]time.Duration{}
	}
	d.by[what] = by
}

func (d *delays) wait(what string) {
	d.mu.Lock()
	by := d.by[what]
	d.mu.Unlock()
	if by > 0 {
		time.Sleep(by) // this is the fault itself
	}
}

// throttle is a line that carries so many bytes a second.
type throttle struct {
	mu    sync.Mutex
	rate  float64 // 0: no limit
	delay time.Duration
	free  time.Time // when it has sent what it was given
}

// send waits as long as n bytes take, behind those that others have given it.
func (l *throttle) send(n int) {
	l.mu.Lock()
	if l.rate == 0 {
		l.mu.Unlock()
		return
	}
	now := time.Now()
	if l.free.Before(now) {
		l.free = now
	}
	l.free = l.free.Add(time.Duration(float64(n) / l.rate * float64(time.Second)))
	wait := l.free.Add(l.delay).Sub(now)
	l.mu.Unlock()
	time.Sleep(wait) // this is the fault itself
}

// SlowLine limits what the nodes of each zone send to those of the other that they
// call: to so many bytes a second, all together, each write that much later.
func (r *Region) SlowLine(bytesPerSecond int, delay time.Duration) {
	for _, l := range []*throttle{&r.lines[0], &r.lines[1]} {
		l.mu.Lock()
		l.rate, l.delay = float64(bytesPerSecond), delay
		l.mu.Unlock()
	}
}

// line is the one that a connection uses; nil within a zone and to the witness.
func (r *Region) line(from, to cluster.NodeID) *throttle {
	a, b := r.Member(from).Zone, r.Member(to).Zone
	switch {
	case a == ZoneA && b == ZoneB:
		return &r.lines[0]
	case a == ZoneB && b == ZoneA:
		return &r.lines[1]
	}
	return nil
}

// SlowDisk makes each read and each sync of a node's disk take so much longer.
func (r *Region) SlowDisk(id cluster.NodeID, disk int, by time.Duration) {
	r.slow.set(r.Disk(id, disk), by)
}

// SlowNode delays what a node sends to the nodes that it calls, and they to it.
func (r *Region) SlowNode(id cluster.NodeID, by time.Duration) { r.slow.set(string(id), by) }

// SlowLog makes each synced write to a node's raft log take so much longer.
func (r *Region) SlowLog(id cluster.NodeID, by time.Duration) { r.slow.set("log of "+string(id), by) }

// slowLog is a raft log on a slow file system.
type slowLog struct {
	replica.LogStore
	wait func()
}

func (l slowLog) Save(updates []replica.Update, sync bool) error {
	if sync {
		l.wait()
	}
	return l.LogStore.Save(updates, sync)
}
