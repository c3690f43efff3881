package disk

import (
	"errors"
	"math/rand/v2"
	"testing"

	"bivalve/cluster/disk/disktest"
	"bivalve/cluster/disk/vfs"
)

// Wherever power goes while a disk is formatted, it is one afterwards, or can be
// made one; and it is one for good when Format has said so.
func TestCrashFormat(t *testing.T) {
	for cut := 1; ; cut++ {
		for seed := range uint64(20) {
			rng := rand.New(rand.NewPCG(seed, 9))
			mem := vfs.NewMemFS(1<<30, true)
			cfg := testConfig(t, mem)
			left := cut
			cfg.FS = vfs.Inject(mem, func(op vfs.Op, _ string) (bool, error) {
				if changes[op] {
					left--
				}
				if left > 0 {
					return true, nil
				}
				return left == 0 && seed%2 == 0, errPower
			})
			_, ferr := Format(cfg)
			if ferr != nil && !ours(ferr) {
				t.Fatalf("cut %d, seed %d: %v", cut, seed, ferr)
			}
			if seed%3 == 0 {
				mem.Kill()
			} else {
				mem.Crash(rng, rng.Float64())
			}
			cfg.FS = mem
			d, err := Open(cfg)
			if err != nil {
				if ferr == nil {
					t.Fatalf("cut %d, seed %d: formatted, then: %v", cut, seed, err)
				}
				if _, again := Format(cfg); again != nil {
					t.Fatalf("cut %d, seed %d: open: %v; format again: %v", cut, seed, err, again)
				}
				d = mustOpen(t, cfg)
			}
			s := disktest.Shard(disktest.Key(1, 1), 100, 1)
			add(t, d, s)
			mem.Crash(rng, 0)
			if err := d.Close(); err == nil {
				t.Fatal("closed after a power cut")
			}
			d, err = Open(cfg)
			if err != nil {
				t.Fatalf("cut %d, seed %d: after the first shard: %v", cut, seed, errors.Join(err, ferr))
			}
			have(t, d, s)
			mustClose(t, d)
			if ferr == nil && seed == 19 {
				return
			}
		}
	}
}
