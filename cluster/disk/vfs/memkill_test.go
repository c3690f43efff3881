package vfs

import (
	"errors"
	"io/fs"
	"math/rand/v2"
	"testing"
)

// A killed process loses no bytes until the power goes; a failed sync loses them
// though they are read, and though the next sync succeeds.
func TestKillAndFailedSync(t *testing.T) {
	m := NewMemFS(1<<20, true)
	must(t, m.MkdirAll("/d"))
	rng := rand.New(rand.NewPCG(1, 1))
	f, err := m.Create("/d/f")
	must(t, err)
	_, err = m.Lock("/d/lock")
	must(t, err)
	put(t, f, 0, "kept")
	must(t, f.Sync())
	must(t, m.SyncDir("/d"))
	put(t, f, 0, "lost")
	m.Kill()
	if got := get(t, m, "/d/f"); got != "lost" {
		t.Errorf("after a kill: %q", got)
	}
	if err := f.Sync(); !errors.Is(err, fs.ErrClosed) {
		t.Errorf("handle of before the kill: %v", err)
	}
	_, err = m.Lock("/d/lock")
	must(t, err)
	f, err = m.OpenWrite("/d/f", false)
	must(t, err)
	m.FailSync("/d/absent", rng, 0)
	m.FailSync("/d/f", rng, 0)
	must(t, f.Sync())
	if got := get(t, m, "/d/f"); got != "lost" {
		t.Errorf("after a failed sync: %q", got)
	}
	m.Crash(rng, 1)
	if got := get(t, m, "/d/f"); got != "kept" {
		t.Errorf("after a failed sync and a power cut: %q", got)
	}
	f, err = m.OpenWrite("/d/f", false)
	must(t, err)
	put(t, f, 0, "here")
	m.FailSync("/d/f", rng, 1)
	m.Crash(rng, 0)
	if got := get(t, m, "/d/f"); got != "here" {
		t.Errorf("a part that reached the disk: %q", got)
	}
}
