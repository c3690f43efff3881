//go:build !linux

package transport

import (
	"net"
	"syscall"
)

// Elsewhere than on Linux the kernel's own patience holds.
func setUserTimeout(_, _ string, _ syscall.RawConn) error { return nil }

// stillOpen cannot tell here; the first use of the connection will.
func stillOpen(net.Conn) bool { return true }
