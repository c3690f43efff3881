//go:build e2e

package e2e

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// loopDisk is a disk directory on a small ext4 file system of its own, out of an
// image file.
type loopDisk struct {
	img, dir string
}

// unavailable skips a test for want of something in this machine that no package
// brings, as a Docker engine is. TestDiskFaults has a floor for such rows.
func unavailable(t *testing.T, what string, err error) {
	t.Helper()
	t.Skipf("not on this machine: %s: %v", what, err)
}

// needLoops tells whether file systems can be mounted here.
func needLoops(t *testing.T) {
	t.Helper()
	if os.Geteuid() != 0 {
		unavailable(t, "mounting file systems", errors.New("not root"))
	}
	for _, name := range []string{"mkfs.ext4", "e2fsck", "mount", "umount"} {
		program(t, name)
	}
	dir := t.TempDir()
	d := &loopDisk{img: filepath.Join(dir, "img"), dir: filepath.Join(dir, "mnt")}
	defer func() {
		if err := d.umount(); err != nil {
			t.Error(err)
		}
	}()
	if err := errors.Join(d.make(16, 64), d.mount()); err != nil {
		unavailable(t, "loop mounts", err)
	}
}

// make formats the image; few inodes, so that they can be used up.
func (d *loopDisk) make(mib int64, inodes int) error {
	f, err := os.Create(d.img)
	if err != nil {
		return err
	}
	if err := errors.Join(f.Truncate(mib<<20), f.Close(), os.MkdirAll(d.dir, 0o700)); err != nil {
		return err
	}
	return tool("mkfs.ext4", "-q", "-F", "-b", "4096", "-m", "0", "-N", fmt.Sprint(inodes), d.img)
}

// mount puts it in place. An error that the file system meets makes it read-only.
func (d *loopDisk) mount() error {
	return tool("mount", "-o", "loop,errors=remount-ro", d.img, d.dir)
}

// umount takes it out of its place, whoever uses it, if it is there.
func (d *loopDisk) umount() error {
	if !d.mounted() {
		return nil
	}
	return tool("umount", "-l", d.dir)
}

func (d *loopDisk) mounted() bool { return mountedBelow(d.dir) }

// mountedBelow tells whether anything is mounted at or below the directory.
func mountedBelow(dir string) bool {
	raw, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return true // nobody may remove what could be mounted
	}
	for line := range strings.Lines(string(raw)) {
		if f := strings.Fields(line); len(f) > 4 && (f[4] == dir || strings.HasPrefix(f[4], dir+"/")) {
			return true
		}
	}
	return false
}

// device is the loop device of the image, "" when it has none: nobody uses the
// file system any more.
func (d *loopDisk) device() string {
	files, _ := filepath.Glob("/sys/block/loop*/loop/backing_file")
	for _, f := range files {
		raw, err := os.ReadFile(f)
		if err == nil && strings.TrimSpace(strings.TrimSuffix(strings.TrimSpace(string(raw)), "(deleted)")) == d.img {
			return filepath.Base(filepath.Dir(filepath.Dir(f)))
		}
	}
	return ""
}

// gone waits until nobody uses the file system.
func (d *loopDisk) gone(t testing.TB) {
	t.Helper()
	eventually(t, 30*time.Second, "the file system is let go", func() error {
		if dev := d.device(); dev != "" {
			return fmt.Errorf("%s has it", dev)
		}
		return nil
	})
}

// repair is what an operator does before a file system is mounted again.
func (d *loopDisk) repair() error {
	err := tool("e2fsck", "-fp", d.img)
	var exit *exec.ExitError
	if errors.As(err, &exit) && exit.ExitCode() == 1 { // errors were corrected
		return nil
	}
	return err
}

// ioctl on the mounted directory.
func (d *loopDisk) ioctl(request uint, arg int) error {
	f, err := os.Open(d.dir)
	if err != nil {
		return err
	}
	defer f.Close()
	return unix.IoctlSetPointerInt(int(f.Fd()), request, arg)
}

// The calls that freeze and thaw a file system, and the one that cuts its power.
const (
	ioctlFreeze   = 0xc0045877
	ioctlThaw     = 0xc0045878
	ioctlShutdown = 0x8004587d
	noLogFlush    = 2 // not even the journal is written
)

func (d *loopDisk) freeze() error   { return d.ioctl(ioctlFreeze, 0) }
func (d *loopDisk) thaw() error     { return d.ioctl(ioctlThaw, 0) }
func (d *loopDisk) powerCut() error { return d.ioctl(ioctlShutdown, noLogFlush) }

// limit lets the device end after so many bytes, so that all beyond gives EIO;
// 0 is its whole size.
func (d *loopDisk) limit(bytes uint64) error {
	f, err := os.OpenFile("/dev/"+d.device(), os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	info, err := unix.IoctlLoopGetStatus64(int(f.Fd()))
	if err != nil {
		return err
	}
	info.Sizelimit = bytes
	for {
		if err = unix.IoctlLoopSetStatus64(int(f.Fd()), info); !errors.Is(err, unix.EAGAIN) {
			return err
		}
	}
}

// forget drops what the kernel holds of the segments in memory.
func (d *loopDisk) forget() error {
	names, err := filepath.Glob(filepath.Join(d.dir, "seg-*"))
	for _, name := range names {
		f, oerr := os.Open(name)
		if oerr != nil {
			continue // compacted away
		}
		err = errors.Join(err, unix.Fadvise(int(f.Fd()), 0, 0, unix.FADV_DONTNEED), f.Close())
	}
	return err
}

// tool runs a program to its end.
func tool(name string, args ...string) error {
	cmd := exec.Command(name, args...)
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("%s %s: %w: %s", name, strings.Join(args, " "), err, strings.TrimSpace(out.String()))
	}
	return nil
}
