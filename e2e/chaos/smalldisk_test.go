//go:build e2e

package chaos

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

const (
	smallMiB     = 768
	smallReserve = 64 << 20
)

// mountSmall puts the disks of the last node of each zone on file systems of their
// own, before the nodes format them.
func (r *region) mountSmall(s shape) error {
	for _, zone := range []string{"a", "b"} {
		n := r.node(fmt.Sprint(zone, s.perZone))
		for i, dir := range n.disks {
			img := filepath.Join(r.dir, fmt.Sprintf("%s-%d.img", n.id, i))
			f, err := os.Create(img)
			if err != nil {
				return err
			}
			if err := errors.Join(f.Truncate(smallMiB<<20), f.Close(), os.MkdirAll(dir, 0o700),
				tool("mkfs.ext4", "-q", "-F", "-m", "0", img), tool("mount", "-o", "loop", img, dir)); err != nil {
				return err
			}
			r.mounts = append(r.mounts, dir)
		}
		r.small[n.id] = n.disks[0]
	}
	return nil
}

// canMount says why file systems cannot be mounted here.
func canMount() error {
	if _, err := exec.LookPath("mkfs.ext4"); err != nil {
		return err
	}
	dir, err := tempDir("mount")
	if err != nil {
		return err
	}
	img, at := filepath.Join(dir, "img"), filepath.Join(dir, "at")
	err = errors.Join(os.WriteFile(img, nil, 0o600), os.Truncate(img, 16<<20), os.Mkdir(at, 0o700),
		tool("mkfs.ext4", "-q", "-F", img), tool("mount", "-o", "loop", img, at))
	if err == nil {
		err = tool("umount", at)
	}
	return errors.Join(err, os.RemoveAll(dir))
}

// tool runs a program to its end.
func tool(name string, args ...string) error {
	out, err := exec.Command(name, args...).CombinedOutput()
	if err != nil {
		return fmt.Errorf("%s %s: %w: %s", name, strings.Join(args, " "), err, bytes.TrimSpace(out))
	}
	return nil
}
