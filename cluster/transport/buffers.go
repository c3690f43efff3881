package transport

import (
	"math/bits"
	"sync"
)

// Buffers lends the memory that request and response bodies of pooled calls
// live in. Get returns a slice of length n; Put takes back what Get gave, once.
// Safe for concurrent use. The disk's aligned buffers fit here, so that a shard
// goes from the socket to O_DIRECT without a copy.
type Buffers interface {
	Get(n int) []byte
	Put([]byte)
}

// heapBuffers is the default: one sync.Pool per power of two from 4 KiB up.
type heapBuffers struct{ classes [32]sync.Pool }

const minBufferBits = 12

// NewBuffers makes a pool of plain (unaligned) buffers.
func NewBuffers() Buffers { return &heapBuffers{} }

func (h *heapBuffers) Get(n int) []byte {
	class := max(bits.Len(uint(max(n, 1)-1)), minBufferBits)
	if b, ok := h.classes[class].Get().(*[]byte); ok {
		return (*b)[:n]
	}
	return make([]byte, n, 1<<class)
}

func (h *heapBuffers) Put(b []byte) {
	class := bits.Len(uint(cap(b))) - 1
	if class < minBufferBits || cap(b) != 1<<class {
		return // not one of ours: leave it to the collector
	}
	b = b[:0]
	h.classes[class].Put(&b)
}
