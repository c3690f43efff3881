package disk

import (
	"errors"
	"log/slog"
	"math/rand/v2"
	"syscall"
	"testing"

	"bivalve/cluster/disk/disktest"
	"bivalve/cluster/disk/vfs"
)

// A process that dies between a rename and the sync of the directory leaves a
// manifest that is read, and may be gone after the next power cut. What is
// acknowledged in between must not depend on it.
func TestRenameNotYetSynced(t *testing.T) {
	for _, size := range []int{100, 100_000} {
		mem := vfs.NewMemFS(1<<30, true)
		armed, renamed, dead := false, false, false
		cfg := testConfig(t, vfs.Inject(mem, func(op vfs.Op, name string) (bool, error) {
			renamed = renamed || armed && op == vfs.OpRename && name == "/disk/"+manifestName
			if dead = dead || renamed && op == vfs.OpSyncDir; dead {
				return false, syscall.EIO
			}
			return true, nil
		}))
		plain := cfg
		plain.FS = mem
		mustFormat(t, plain)
		d := mustOpen(t, cfg)
		armed = true
		if err := d.Append(t.Context(), append(sampleShards(), disktest.Shard(disktest.Key(9, 9), size, 1))); !errors.Is(err, syscall.EIO) {
			t.Fatal(err)
		}
		mustClose(t, d)
		mem.Kill()

		d = mustOpen(t, plain)
		s := disktest.Shard(disktest.Key(1, 1), size, 1)
		add(t, d, s)
		mem.Crash(rand.New(rand.NewPCG(1, 1)), 0)
		_ = d.Close() // its file system is gone

		a := &alarms{}
		plain.Logger = slog.New(a)
		d = mustOpen(t, plain)
		have(t, d, s)
		mustClose(t, d)
		if err := a.err(func(string) bool { return false }); err != nil {
			t.Fatal(err)
		}
	}
}
