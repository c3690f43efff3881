package disk

import (
	"math/bits"
	"sync"
	"unsafe"

	"bivalve/cluster"
)

// pageBytes is the unit of direct I/O: addresses, offsets, lengths.
const pageBytes = 4096

// minPoolBits..maxPoolBits are the pooled sizes, powers of two.
const (
	minPoolBits = 12
	maxPoolBits = 22
	// poolBytes and poolCount bound what each size keeps for reuse.
	poolBytes = 64 << 20
	poolCount = 256
)

// pools keeps freed buffers by size. It is a cache of memory and holds no state;
// it is shared by all disks and the transport of a process so that a buffer can
// travel from a socket to a disk.
var pools [maxPoolBits + 1]freeList

type freeList struct {
	mu   sync.Mutex
	free [][]byte
}

// GetBuffer returns n bytes at an address that direct I/O takes, with capacity
// up to the next 4 KiB at least. Contents are arbitrary. Give it back with
// PutBuffer, or leave it to the garbage collector.
func GetBuffer(n int) []byte {
	class := max(minPoolBits, bits.Len(uint(max(n, 1)-1)))
	if class > maxPoolBits {
		return aligned(n)
	}
	p := &pools[class]
	p.mu.Lock()
	if last := len(p.free) - 1; last >= 0 {
		b := p.free[last]
		p.free[last] = nil
		p.free = p.free[:last]
		p.mu.Unlock()
		return b[:n]
	}
	p.mu.Unlock()
	return aligned(1 << class)[:n]
}

// PutBuffer gives back what GetBuffer returned, whole: not a part of it, and not
// before every call that was given it has returned. Other slices are ignored.
func PutBuffer(b []byte) {
	class := bits.Len(uint(cap(b))) - 1
	if cap(b) == 0 || cap(b) != 1<<max(class, 0) || class < minPoolBits || class > maxPoolBits || !isAligned(b[:1]) {
		return
	}
	p := &pools[class]
	p.mu.Lock()
	if len(p.free) < min(poolCount, poolBytes>>class) {
		p.free = append(p.free, b[:cap(b)])
	}
	p.mu.Unlock()
}

// aligned makes a slice of n bytes on a page boundary.
func aligned(n int) []byte {
	n = int(padTo(int64(n), pageBytes))
	b := make([]byte, n+pageBytes)
	skip := (pageBytes - int(uintptr(unsafe.Pointer(&b[0]))%pageBytes)) % pageBytes
	return b[skip : skip+n : skip+n]
}

func isAligned(b []byte) bool {
	return len(b) > 0 && uintptr(unsafe.Pointer(unsafe.SliceData(b)))%pageBytes == 0
}

// padTo rounds n up to a multiple of unit, a power of two.
func padTo(n, unit int64) int64 { return (n + unit - 1) &^ (unit - 1) }

const maxHeaderBytes = headerFixed + 8*(cluster.MaxShardBytes/cluster.BlockBytes)
