package transport

import (
	"net"
	"syscall"

	"golang.org/x/sys/unix"
)

// userTimeoutMs ends a connection whose peer acknowledges nothing. Without it a
// connection that outlives a partition waits for TCP's backed-off retransmission,
// tens of seconds after the link is back.
const userTimeoutMs = 5000

func setUserTimeout(_, _ string, rc syscall.RawConn) error {
	var err error
	if e := rc.Control(func(fd uintptr) {
		err = unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT, userTimeoutMs)
	}); e != nil {
		return e
	}
	return err
}

// stillOpen tells whether the peer has neither closed the idle connection nor
// sent anything on it, which would be out of turn.
func stillOpen(c net.Conn) bool {
	sc, ok := c.(syscall.Conn)
	if !ok {
		return true
	}
	rc, err := sc.SyscallConn()
	if err != nil {
		return false
	}
	open := false
	err = rc.Control(func(fd uintptr) { // Read would fail for the deadline of the last call
		var b [1]byte
		_, _, e := unix.Recvfrom(int(fd), b[:], unix.MSG_PEEK|unix.MSG_DONTWAIT)
		open = e == unix.EAGAIN
	})
	return err == nil && open
}
