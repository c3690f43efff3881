//go:build e2e

package server_test

import (
	"bytes"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"testing"
	"time"

	"bivalve/server/servertest"
)

// TestGarbageOnEveryPort: what is no request, on ports that are not for clients, is not
// answered as one and ends the connection at the latest when its sender does; the
// region serves as before.
func TestGarbageOnEveryPort(t *testing.T) {
	r := servertest.Start(t, servertest.Options{NodesPerZone: 1})
	l := newLedger(t, r)
	l.put("a1", "before")
	noise := make([]byte, 64<<10)
	random := rand.New(rand.NewPCG(1, 2))
	for i := range noise {
		noise[i] = byte(random.Uint32())
	}
	m := r.Member("a1")
	for port, addr := range map[string]string{"transport": m.Addr, "admin": m.Admin, "gossip": m.Gossip} {
		for name, sent := range map[string][]byte{
			"noise":       noise,
			"aws-chunked": []byte("PUT /ledger/k HTTP/1.1\r\nHost: x\r\nContent-Encoding: aws-chunked\r\nContent-Length: 99999\r\n\r\n10000;chunk-signature=00\r\n"),
			"zeros":       make([]byte, 64<<10),
			"nothing":     nil,
		} {
			c, err := net.Dial("tcp", addr)
			fatal(t, err)
			fatal(t, c.SetDeadline(time.Now().Add(30*time.Second)))
			_, _ = c.Write(sent)              // the other side may have had enough already
			_ = c.(*net.TCPConn).CloseWrite() // and have ended the connection
			got, err := io.ReadAll(c)
			if errors.Is(err, os.ErrDeadlineExceeded) {
				t.Errorf("%s: %s: the connection is still open", port, name)
			}
			if bytes.HasPrefix(got, []byte("HTTP/1.1 2")) {
				t.Errorf("%s: %s is answered %.40q", port, name, got)
			}
			fatal(t, c.Close())
		}
	}
	l.check("a1")
	l.put("b1", "after")
	l.check("a1")
}
