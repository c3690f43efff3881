package object

import (
	"context"
	"errors"
	"fmt"
	"time"

	"bivalve/cluster"
	"bivalve/erasure"
	"bivalve/metadata"
)

// piece is a checked range of one chunk in memory that belongs to the budget.
type piece struct {
	s        *Store
	views    [][]byte // the bytes, in order
	mem      [][]byte // what backs them
	reserved int64
}

func (p *piece) free() {
	for _, m := range p.mem {
		p.s.cfg.Buffers.Put(m)
	}
	p.s.release(p.reserved)
	p.mem, p.views, p.reserved = nil, nil, 0
}

// readChunk returns bytes [off, off+n) of one chunk of a blob. It waits for a
// while if the shards that it needs are out of reach, since a zone may be failing
// over at this moment.
func (s *Store) readChunk(ctx context.Context, b *metadata.Blob, chunk uint32, off, n int) (*piece, error) {
	deadline := s.cfg.Now().Add(s.cfg.ReadWait)
	s.latency.chunk()
	for {
		changed := s.cfg.Region.Changed()
		layout := s.cfg.Region.Layout()
		if layout == nil {
			return nil, fmt.Errorf("%w: the region has no layout yet", metadata.ErrUnavailable)
		}
		p, err := s.readOnce(ctx, layout, b, chunk, off, n)
		if err == nil || ctx.Err() != nil || !passing(err) || s.cfg.Now().After(deadline) {
			return p, err
		}
		t := time.NewTimer(retryEvery)
		select {
		case <-changed:
		case <-t.C:
		case <-ctx.Done():
		}
		t.Stop()
	}
}

// readOnce reads a range that lies in several shards, all at hand, span by span,
// so that no block is read that is not needed; every other range at once.
func (s *Store) readOnce(ctx context.Context, l *cluster.Layout, b *metadata.Blob, chunk uint32, off, n int) (*piece, error) {
	r := newChunkRead(s, l, b, chunk, off, n)
	if !r.ragged() || !r.direct() {
		return r.read(ctx)
	}
	all := &piece{s: s}
	at := off
	for span := range r.place.geo.Spans(r.chunkLen, off, n) {
		one := newChunkRead(s, l, b, chunk, at, span.Len)
		one.hasty = at > off
		p, err := one.read(ctx)
		if err != nil {
			all.free()
			if errors.Is(err, errNoRoom) {
				return r.read(ctx) // all at once, and so with one reservation
			}
			return nil, err
		}
		all.views, all.mem = append(all.views, p.views...), append(all.mem, p.mem...)
		all.reserved += p.reserved
		at += span.Len
	}
	return all, nil
}

// passing tells an error that another try may not meet.
func passing(err error) bool {
	return errors.Is(err, cluster.ErrUnreachable) || errors.Is(err, cluster.ErrOverloaded)
}

// chunkRead gathers the shards of one chunk that a range needs.
type chunkRead struct {
	s     *Store
	place place
	blob  cluster.BlobID
	chunk uint32

	chunkLen, off, n int
	shardLen         int
	absent           erasure.ShardSet // never written
	want             erasure.ShardSet // systematic shards that hold the range
	rows             cluster.BlockRange
	rowsLen          int // bytes of rows in every shard
	reserved         int64
	hasty            bool // other memory is held: never wait for room

	got     erasure.ShardSet
	tried   erasure.ShardSet
	bufs    [][]byte // by shard: the rows read or to be decoded
	flying  []*flight
	answers chan shardAnswer
	short   QuorumError
}

func newChunkRead(s *Store, l *cluster.Layout, b *metadata.Blob, chunk uint32, off, n int) *chunkRead {
	p, absent := find(l, b, chunk)
	r := &chunkRead{s: s, place: p, blob: cluster.BlobID(b.ID), chunk: chunk, absent: absent, off: off, n: n,
		chunkLen: chunkBytes(b.Bytes, chunk)}
	r.shardLen = p.geo.ShardBytes(r.chunkLen)
	first, last := r.shardLen, 0
	for span := range p.geo.Spans(r.chunkLen, off, n) {
		r.want = r.want.With(span.Shard)
		first = min(first, span.Offset/erasure.BlockBytes)
		last = max(last, (span.Offset+span.Len-1)/erasure.BlockBytes)
	}
	r.rows = cluster.BlockRange{First: uint32(first), Count: uint32(last - first + 1)}
	r.rowsLen = r.rowsBytes(r.rows)
	r.bufs = make([][]byte, p.geo.Shards())
	r.answers = make(chan shardAnswer, p.geo.Shards())
	return r
}

