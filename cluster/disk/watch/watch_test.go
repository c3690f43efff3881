package watch

import (
	"errors"
	"syscall"
	"testing"
	"time"

	"bivalve/cluster/disk/vfs"
)

func TestMonitor(t *testing.T) {
	now := time.Unix(0, 0)
	m := New(func() time.Time { return now })
	takes := func(op vfs.Op, d time.Duration, err error) {
		t.Helper()
		got := m.Around(op, "f", func() error { now = now.Add(d); return err })
		if !errors.Is(got, err) {
			t.Fatal(got)
		}
	}
	for range 99 {
		takes(vfs.OpRead, time.Millisecond, nil)
	}
	takes(vfs.OpRead, time.Second, nil)
	takes(vfs.OpSyncData, 7*time.Millisecond, nil)
	if l := m.Latency(); l.ReadP99 != time.Millisecond || l.SyncP99 != 7*time.Millisecond {
		t.Fatalf("%+v", l)
	}
	takes(vfs.OpRead, time.Millisecond, syscall.EIO)
	if m.FailedReads() != 1 {
		t.Fatal(m.FailedReads())
	}
	if _, any := m.Tick(); any {
		t.Fatal("nothing is under way")
	}
	err := m.Around(vfs.OpSync, "slow", func() error {
		m.Tick()
		takes(vfs.OpRead, 0, nil)
		if c, any := m.Tick(); !any || c.Op != vfs.OpSync || c.Name != "slow" || c.Ticks != 2 {
			t.Fatalf("%+v", c)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	for range windowTicks {
		m.Tick()
	}
	if l := m.Latency(); l != (Latency{}) || m.FailedReads() != 0 {
		t.Fatalf("%+v", l)
	}
}

// TestLatencyOf: what is long ago does not count, what is under way counts by its age.
func TestLatencyOf(t *testing.T) {
	now := time.Unix(0, 0)
	m := New(func() time.Time { return now })
	did := func(op vfs.Op, took time.Duration) {
		t.Helper()
		if err := m.Around(op, "", func() error { now = now.Add(took); return nil }); err != nil {
			t.Fatal(err)
		}
	}
	expect := func(ticks uint64, read, sync time.Duration) {
		t.Helper()
		if got := m.LatencyOf(ticks); got != (Latency{read, sync}) {
			t.Errorf("of %d ticks: %+v", ticks, got)
		}
	}
	did(vfs.OpSyncData, time.Second)
	for range 5 {
		m.Tick()
	}
	did(vfs.OpRead, time.Millisecond)
	expect(5, time.Millisecond, 0)
	expect(6, time.Millisecond, time.Second)
	err := m.Around(vfs.OpSync, "", func() error {
		now = now.Add(3 * time.Second)
		expect(5, time.Millisecond, 0) // younger than a tick
		m.Tick()
		expect(5, time.Millisecond, 3*time.Second)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	expect(1000, time.Millisecond, 3*time.Second)
	for range windowTicks {
		m.Tick()
	}
	expect(1000, 0, 0)
}
