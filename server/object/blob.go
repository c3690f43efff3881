package object

import (
	"context"
	"fmt"
	"io"
	"sort"
	"sync"
	"sync/atomic"
	"time"

	"bivalve/cluster"
	"bivalve/erasure"
	"bivalve/metadata"

	"golang.org/x/sync/errgroup"
)

// chunksInFlight is how many chunks of one request are in memory: one filling
// from the socket while the one before it is encoded and sent.
const chunksInFlight = 2

// maxBlobBytes bounds a blob by its chunk numbers and by S3's largest PUT.
const maxBlobBytes = metadata.MaxPartBytes

// writeBlob stores size bytes of body as a new blob. When it returns without
// error every chunk is durable (law L1). On error what was written is removed in
// the background: no commit was proposed, so nobody can know the blob.
func (s *Store) writeBlob(ctx context.Context, partition uint16, body io.Reader, size int64) (*metadata.Blob, error) {
	if size <= 0 || size > maxBlobBytes {
		return nil, fmt.Errorf("%w: blob of %d bytes", cluster.ErrInvalid, size)
	}
	layout := s.cfg.Region.Layout()
	if layout == nil {
		return nil, fmt.Errorf("%w: the region has no layout yet", metadata.ErrUnavailable)
	}
	geo := erasure.Geometry{K: int(layout.Profile.K), M: int(layout.Profile.M)}
	codec, err := s.codecs.Get(geo)
	if err != nil {
		return nil, err
	}
	var random [8]byte
	if err := s.cfg.Random(random[:]); err != nil {
		return nil, fmt.Errorf("blob id: %w", err)
	}
	blob := &metadata.Blob{
		ID:      metadata.BlobID(cluster.NewBlobID(partition, s.cfg.Now().UnixMilli(), random)),
		Bytes:   size,
		Profile: metadata.Profile{K: layout.Profile.K, M: layout.Profile.M},
	}
	w := &blobWriter{s: s, blob: blob, codec: codec, geo: geo}
	err = w.copy(ctx, body)
	w.finish()
	if err != nil {
		s.discard(blob)
		return nil, err
	}
	return blob, nil
}

// blobWriter collects what the chunks of one blob have to say.
type blobWriter struct {
	s     *Store
	blob  *metadata.Blob
	codec *erasure.Codec
	geo   erasure.Geometry

	mu   sync.Mutex
	risk map[cluster.Zone]bool
}

// copy reads chunk after chunk and lets up to chunksInFlight be on their way. The
// first failure, of the body or of a chunk, ends them all and is what is returned.
func (w *blobWriter) copy(ctx context.Context, body io.Reader) error {
	ctx, fail := context.WithCancelCause(ctx)
	defer fail(nil)
	g, gctx := errgroup.WithContext(ctx)
	slots := make(chan struct{}, chunksInFlight)
	n := chunks(w.blob.Bytes)
	read := func() error {
		for c := range n {
			select {
			case slots <- struct{}{}:
			case <-gctx.Done():
				return context.Cause(gctx)
			}
			buf, err := w.fill(gctx, body, c)
			if err != nil {
				return err
			}
			send := func() error {
				defer func() { buf.free(); <-slots }()
				return w.writeChunk(gctx, c, buf)
			}
			if n == 1 {
				return send() // no second chunk to read meanwhile
			}
			g.Go(send)
		}
		return nil
	}
	err := read()
	if err != nil {
		fail(err)
	}
	if first := g.Wait(); first != nil {
		return first
	}
	return err
}

// chunkBuffer is the memory of one chunk: a buffer for each shard, aligned so that
// a disk can write it directly. The first k hold the chunk's bytes. Whoever was
// given it frees it once; the last one gives the memory back, so that a call that
// never returns keeps its memory and nothing else.
type chunkBuffer struct {
	s        *Store
	shards   [][]byte
	reserved int64
	users    atomic.Int32
}

func (b *chunkBuffer) free() {
	if b.users.Add(-1) > 0 {
		return
	}
	for _, p := range b.shards {
		b.s.cfg.Buffers.Put(p)
	}
	b.s.release(b.reserved)
}

