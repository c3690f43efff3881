package object

import (
	"context"
	"fmt"
	"io"
	"sort"
	"sync"
	"time"

	"bivalve/cluster"
	"bivalve/erasure"
	"bivalve/metadata"
	"bivalve/server/object/seal"

	"golang.org/x/sync/errgroup"
)

// chunksInFlight is how many chunks of one request are in memory: one filling
// from the socket while the one before it is encoded and sent.
const chunksInFlight = 2

// maxBlobBytes bounds a blob by its chunk numbers and by S3's largest PUT.
const maxBlobBytes = metadata.MaxPartBytes + metadata.MaxPartBytes/seal.PackageBytes*64 // room for encryption

// writeBlob stores size bytes of body as a new blob. When it returns without
// error every chunk is durable (law L1). On error what was written is removed in
// the background: no commit was proposed, so nobody can know the blob.
func (s *Store) writeBlob(ctx context.Context, partition uint16, class string, body io.Reader, size int64) (*metadata.Blob, error) {
	if size <= 0 || size > maxBlobBytes {
		return nil, fmt.Errorf("%w: blob of %d bytes", cluster.ErrInvalid, size)
	}
	layout := s.cfg.Region.Layout()
	if layout == nil {
		return nil, fmt.Errorf("%w: the region has no layout yet", metadata.ErrUnavailable)
	}
	if err := s.cfg.Region.Stranded(); err != nil {
		return nil, fmt.Errorf("%w: %w", metadata.ErrUnavailable, err)
	}
	profile, err := profileFor(s.cfg.Region, layout, class, partition)
	if err != nil {
		return nil, err
	}
	geo := geometryOf(profile)
	codec, err := s.codecs.Get(geo)
	if err != nil {
		return nil, err
	}
	var random [8]byte
	if err := s.cfg.Random(random[:]); err != nil {
		return nil, fmt.Errorf("blob id: %w", err)
	}
	blob := &metadata.Blob{
		ID:      metadata.BlobID(cluster.NewBlobID(partition, s.cfg.Clock().UnixMilli(), random)),
		Bytes:   size,
		Profile: profile,
	}
	w := &blobWriter{s: s, blob: blob, codec: codec, geo: geo}
	began := s.cfg.Now()
	err = w.copy(ctx, body)
	w.finish()
	if err == nil && s.cfg.Now().Sub(began) >= longWrite {
		w.noteAway(s.cfg.Region.Layout())
	}
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

	mu sync.Mutex
}

// copy reads chunk after chunk and lets up to chunksInFlight be on their way. The
// first failure, of the body or of a chunk, ends them all and is what is returned.
func (w *blobWriter) copy(ctx context.Context, body io.Reader) error {
	ctx, fail := context.WithCancelCause(ctx)
	defer fail(nil)
	g, gctx := errgroup.WithContext(ctx)
	slots := make(chan struct{}, chunksInFlight)
	n := chunks(w.blob.Bytes)
	in := w.s.newIntake(body, w.geo.K, w.geo.Shards(), int64(w.geo.K*w.geo.ShardBytes(chunkBytes(w.blob.Bytes, 0))))
	defer in.close()
	read := func() error {
		for c := range n {
			select {
			case slots <- struct{}{}:
			case <-gctx.Done():
				return context.Cause(gctx)
			}
			buf, err := w.fill(gctx, in, c)
			if err != nil {
				return err
			}
			send := func() error {
				defer func() { buf.freeAll(); <-slots }()
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

// fill reads one chunk from the body.
func (w *blobWriter) fill(ctx context.Context, in *intake, chunk uint32) (*chunkBuffer, error) {
	length := chunkBytes(w.blob.Bytes, chunk)
	shard := w.geo.ShardBytes(length)
	shards, err := in.fill(ctx, length, shard, chunk+1 == chunks(w.blob.Bytes))
	if err != nil {
		return nil, err
	}
	return newChunkBuffer(shards, func(_ int, p []byte) {
		w.s.cfg.Buffers.Put(p)
		w.s.release(int64(shard))
	}, nil), nil
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
func (w *blobWriter) noted(n metadata.ChunkNote) {
	if n.Attempt == 0 && n.Missing == 0 {
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.blob.Notes = append(w.blob.Notes, n)
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

// finish puts the notes in order and draws their sum.
func (w *blobWriter) finish() {
	sort.Slice(w.blob.Notes, func(i, j int) bool { return w.blob.Notes[i].Chunk < w.blob.Notes[j].Chunk })
	w.blob.Assess()
}

// discardTimeout bounds the clean-up of one failed write; the sweeper of orphans finds
// what it leaves.
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
// disk of the layout, those included that slots are moving away from.
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
			if !p.used.Has(erasure.ShardIndex(i)) {
				continue
			}
			for _, d := range layout.Holders(p.pg, cluster.ShardIndex(i)) {
				byDisk[d.ID] = append(byDisk[d.ID], p.key(cluster.BlobID(b.ID), c, i))
				nodes[d.ID] = d
			}
			for _, d := range layout.Left(p.pg, cluster.ShardIndex(i)) {
				if s.cfg.Region.DiskUp(d) { // one that is away lets go when it is back
					byDisk[d.ID] = append(byDisk[d.ID], p.key(cluster.BlobID(b.ID), c, i))
					nodes[d.ID] = d
				}
			}
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
