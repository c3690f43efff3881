package transport

import (
	"bufio"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"sync"
	"time"

	"github.com/zeebo/xxh3"

	"bivalve/cluster"
)

const (
	readBufferBytes = 4 << 10  // holds a header and the usual head; bodies go past it
	copyBelow       = 16 << 10 // a body this small joins its header in one write
	keepScratch     = 64 << 10
)

// conn is one authenticated connection that carries frames. One goroutine uses
// it at a time, save that a stream is written and read at once.
type conn struct {
	raw  net.Conn
	tls  *tls.Conn // nil once in the clear
	out  *coalescer
	br   *bufio.Reader
	peer cluster.NodeID
	pool Pool

	nextID    uint64
	idleSince time.Time

	scratch []byte      // outgoing header, head and small bodies
	vec     net.Buffers // outgoing pieces
	hdr     [headerBytes]byte
}

func (c *conn) plain() bool { return c.tls == nil }

// close drops the connection without the TLS goodbye: frames carry their own
// lengths, so a cut is always noticed.
func (c *conn) close() { _ = c.raw.Close() } // nothing is left to be done about its error

// writeFrame sends one frame. An error means that the peer cannot have it whole.
// head and body belong to the caller and are not touched afterwards.
func (c *conn) writeFrame(h header, head []byte, body [][]byte) error {
	if len(head) > MaxHeadBytes {
		return fmt.Errorf("%w: head of %d bytes, at most %d", cluster.ErrInvalid, len(head), MaxHeadBytes)
	}
	n := totalLen(body)
	h.HeadLen, h.BodyLen = uint32(len(head)), uint32(n)
	if len(head) > 0 {
		h.HeadSum = xxh3.Hash(head)
	}
	// Under TLS the cipher vouches for the bytes; a stream's end is checked anyway.
	if n > 0 && c.plain() && !h.Kind.blockSummed() {
		h.BodySum, h.Flags = sumPieces(body), h.Flags|flagBodySum
	}
	c.scratch = append(c.scratch[:0], make([]byte, headerBytes)...)
	h.put(c.scratch)
	c.scratch = append(c.scratch, head...)
	if n <= copyBelow {
		for _, b := range body {
			c.scratch = append(c.scratch, b...)
		}
		body = nil
	}
	err := c.writePieces(c.scratch, body)
	if cap(c.scratch) > keepScratch {
		c.scratch = nil
	}
	return err
}

func (c *conn) writePieces(first []byte, rest [][]byte) error {
	if len(rest) == 0 && (c.plain() || len(first) <= copyBelow) {
		if c.tls != nil {
			_, err := c.tls.Write(first)
			return err
		}
		_, err := c.raw.Write(first)
		return err
	}
	if c.plain() {
		base := append(c.vec[:0], first)
		base = append(base, rest...)
		c.vec = base
		_, err := c.vec.WriteTo(c.raw) // consumes c.vec, not the pieces
		clear(base)
		c.vec = base[:0]
		return err
	}
	c.out.begin()
	_, err := c.tls.Write(first)
	for i := 0; err == nil && i < len(rest); i++ {
		_, err = c.tls.Write(rest[i])
	}
	if e := c.out.end(); err == nil {
		err = e
	}
	return err
}

// readHeader waits for one header.
func (c *conn) readHeader() (header, error) {
	if _, err := io.ReadFull(c.br, c.hdr[:]); err != nil {
		return header{}, err
	}
	return parseHeader(c.hdr[:])
}

// readHead returns a fresh slice with the head of the frame.
func (c *conn) readHead(h header) ([]byte, error) {
	if h.HeadLen == 0 {
		return nil, nil
	}
	head := make([]byte, h.HeadLen)
	if _, err := io.ReadFull(c.br, head); err != nil {
		return nil, err
	}
	if xxh3.Hash(head) != h.HeadSum {
		return nil, fmt.Errorf("%w: head checksum", ErrFrame)
	}
	return head, nil
}

// readBody fills the parts, whose lengths make up h.BodyLen.
func (c *conn) readBody(h header, parts [][]byte) error {
	if h.BodyLen == 0 {
		return nil
	}
	for _, p := range parts {
		if _, err := io.ReadFull(c.br, p); err != nil {
			return err
		}
	}
	if h.Flags&flagBodySum == 0 {
		if c.plain() && !h.Kind.blockSummed() {
			return fmt.Errorf("%w: body without a checksum in the clear", ErrFrame)
		}
		return nil
	}
	if sumPieces(parts) != h.BodySum {
		return fmt.Errorf("%w: body checksum", ErrFrame)
	}
	return nil
}

// secure puts TLS and the frame reader on a raw connection.
func secure(raw net.Conn, pool *sync.Pool, wrap func(net.Conn) *tls.Conn) *conn {
	c := &conn{raw: raw, out: &coalescer{Conn: raw, pool: pool}}
	c.tls = wrap(c.out)
	c.br = bufio.NewReaderSize(c.tls, readBufferBytes)
	return c
}

// goPlain leaves TLS. Both ends have just exchanged hello and welcome and the
// client has sent nothing since, so nothing can be in flight.
func (c *conn) goPlain() error {
	if c.br.Buffered() != 0 {
		return fmt.Errorf("%w: bytes after the agreement to go plain", ErrFrame)
	}
	c.tls, c.out = nil, nil
	c.br = bufio.NewReaderSize(c.raw, readBufferBytes)
	return nil
}