// fill reads one chunk from the body. After the last it also reads the end,
// which is where a body says that it does not hold together.
func (w *blobWriter) fill(ctx context.Context, body io.Reader, chunk uint32) (*chunkBuffer, error) {
	length := chunkBytes(w.blob.Bytes, chunk)
	shard := w.geo.ShardBytes(length)
	b := &chunkBuffer{s: w.s, shards: make([][]byte, w.geo.Shards()), reserved: int64(shard * w.geo.Shards())}
	if err := w.s.reserve(ctx, b.reserved); err != nil {
		return nil, err
	}
	for i := range b.shards {
		b.shards[i] = w.s.cfg.Buffers.Get(shard)
	}
	b.users.Store(1)
	var err error
	for i := 0; i < w.geo.K && err == nil; i++ {
		part := b.shards[i][:min(shard, max(0, length-i*shard))]
		err = readFull(body, part)
		clear(b.shards[i][len(part):])
	}
	if err == nil && chunk+1 == chunks(w.blob.Bytes) {
		err = readEnd(body)
	}
	if err != nil {
		b.free()
		return nil, err
	}
	return b, nil
}

// readFull reads all of p. A body that ends before is an error whatever it says
// itself: io.EOF must never travel on as if it were one.
func readFull(body io.Reader, p []byte) error {
	_, err := io.ReadFull(body, p)
	if err == io.EOF {
		err = io.ErrUnexpectedEOF
	}
	return err
}

// readEnd expects the body to end here, well.
func readEnd(body io.Reader) error {
	var one [1]byte
	n, err := io.ReadFull(body, one[:])
	switch {
	case n != 0:
		return fmt.Errorf("%w: body is longer than declared", cluster.ErrInvalid)
	case err == io.EOF:
		return nil
	default:
		return err
	}
}

// noted keeps what is particular about a chunk.
func (w *blobWriter) noted(n metadata.ChunkNote, risky [2]bool, zones [2]cluster.Zone) {
	if n.Attempt == 0 && n.Missing == 0 {
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.blob.Notes = append(w.blob.Notes, n)
	for z, r := range risky {
		if r {
			if w.risk == nil {
				w.risk = map[cluster.Zone]bool{}
			}
			w.risk[zones[z]] = true
		}
	}
}

// stood keeps where a chunk that failed stood aside to, so that discard looks
// there.
func (w *blobWriter) stood(chunk uint32, attempt uint8) {
	if attempt == 0 {
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.blob.Notes = append(w.blob.Notes, metadata.ChunkNote{Chunk: chunk, Attempt: attempt})
}

// finish puts the notes in order.
func (w *blobWriter) finish() {
	sort.Slice(w.blob.Notes, func(i, j int) bool { return w.blob.Notes[i].Chunk < w.blob.Notes[j].Chunk })
	for z := range w.risk {
		w.blob.AtRisk = append(w.blob.AtRisk, string(z))
	}
	sort.Strings(w.blob.AtRisk)
}

// discardTimeout bounds the clean-up of one failed write; the sweeper finds what
// it leaves.
const discardTimeout = 30 * time.Second

// discard removes the shards of a blob that certainly no version references. It
// works in the background, detached from the request on purpose: the client is
// gone or has its answer.
func (s *Store) discard(b *metadata.Blob) {
	s.cleaning.Add(1)
	go func() {
		defer s.cleaning.Done()
		ctx, cancel := context.WithTimeout(s.closing, discardTimeout)
		defer cancel()
		if err := s.RemoveBlob(ctx, b); err != nil {
			s.cfg.Logger.Debug("shards of a failed write are left to the sweeper", "blob", b.ID.String(), "err", err)
		}
	}()
}

// RemoveBlob deletes every shard of a blob; nil means that none is left on any
// disk of the layout.
func (s *Store) RemoveBlob(ctx context.Context, b *metadata.Blob) error {
	layout := s.cfg.Region.Layout()
	if layout == nil {
		return fmt.Errorf("%w: the region has no layout yet", metadata.ErrUnavailable)
	}
	byDisk := map[cluster.DiskID][]cluster.ShardKey{}
	nodes := map[cluster.DiskID]cluster.Disk{}
	for c := range chunks(b.Bytes) {
		p, _ := find(layout, b, c)
		for i := range p.geo.Shards() {
			d := p.disk(i)
			byDisk[d.ID] = append(byDisk[d.ID], p.key(cluster.BlobID(b.ID), c, i))
			nodes[d.ID] = d
		}
	}
	var g errgroup.Group // no shared context: one disk's failure must not stop the others
	g.SetLimit(8)
	for id, keys := range byDisk {
		g.Go(func() error {
			if !s.cfg.Region.DiskUp(nodes[id]) {
				return fmt.Errorf("%w: disk %s", cluster.ErrUnreachable, id)
			}
			return s.cfg.Shards.DeleteShards(ctx, nodes[id].Node, id, keys)
		})
	}
	return g.Wait()
}
