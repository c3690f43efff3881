//go:build e2e

package chaos

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// namespace is a network of its own, known by an open file alone: it is gone when
// this process and those started in it are, whatever becomes of the test.
type namespace struct{ file *os.File }

// newNamespace makes one, with its loopback up.
func newNamespace() (*namespace, error) {
	n := &namespace{}
	err := onThread(func() error {
		if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
			return fmt.Errorf("unshare: %w", err)
		}
		var err error
		n.file, err = os.Open("/proc/thread-self/ns/net")
		return err
	})
	if err != nil {
		return nil, err
	}
	return n, n.run("ip", "link", "set", "lo", "up")
}

// onThread runs f on a thread that it may take into another network, and brings
// it home. A thread that cannot be brought home ends with its goroutine.
func onThread(f func() error) error {
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread()
		home, err := os.Open("/proc/thread-self/ns/net")
		if err != nil {
			done <- err
			return
		}
		defer home.Close()
		err = f()
		if back := unix.Setns(int(home.Fd()), unix.CLONE_NEWNET); back != nil {
			done <- fmt.Errorf("back to the own network: %w", back)
			return
		}
		runtime.UnlockOSThread()
		done <- err
	}()
	return <-done
}

// in runs f on a thread that is in the namespace. Sockets that f opens and
// processes that it starts stay there.
func (n *namespace) in(f func() error) error {
	return onThread(func() error {
		if err := unix.Setns(int(n.file.Fd()), unix.CLONE_NEWNET); err != nil {
			return fmt.Errorf("setns: %w", err)
		}
		return f()
	})
}

// path is what ip calls the namespace.
func (n *namespace) path() string { return fmt.Sprintf("/proc/%d/fd/%d", os.Getpid(), n.file.Fd()) }

// run runs a program in it to its end.
func (n *namespace) run(name string, args ...string) error {
	return n.feed("", name, args...)
}

func (n *namespace) feed(stdin, name string, args ...string) error {
	cmd := exec.Command(name, args...)
	cmd.Stdin = strings.NewReader(stdin)
	if _, err := n.output(cmd); err != nil {
		return fmt.Errorf("%w%s", err, stdin)
	}
	return nil
}

// output runs a command in it to its end and returns what it prints.
func (n *namespace) output(cmd *exec.Cmd) ([]byte, error) {
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	if err := n.in(cmd.Start); err != nil {
		return nil, fmt.Errorf("%s: %w", cmd.Path, err)
	}
	if err := cmd.Wait(); err != nil {
		return nil, fmt.Errorf("%s: %w: %s%s", strings.Join(cmd.Args, " "), err, out.Bytes(), errs.Bytes())
	}
	return out.Bytes(), nil
}

// dial connects from within it.
func (n *namespace) dial(ctx context.Context, network, addr string) (c net.Conn, err error) {
	d := net.Dialer{Timeout: 2 * time.Second}
	err = n.in(func() error {
		c, err = d.DialContext(ctx, network, addr)
		return err
	})
	return c, err
}

func (n *namespace) close() error { return n.file.Close() }
