//go:build e2e

package chaos

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

// Where the kernel has no netem, packets between two subnets are sent through this
// process: the router hands them to a TUN device, and they go back into it after
// their delay, in order.

const (
	delayDevice = "slow0"
	// queued is how many packets wait at most: more are dropped, as a long line
	// with a full buffer does.
	queued = 8192
)

// delay holds up everything between two subnets.
type delay struct {
	tun       *os.File
	line      chan late
	done      chan struct{}
	workers   sync.WaitGroup
	carried   atomic.Int64
	overflown atomic.Int64
}

type late struct {
	packet []byte
	due    time.Time
}

// slow begins to delay by so much, give or take the jitter, in each direction.
func (n *network) slow(x, y string, by, jitter time.Duration, rng *rand.Rand) (undo func() error, err error) {
	d := &delay{line: make(chan late, queued), done: make(chan struct{})}
	err = n.router.in(func() error {
		fd, err := unix.Open("/dev/net/tun", unix.O_RDWR|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
		if err != nil {
			return err
		}
		req, err := unix.NewIfreq(delayDevice)
		if err != nil {
			return errors.Join(err, unix.Close(fd))
		}
		req.SetUint16(unix.IFF_TUN | unix.IFF_NO_PI)
		if err := unix.IoctlIfreq(fd, unix.TUNSETIFF, req); err != nil {
			return errors.Join(err, unix.Close(fd))
		}
		d.tun = os.NewFile(uintptr(fd), "tun")
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("tun: %w", err)
	}
	d.workers.Go(func() { d.take(by, jitter, rng) })
	d.workers.Go(d.give)
	rules := func(verb string) string {
		return fmt.Sprintf(`rule %s pref 50 iif %s lookup main
rule %s pref 100 from %s to %s lookup 100
rule %s pref 101 from %s to %s lookup 100
`, verb, delayDevice, verb, x, y, verb, y, x)
	}
	err = n.router.feed(fmt.Sprintf("link set %s up\nroute add default dev %s table 100\n", delayDevice, delayDevice)+rules("add"), "ip", "-batch", "-")
	stop := func() error {
		off := n.router.feed(rules("del"), "ip", "-batch", "-")
		close(d.done)
		gone := d.tun.Close() // the device goes with it
		d.workers.Wait()
		if d.carried.Load() == 0 {
			return errors.Join(off, gone, errors.New("no packet was delayed"))
		}
		return errors.Join(off, gone)
	}
	if err != nil {
		return nil, errors.Join(err, stop())
	}
	return stop, nil
}

func (d *delay) take(by, jitter time.Duration, rng *rand.Rand) {
	buf := make([]byte, 1<<16)
	var last time.Time
	for {
		n, err := d.tun.Read(buf)
		if err != nil {
			close(d.line)
			return
		}
		due := time.Now().Add(by + time.Duration(rng.Int64N(int64(2*jitter)+1)) - jitter)
		if due.Before(last) {
			due = last
		}
		last = due
		select {
		case d.line <- late{append([]byte(nil), buf[:n]...), due}:
		default:
			d.overflown.Add(1)
		}
	}
}

func (d *delay) give() {
	for p := range d.line {
		select {
		case <-time.After(time.Until(p.due)):
		case <-d.done:
			continue // the device is gone; what was on the line is lost
		}
		if _, err := d.tun.Write(p.packet); err == nil {
			d.carried.Add(1)
		}
	}
}
