package object

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"bivalve/cluster"
	"bivalve/erasure"
	"bivalve/metadata"
)

// piece is a checked range of one chunk in memory that belongs to the budget.
type piece struct {
	s        *Store
	parts    []part   // the bytes, in order
	extra    [][]byte // what was read beside them
	reserved int64
}

// part is some bytes of a piece, and the buffer that they lie in.
type part struct{ view, mem []byte }

func (p *piece) free() {
	for _, t := range p.parts {
		p.s.cfg.Buffers.Put(t.mem)
	}
	p.parts = nil
	p.trim()
}

// trim gives back all but what the bytes lie in.
func (p *piece) trim() {
	for _, m := range p.extra {
		p.s.cfg.Buffers.Put(m)
	}
	p.extra = nil
	var need int64
	for _, t := range p.parts {
		need += int64(len(t.mem))
	}
	p.s.release(p.reserved - need)
	p.reserved = need
}

// readChunk returns bytes [off, off+n) of one chunk of a blob. It waits for a
// while if the shards that it needs are out of reach, since a zone may be failing
// over at this moment.
func (s *Store) readChunk(ctx context.Context, b *metadata.Blob, chunk uint32, off, n int) (*piece, error) {
	deadline := s.cfg.Now().Add(s.cfg.ReadWait)
	s.hedges.near.chunk()
	s.hedges.far.chunk()
	for {
		changed := s.cfg.Region.Changed()
		layout := s.cfg.Region.Layout()
		if layout == nil {
			return nil, fmt.Errorf("%w: the region has no layout yet", metadata.ErrUnavailable)
		}
		p, err := s.readOnce(ctx, layout, b, chunk, off, n)
		if err == nil {
			p.trim()
		}
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
		all.parts, all.extra = append(all.parts, p.parts...), append(all.extra, p.extra...)
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
// that are up and do not lag behind.
func (r *chunkRead) direct() bool {
	if r.want&r.absent != 0 || r.place.zones()[0] != r.s.cfg.Zone {
		return false
	}
	peers, now := r.peers(), time.Now()
	for i := range r.place.geo.K {
		if r.want.Has(erasure.ShardIndex(i)) && (!r.place.up(r.s.cfg.Region, i) || r.s.lagging(r.place.disk(i), peers, now)) {
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
// wait, for if all that hold some did, nobody would ever give any back. Another try, which
// holds none, may.
var errNoRoom = fmt.Errorf("%w: no room for further shards", cluster.ErrOverloaded)

// readWith is read with room for so many shards.
func (r *chunkRead) readWith(ctx context.Context, buffers int) (*piece, error) {
	if err := r.reserve(ctx, buffers); err != nil {
		return nil, err
	}
	rctx, cancel := context.WithCancel(ctx)
	order := r.order()
	// Not more than there is room for: which disks lag may have changed since that was
	// asked, and gather takes room for what else it needs.
	for i := range min(r.place.geo.K, len(order), buffers) {
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
		way, err = "decoded", r.roomToDecode()
		if err == nil {
			err = r.decode()
		}
	}
	p := &piece{s: r.s, reserved: r.reserved}
	if err == nil {
		p.parts = r.parts()
	}
	for i, b := range r.bufs {
		if b != nil && (err != nil || !r.want.Has(erasure.ShardIndex(i))) {
			p.extra = append(p.extra, b)
		}
	}
	if err != nil {
		p.free()
		return nil, err
	}
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
// are up before those that seem down, those that keep pace before those that lag
// behind, wanted shards before the rest.
func (r *chunkRead) order() []int {
	var class [8][]int
	zones := r.place.zones()
	peers, now := r.peers(), time.Now()
	for pass := range 2 {
		for i := range r.place.geo.Shards() {
			si := erasure.ShardIndex(i)
			if r.want.Has(si) != (pass == 0) || r.absent.Has(si) {
				continue
			}
			c := 0
			if r.s.lagging(r.place.disk(i), peers, now) {
				c++
			}
			if zones[r.place.half(i)] != r.s.cfg.Zone {
				c += 2
			}
			if !r.place.up(r.s.cfg.Region, i) {
				c += 4
			}
			class[c] = append(class[c], i)
		}
	}
	return slices.Concat(class[:]...)
}

// peers are the disks of the chunk in this node's zone: what a read is compared
// with.
func (r *chunkRead) peers() []cluster.DiskID {
	var out []cluster.DiskID
	for i := range r.place.geo.Shards() {
		if r.place.zones()[r.place.half(i)] == r.s.cfg.Zone {
			out = append(out, r.place.disk(i).ID)
		}
	}
	return out
}

// roomToDecode takes room for the rows that decode adds to what was read, unless it is
// there: a read that was to be direct took none, and then found disks lagging.
func (r *chunkRead) roomToDecode() error {
	if r.reserved >= int64((r.got|r.want).Len())*int64(r.rowsLen) {
		return nil
	}
	return r.reserveMore((r.want &^ r.got).Len())
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

// parts are the bytes of the range, in order, one of each wanted shard.
func (r *chunkRead) parts() []part {
	var out []part
	base := int(r.rows.First) * erasure.BlockBytes
	for span := range r.place.geo.Spans(r.chunkLen, r.off, r.n) {
		from, mem := span.Offset-base, r.bufs[span.Shard]
		out = append(out, part{view: mem[from : from+span.Len], mem: mem})
	}
	return out
}
