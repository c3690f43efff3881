package catalog_test

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"bivalve/metadata/catalog"
	"bivalve/metadata/catalog/catalogtest"
	"bivalve/metadata/replica"
)

// levels notes by which level the last command was to be applied, and has it applied by
// the one that this program has.
type levels struct {
	*catalogtest.Groups
	mu   sync.Mutex
	last uint8
}

func (l *levels) Propose(ctx context.Context, g replica.GroupID, data []byte) ([]byte, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.last, data[0] = data[0], 1
	return l.Groups.Propose(ctx, g, data)
}

// TestRollingUpgrade: nodes are restarted with a later version one by one. Commands are of
// the old level until the last of them has reported, whoever proposes them, and of the
// next one soon after.
func TestRollingUpgrade(t *testing.T) {
	ctx := context.Background()
	groups := &levels{Groups: catalogtest.Open(t, 1)}
	zero := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	now := zero
	at := func(level uint8) *catalog.Catalog {
		return must(catalog.New(catalog.Config{Groups: groups, Local: groups, Partitions: 1, Level: level,
			Now: func() time.Time { return now }, Elapsed: func() time.Duration { return now.Sub(zero) }}))(t)
	}
	nodes := []*catalog.Catalog{at(1), at(1), at(1)}
	pass := func() {
		for i, n := range nodes {
			now = now.Add(10 * time.Second)
			if err := n.ReportClock(ctx, string(rune('a'+i)), len(nodes)); err != nil {
				t.Fatal(err)
			}
		}
	}
	buckets := 0
	expect := func(when string, want uint8) {
		t.Helper()
		for i, n := range nodes {
			buckets++
			if _, err := n.CreateBucket(ctx, fmt.Sprint("bucket", buckets)); err != nil {
				t.Fatal(err)
			}
			if groups.last != want || n.Level() != want {
				t.Errorf("%s: node %d proposes by level %d (%d), want %d", when, i, groups.last, n.Level(), want)
			}
		}
	}
	expect("before any report", 1)
	pass()
	for i := range nodes {
		nodes[i] = at(2)
		expect("as soon as it runs", 1)
		if i < 2 {
			pass()
			expect("with an older one left", 1)
		}
	}
	pass()
	now = now.Add(10 * time.Second)
	expect("all are new", 2)
}