func (r *chunkRead) rowsBytes(b cluster.BlockRange) int {
	return min(r.shardLen, int(b.First+b.Count)*erasure.BlockBytes) - int(b.First)*erasure.BlockBytes
}

// ragged tells whether the shards of the range need different rows.
func (r *chunkRead) ragged() bool {
	needed := 0
	for span := range r.place.geo.Spans(r.chunkLen, r.off, r.n) {
		needed += cluster.Blocks(span.Offset%erasure.BlockBytes + span.Len)
	}
	return needed < r.want.Len()*cluster.Blocks(r.rowsLen)
}

// direct tells whether all shards of the range lie in this node's zone, on disks
// that are up.
func (r *chunkRead) direct() bool {
	if r.want&r.absent != 0 || r.place.zones()[0] != r.s.cfg.Zone {
		return false
	}
	for i := range r.place.geo.K {
		if r.want.Has(erasure.ShardIndex(i)) && !r.s.cfg.Region.DiskUp(r.place.disk(i)) {
			return false
		}
	}
	return true
}

// read takes the systematic shards that hold the range if they lie in this
// node's zone and answer, else any k shards, those of its own zone first.
func (r *chunkRead) read(ctx context.Context) (*piece, error) {
	buffers := r.want.Len()
	if !r.direct() {
		buffers += r.place.geo.K
	}
	p, err := r.readWith(ctx, buffers)
	if errors.Is(err, errNoRoom) && !r.hasty {
		// It has let go of what it held, and now asks for all that it can need.
		r.got, r.tried, r.short = 0, 0, QuorumError{}
		r.reserved = 0
		clear(r.bufs)
		p, err = r.readWith(ctx, r.want.Len()+r.place.geo.K)
	}
	return p, err
}

// errNoRoom: a read that holds memory needs more and there is none. It may not
// wait, for if all that hold some did, nobody would ever give any back.
var errNoRoom = errors.New("no room for further shards")

// readWith is read with room for so many shards.
func (r *chunkRead) readWith(ctx context.Context, buffers int) (*piece, error) {
	if err := r.reserve(ctx, buffers); err != nil {
		return nil, err
	}
	rctx, cancel := context.WithCancel(ctx)
	order := r.order()
	for i := range min(r.place.geo.K, len(order)) {
		if r.want&^r.tried == 0 {
			break // the range itself is on its way: no need to decode
		}
		r.start(rctx, order[i])
	}
	err := r.gather(rctx, order)
	cancel()
	r.leave()
	way := "direct"
	if err == nil && r.want&^r.got != 0 {
		way, err = "decoded", r.decode()
	}
	p := &piece{s: r.s, reserved: r.reserved}
	for _, b := range r.bufs {
		if b != nil {
			p.mem = append(p.mem, b)
		}
	}
	if err != nil {
		p.free()
		return nil, err
	}
	p.views = r.views()
	r.s.metrics.chunksRead.WithLabelValues(way).Inc()
	return p, nil
}

// reserve takes budget for the first n buffers.
func (r *chunkRead) reserve(ctx context.Context, n int) error {
	if r.hasty {
		return r.reserveMore(n)
	}
	size := int64(n) * int64(r.rowsLen)
	if err := r.s.reserve(ctx, size); err != nil {
		return err
	}
	r.reserved += size
	return nil
}

// reserveMore takes budget for n more buffers if there is any.
func (r *chunkRead) reserveMore(n int) error {
	size := int64(n) * int64(r.rowsLen)
	if !r.s.tryReserve(size) {
		return errNoRoom
	}
	r.reserved += size
	return nil
}

