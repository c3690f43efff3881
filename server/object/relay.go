package object

import (
	"context"
	"errors"
	"fmt"
	"time"

	"bivalve/cluster"
	"bivalve/erasure"
)

// Relay is the far end of a PUT between zones: it makes the wanted shards of this
// node's zone out of a chunk that was verified, and stores them, one message for
// each node. It answers for each wanted shard, by ascending index, what the sender
// would have heard of its disk, so that the quorum stays the sender's to judge. A
// shard that is late when enough others are durable is answered as overdue; its call
// goes on. free is called once, when the chunk's memory is not used any more.
func (s *Store) Relay(ctx context.Context, epoch cluster.Epoch, c cluster.Chunk, free func()) []error {
	r, err := s.newRelay(epoch, c, free)
	if err != nil {
		free()
		return spread(err, erasure.ShardSet(c.Want).Len())
	}
	defer r.buf.freeAll()
	// Calls outlive the sender's patience on purpose: see chunkWrite.leave.
	calls, cancel := context.WithCancel(context.WithoutCancel(ctx))
	r.run(ctx, calls)
	leave(&r.fanout, cancel)
	s.metrics.relayed.Inc()
	return r.results()
}

func spread(err error, n int) []error {
	out := make([]error, n)
	for i := range out {
		out[i] = err
	}
	return out
}

// relay is one chunk being relayed.
type relay struct {
	fanout
	want, done erasure.ShardSet
	errs       map[int]error
}

// errOverdue: the shard is on its way to a disk that lags behind its peers.
var errOverdue = fmt.Errorf("%w: others of the chunk are long durable", context.DeadlineExceeded)

// newRelay checks the chunk against the layout and encodes what is wanted. On error
// free was not called.
func (s *Store) newRelay(epoch cluster.Epoch, c cluster.Chunk, free func()) (*relay, error) {
	geo := erasure.Geometry{K: int(c.Profile.K), M: c.Profile.Extra()}
	if err := geo.Validate(); err != nil {
		return nil, fmt.Errorf("%w: %w", cluster.ErrInvalid, err)
	}
	l := s.cfg.Region.Layout()
	if l == nil || l.Epoch != epoch || int(c.PG) >= len(l.Groups) || len(l.Groups[c.PG]) < geo.Shards() {
		return nil, fmt.Errorf("%w: relay for pg %d, epoch %d", cluster.ErrWrongEpoch, c.PG, epoch)
	}
	p := place{layout: l, pg: c.PG, geo: geo}
	want, half := erasure.ShardSet(c.Want), 0
	if p.zones()[1] == s.cfg.Zone {
		half = 1
	}
	if p.zones()[half] != s.cfg.Zone || want == 0 || want&^geo.Zone(half) != 0 || len(c.Data) != geo.K || len(c.Sums) != geo.K {
		return nil, fmt.Errorf("%w: relay for shards %b of pg %d in zone %s", cluster.ErrInvalid, want, c.PG, s.cfg.Zone)
	}
	codec, err := s.codecs.Get(geo)
	if err != nil {
		return nil, err
	}
	bytes := make([][]byte, geo.Shards())
	copy(bytes, c.Data)
	for i := geo.K; i < len(bytes); i++ {
		if geo.Zone(half).Has(erasure.ShardIndex(i)) {
			bytes[i] = s.cfg.Buffers.Get(c.ShardBytes())
		}
	}
	buf := newChunkBuffer(bytes, func(i int, p []byte) {
		if i >= geo.K && p != nil {
			s.cfg.Buffers.Put(p)
		}
	}, free)
	buf.together = int64(geo.K * c.ShardBytes())
	if err := codec.EncodeZone(half, bytes); err != nil {
		buf.last = nil // the caller frees what it gave
		buf.freeAll()
		return nil, err
	}
	shards := make([]cluster.Shard, geo.Shards())
	for i := range shards {
		if !want.Has(erasure.ShardIndex(i)) {
			continue
		}
		shards[i] = cluster.Shard{Key: p.key(c.Blob, c.Number, i), Profile: c.Profile, Payload: bytes[i]}
		if i < geo.K {
			shards[i].Sums = c.Sums[i]
		} else {
			shards[i].Sums = erasure.Sums(nil, bytes[i])
		}
	}
	r := &relay{fanout: newFanout(s, shards, buf), want: want, errs: map[int]error{}}
	r.place = p
	return r, nil
}

// run sends and gathers. Once this zone alone can rebuild the chunk the last shards
// get the patience of any last shards.
func (r *relay) run(ctx, calls context.Context) {
	sent := time.Now()
	r.direct(calls, r.want)
	var p *patience
	var overdue <-chan time.Time
	for r.flying() != 0 {
		switch {
		case p != nil:
			p.less(&r.fanout, r.done, sent)
		case r.done.Len() >= r.place.geo.K:
			p = newPatience(&r.fanout, r.done, sent)
			defer p.Stop()
			overdue = p.C
		}
		select {
		case a := <-r.answers:
			r.take(a)
		case <-overdue:
			return
		case <-ctx.Done():
			return
		}
	}
}

func (r *relay) take(a answer) {
	r.answered(a)
	for j, i := range a.shards {
		if err := a.errs[j]; err != nil {
			r.errs[i] = err
			r.s.metrics.shardFailed("append")
			continue
		}
		r.done = r.done.With(erasure.ShardIndex(i))
	}
}

func (r *relay) results() []error {
	var out []error
	for i := range r.shards {
		si := erasure.ShardIndex(i)
		switch {
		case !r.want.Has(si):
		case r.done.Has(si):
			out = append(out, nil)
		case r.errs[i] != nil:
			out = append(out, r.errs[i])
		default:
			out = append(out, errOverdue)
		}
	}
	return out
}

// overdue tells an answer that says nothing of the shard but that it is late.
func overdue(err error) bool { return errors.Is(err, context.DeadlineExceeded) }
