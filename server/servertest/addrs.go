package servertest

import (
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"testing"
)

// loopback is a loopback address of this process's own, so that several test
// processes do not take ports from each other; 127.0.0.1 where there is only that.
func loopback() string {
	pid := os.Getpid()
	own := fmt.Sprintf("127.%d.%d.%d", 1+pid>>16&0x7f, pid>>8&0xff, 1+pid&0x7f)
	l, err := net.Listen("tcp", own+":0")
	if err != nil {
		return "127.0.0.1"
	}
	if l.Close() != nil {
		return "127.0.0.1"
	}
	return own
}

// freeAddrs are loopback ports that were free, for TCP and UDP, a moment ago. They
// lie below the range that the kernel hands out, so that no client's connection
// takes one while its node is stopped.
func freeAddrs(t testing.TB, n int) []string {
	t.Helper()
	var out []string
	var held []io.Closer
	host := loopback()
	tries := 0
	for len(out) < n {
		l, err := net.Listen("tcp", fmt.Sprintf("%s:%d", host, 25_000+rand.IntN(7_000)))
		if err != nil {
			if tries++; tries > 1000 {
				t.Fatal(err)
			}
			continue // taken
		}
		held = append(held, l)
		if u, err := net.ListenPacket("udp", l.Addr().String()); err == nil {
			held, out = append(held, u), append(out, l.Addr().String())
		}
	}
	for _, h := range held {
		if err := h.Close(); err != nil {
			t.Fatal(err)
		}
	}
	return out
}
