package transport

import (
	"net"
	"sync"
)

// coalesceBytes is how much ciphertext goes to the kernel at once: TLS records
// are 16 KiB, and one system call for each would cost more than the cipher.
const coalesceBytes = 64 << 10

// coalescer lies between TLS and the socket and gathers records while a frame
// is written. It borrows its buffer for that long, so that idle connections
// hold none.
type coalescer struct {
	net.Conn
	pool *sync.Pool

	mu  sync.Mutex // TLS may answer from the reading side while a frame is written
	buf *[]byte    // nil: write through
}

func newCoalescePool() *sync.Pool {
	return &sync.Pool{New: func() any { b := make([]byte, 0, coalesceBytes); return &b }}
}

func (c *coalescer) begin() {
	c.mu.Lock()
	c.buf = c.pool.Get().(*[]byte)
	c.mu.Unlock()
}

// end sends what is gathered and goes back to writing through.
func (c *coalescer) end() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	_, err := c.Conn.Write(*c.buf)
	*c.buf = (*c.buf)[:0]
	c.pool.Put(c.buf)
	c.buf = nil
	return err
}

func (c *coalescer) Write(p []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.buf == nil {
		return c.Conn.Write(p)
	}
	if len(*c.buf)+len(p) > coalesceBytes {
		if _, err := c.Conn.Write(*c.buf); err != nil {
			return 0, err
		}
		*c.buf = (*c.buf)[:0]
	}
	if len(p) > coalesceBytes {
		return c.Conn.Write(p)
	}
	*c.buf = append(*c.buf, p...)
	return len(p), nil
}
