//go:build e2e

package chaos

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
)

// tempPrefix begins the name of every folder of ours; the id of its process follows, so
// that it can be told when nobody needs it any more.
const tempPrefix = "bivalve-chaos-"

func tempDir(what string) (string, error) {
	return os.MkdirTemp("", fmt.Sprintf("%s%d-%s-", tempPrefix, os.Getpid(), what))
}

// withOwnMounts begins the program anew with mounts of its own, which are gone when it
// and the processes that it started are, whatever becomes of the test. It returns where
// that was done, or cannot be.
func withOwnMounts() error {
	const done = "BIVALVE_CHAOS_OWN_MOUNTS"
	if os.Getenv(done) != "" || os.Geteuid() != 0 {
		return nil
	}
	unshare, err := exec.LookPath("unshare")
	if err != nil {
		return err
	}
	self, err := os.Executable()
	if err != nil {
		return err
	}
	if err := tool(unshare, "--mount", "--propagation", "private", "true"); err != nil {
		return err
	}
	args := append([]string{"unshare", "--mount", "--propagation", "private", self}, os.Args[1:]...)
	return syscall.Exec(unshare, args, append(os.Environ(), done+"=1"))
}

// clearLeftovers removes the folders of rounds that were killed, and unmounts what is
// still mounted in them.
func clearLeftovers() error {
	dirs, err := filepath.Glob(filepath.Join(os.TempDir(), tempPrefix+"*"))
	errs := []error{err}
	for _, dir := range dirs {
		var pid int
		if _, err := fmt.Sscanf(strings.TrimPrefix(filepath.Base(dir), tempPrefix), "%d-", &pid); err != nil {
			continue // not named as ours are
		}
		if syscall.Kill(pid, 0) != syscall.ESRCH {
			continue
		}
		errs = append(errs, unmountBelow(dir), os.RemoveAll(dir))
	}
	return errors.Join(errs...)
}

func unmountBelow(dir string) error {
	raw, err := os.ReadFile("/proc/self/mounts")
	errs := []error{err}
	for line := range strings.Lines(string(raw)) {
		if f := strings.Fields(line); len(f) > 1 && strings.HasPrefix(f[1], dir+"/") {
			errs = append(errs, tool("umount", "-l", f[1]))
		}
	}
	return errors.Join(errs...)
}
