package disk

import (
	"context"
	"fmt"
	"sync"

	"bivalve/cluster"
	"bivalve/cluster/disk/vfs"
)

// write is one record to be written.
type write struct {
	header   header
	payload  []byte
	content  uint64
	old      place // what it replaces, kills or moves
	replaces bool
	moves    bool // a compaction's copy: it keeps its sequence number
	at       int64
}

// request is what one call wants to have in one batch.
type request struct {
	writes []write
	bytes  int64
	data   bool // holds more than tombstones and copies
	lead   bool // guarded by writer.mu: chosen to lead the next batch
	ready  chan signal
}

// signal wakes a waiting request: lead the next batch, or be done.
type signal struct {
	lead bool
	err  error
}

var requestPool = sync.Pool{New: func() any { return &request{ready: make(chan signal, 1)} }}

func newRequest() *request { return requestPool.Get().(*request) }

func (r *request) free() {
	clear(r.writes) // keep no caller's memory
	r.writes, r.bytes, r.data, r.lead = r.writes[:0], 0, false, false
	requestPool.Put(r)
}

func (r *request) add(w write, kind segmentKind) {
	r.writes = append(r.writes, w)
	r.bytes += shapeOf(kind).size(w.header.length)
	r.data = r.data || w.header.kind == kindShard && !w.moves
}

const (
	// Limits of what waits for one writer: beyond them ErrOverloaded.
	maxQueueBytes    = 256 << 20
	maxQueueRequests = 4096
	// Limits of one batch; a single request may be larger.
	maxBatchLarge  = 16 << 20
	maxBatchSmall  = 1 << 20
	maxBatchWrites = 4096
)

// writer appends to the segments of one kind. There is no goroutine of its own:
// a caller that finds nobody at work leads, that is writes and syncs everything
// that waits, its own request among it; what arrives meanwhile is the next
// batch, and its first caller is woken to lead that.
type writer struct {
	d        *Disk
	kind     segmentKind
	maxBatch int64

	mu      sync.Mutex
	queue   []*request
	bytes   int64
	leading bool

	// owned by the leader
	seg       *segment // nil: none yet
	file      vfs.File
	direct    bool
	refused   bool  // O_DIRECT was refused, and said so
	pos       int64 // where the next record goes
	allocated int64 // bytes of the file that are preallocated
	batch     []*request
	bufs      [][]byte
	pooled    [][]byte
}

func newWriter(d *Disk, kind segmentKind) *writer {
	w := &writer{d: d, kind: kind, maxBatch: maxBatchSmall}
	if kind == largeSegment {
		w.maxBatch = maxBatchLarge
	}
	return w
}

func (d *Disk) writerOf(kind segmentKind) *writer {
	if kind == largeSegment {
		return d.large
	}
	return d.small
}

// submit returns when the request is durable, or failed, or was withdrawn before
// its batch began.
func (w *writer) submit(ctx context.Context, r *request) error {
	if len(r.writes) == 0 {
		return nil
	}
	w.mu.Lock()
	if len(w.queue) > 0 && (w.bytes+r.bytes > maxQueueBytes || len(w.queue) >= maxQueueRequests) {
		w.mu.Unlock()
		return fmt.Errorf("disk %s: %w: %d writes wait", w.d.owner.disk, cluster.ErrOverloaded, maxQueueRequests)
	}
	if err := ctx.Err(); err != nil {
		w.mu.Unlock()
		return err
	}
	w.queue = append(w.queue, r)
	w.bytes += r.bytes
	if !w.leading {
		w.leading = true
		w.mu.Unlock()
		return w.leadBatch(r)
	}
	w.mu.Unlock()
	select {
	case s := <-r.ready:
		return w.woken(r, s)
	case <-ctx.Done():
		if w.withdraw(r) {
			return ctx.Err()
		}
	case <-w.d.hung:
		if w.withdraw(r) {
			return w.d.hungError()
		}
	}
	return w.woken(r, <-r.ready)
}

func (w *writer) woken(r *request, s signal) error {
	if s.lead {
		return w.leadBatch(r)
	}
	return s.err
}

// withdraw takes r out of the queue, unless its batch has begun or it was chosen
// to lead.
func (w *writer) withdraw(r *request) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	if r.lead {
		return false
	}
	for i, q := range w.queue {
		if q == r {
			w.queue = append(w.queue[:i], w.queue[i+1:]...)
			w.bytes -= r.bytes
			return true
		}
	}
	return false
}

// leadBatch writes one batch, hands over, and returns what became of r.
func (w *writer) leadBatch(r *request) error {
	w.mu.Lock()
	batch := w.take()
	w.mu.Unlock()

	err := w.d.Failed()
	full := false
	if err == nil {
		err, full = w.commit(batch)
	}

	// What a request is told is decided before anyone is woken: r may be freed and
	// used again as soon as its caller knows.
	w.mu.Lock()
	var mine error
	for i, q := range batch {
		told := err
		if full && err == nil && q.data {
			told = w.d.full()
		}
		if q == r {
			mine = told
		} else {
			q.ready <- signal{err: told}
		}
		batch[i] = nil
	}
	w.handOver()
	w.mu.Unlock()
	return mine
}

// handOver makes the first that waits the leader; mu is held, by the one who leads.
func (w *writer) handOver() {
	if len(w.queue) > 0 {
		next := w.queue[0]
		next.lead = true
		next.ready <- signal{lead: true}
	} else {
		w.leading = false
	}
}

// take moves the front of the queue into w.batch; mu is held.
func (w *writer) take() []*request {
	w.batch = w.batch[:0]
	bytes, writes, n := int64(0), 0, 0
	for _, q := range w.queue {
		if n > 0 && (bytes+q.bytes > w.maxBatch || writes+len(q.writes) > maxBatchWrites) {
			break
		}
		bytes, writes, n = bytes+q.bytes, writes+len(q.writes), n+1
		w.batch = append(w.batch, q)
	}
	left := copy(w.queue, w.queue[n:])
	clear(w.queue[left:])
	w.queue = w.queue[:left]
	w.bytes -= bytes
	return w.batch
}
