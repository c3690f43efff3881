package vfs

import (
	"testing"

	"golang.org/x/sys/unix"
)

func TestRoom(t *testing.T) {
	for _, c := range []struct {
		name         string
		files, ffree uint64
		free         int64
	}{
		{"inodes left", 100, 1, 50 * 4096},
		{"no inode left", 100, 0, 0},
		{"inodes are not counted", 0, 0, 50 * 4096},
	} {
		st := &unix.Statfs_t{Bsize: 4096, Blocks: 90, Bfree: 60, Bavail: 50, Files: c.files, Ffree: c.ffree}
		if capacity, free := room(st); capacity != 90*4096 || free != c.free {
			t.Errorf("%s: %d free of %d, want %d", c.name, free, capacity, c.free)
		}
	}
}