// order lists the shards worth asking: this zone before the other, disks that
// are up before those that seem down, wanted shards before the rest.
func (r *chunkRead) order() []int {
	var class [4][]int
	zones := r.place.zones()
	for pass := range 2 {
		for i := range r.place.geo.Shards() {
			si := erasure.ShardIndex(i)
			if r.want.Has(si) != (pass == 0) || r.absent.Has(si) {
				continue
			}
			c := 0
			if zones[r.place.half(i)] != r.s.cfg.Zone {
				c = 1
			}
			if !r.s.cfg.Region.DiskUp(r.place.disk(i)) {
				c += 2
			}
			class[c] = append(class[c], i)
		}
	}
	return append(append(append(class[0], class[1]...), class[2]...), class[3]...)
}

// gather waits until the range or any k shards are there. A shard that fails is
// replaced by the next in order, a slow one gets a second beside it.
func (r *chunkRead) gather(ctx context.Context, order []int) error {
	var disks []cluster.DiskID
	for _, i := range order {
		if r.tried.Has(erasure.ShardIndex(i)) {
			disks = append(disks, r.place.disk(i).ID)
		}
	}
	hedge := time.NewTimer(r.s.latency.hedgeAfter(r.s.cfg.HedgeFloor, disks))
	defer hedge.Stop()
	for r.want&^r.got != 0 && r.got.Len() < r.place.geo.K {
		// What is on its way must be able to suffice: the range, or k in all.
		for !r.enough() {
			next := r.next(order)
			if next < 0 {
				break
			}
			if r.reserved < int64(r.place.geo.K+r.want.Len())*int64(r.rowsLen) {
				if err := r.reserveMore(r.place.geo.K); err != nil {
					return err
				}
			}
			r.start(ctx, next)
		}
		if len(r.flying) == 0 {
			return r.tooFew()
		}
		select {
		case a := <-r.answers:
			r.take(a)
		case <-hedge.C:
			if r.s.latency.hedge() && r.reserveMore(r.place.geo.K) == nil {
				r.hedge(ctx, order)
			}
			hedge.Reset(r.s.cfg.HedgeFloor * 4)
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	return nil
}

// enough tells whether the reads under way and done can complete the job.
func (r *chunkRead) enough() bool {
	return r.want&^(r.got|r.inFlight()) == 0 || r.got.Len()+len(r.flying) >= r.place.geo.K
}

// hedge sends as many further reads as make k beside the slow ones.
func (r *chunkRead) hedge(ctx context.Context, order []int) {
	need := r.place.geo.K - r.got.Len()
	for range need {
		next := r.next(order)
		if next < 0 {
			return
		}
		r.start(ctx, next)
		r.s.metrics.hedges.Inc()
	}
}

// next is the first shard in order that was not asked; -1 if there is none.
func (r *chunkRead) next(order []int) int {
	for _, i := range order {
		if !r.tried.Has(erasure.ShardIndex(i)) {
			return i
		}
	}
	return -1
}

func (r *chunkRead) tooFew() error {
	e := r.short
	e.Op, e.Need, e.Zones = "read", r.place.geo.K, r.place.zones()
	e.Got = halves{(r.got & r.place.geo.Zone(0)).Len(), (r.got & r.place.geo.Zone(1)).Len()}
	return &e
}

// decode rebuilds the rows of the wanted shards that are not there. No read is
// under way any more.
func (r *chunkRead) decode() error {
	codec, err := r.s.codecs.Get(r.place.geo)
	if err != nil {
		return err
	}
	shards := make([][]byte, len(r.bufs))
	for i := range r.bufs {
		switch si := erasure.ShardIndex(i); {
		case r.got.Has(si):
			shards[i] = r.bufs[i]
		case r.want.Has(si):
			r.bufs[i] = r.s.cfg.Buffers.Get(r.rowsLen)
			shards[i] = r.bufs[i][:0:r.rowsLen]
		}
	}
	return codec.ReconstructShards(shards, r.want)
}

// views are the bytes of the range, in order.
func (r *chunkRead) views() [][]byte {
	var out [][]byte
	base := int(r.rows.First) * erasure.BlockBytes
	for span := range r.place.geo.Spans(r.chunkLen, r.off, r.n) {
		from := span.Offset - base
		out = append(out, r.bufs[span.Shard][from:from+span.Len])
	}
	return out
}
