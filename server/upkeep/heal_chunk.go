package upkeep

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"bivalve/cluster"
	"bivalve/cluster/disk"
	"bivalve/erasure"

	"github.com/prometheus/client_golang/prometheus"
)

// LackingChunk asks for shards of one chunk that are known to be missing. Those of
// Want lie in the zone of the node that is asked, so that what crosses between
// zones for them is at most the chunk, once.
type LackingChunk struct {
	Key     cluster.ShardKey `cbor:"1,keyasint"` // its index does not count
	Profile cluster.Profile  `cbor:"2,keyasint"`
	Bytes   int              `cbor:"3,keyasint"` // of each shard
	Missing uint64           `cbor:"4,keyasint"` // not to be read
	Want    uint64           `cbor:"5,keyasint"`
}

// Rebuilder is the hands of the healers: it makes missing shards of chunks again,
// for disks of its own zone.
type Rebuilder struct {
	mender *Mender
	to     ShardAppender
	room   chan struct{}
	rest   courtesy
	shards prometheus.Counter
	bytes  prometheus.Counter
	done   meter // bytes of shards that were rebuilt, or found to be there after all
}

// NewRebuilder reads through m, and as fast as m does; up to parallel chunks are in
// hand at a time.
func NewRebuilder(m *Mender, to ShardAppender, parallel int, registry prometheus.Registerer) (*Rebuilder, error) {
	r := &Rebuilder{mender: m, to: to, room: make(chan struct{}, parallel), rest: courtesy{now: m.cfg.Now}, done: meter{now: m.cfg.Now},
		shards: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "bivalve_healed_shards_total", Help: "Missing shards that this node has rebuilt and read back."}),
		bytes: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "bivalve_healed_bytes_total", Help: "Bytes of these shards."})}
	if registry != nil {
		if err := errors.Join(registry.Register(r.shards), registry.Register(r.bytes)); err != nil {
			return nil, err
		}
	}
	return r, nil
}

// Heal tells which of the wanted shards are on their disks, read back and verified
// after they were stored. The error is why others are not.
func (r *Rebuilder) Heal(ctx context.Context, c LackingChunk) (healed uint64, err error) {
	select {
	case r.room <- struct{}{}:
	case <-ctx.Done():
		return 0, fmt.Errorf("%w: too many chunks are being healed here", cluster.ErrOverloaded)
	}
	defer func() { <-r.room }()
	if err := r.rest.wait(ctx); err != nil {
		return 0, err
	}
	h, err := r.begin(c)
	if err != nil {
		return 0, err
	}
	defer h.free()
	defer func() { r.done.add(int64(h.healed.Len() * h.shard.Bytes)) }()
	began := r.mender.cfg.Now()
	h.look(ctx)
	if h.lacking != 0 {
		if err := h.gather(ctx); err != nil {
			return uint64(h.healed), errors.Join(err, h.why)
		}
		if err := h.store(ctx); err != nil {
			return uint64(h.healed), errors.Join(err, h.why)
		}
		r.rest.took(int64(h.shard.Bytes)*int64(h.geo.K+h.lacking.Len()), r.mender.cfg.Now().Sub(began))
	}
	return uint64(h.healed), h.why
}

// Rate is how many bytes of missing shards this node makes good in a second, at present.
func (r *Rebuilder) Rate() float64 { return r.done.rate() }

// healing is one chunk in hand.
type healing struct {
	repair
	r       *Rebuilder
	want    erasure.ShardSet
	lacking erasure.ShardSet // of these, on a disk that says that it has none
	healed  erasure.ShardSet // there, and verified
	why     error            // of the first that is neither
}

func (r *Rebuilder) begin(c LackingChunk) (*healing, error) {
	h := &healing{r: r, want: erasure.ShardSet(c.Want), repair: repair{m: r.mender, layout: r.mender.cfg.Layout(),
		geo:   erasure.Geometry{K: int(c.Profile.K), M: c.Profile.Extra()},
		shard: disk.DamagedShard{Key: c.Key, Profile: c.Profile, Bytes: c.Bytes},
		skip:  erasure.ShardSet(c.Missing | c.Want)}}
	h.shard.Key.Index = 0
	if err := h.check(); err != nil {
		return nil, err
	}
	h.shards = make([][]byte, h.geo.Shards())
	for i := range h.shards {
		if h.want.Has(erasure.ShardIndex(i)) && !h.own(cluster.ShardIndex(i)) {
			return nil, fmt.Errorf("%w: shard %d is not of zone %s", cluster.ErrInvalid, i, r.mender.cfg.Zone)
		}
	}
	return h, nil
}

func (h *healing) disk(i erasure.ShardIndex) cluster.Disk {
	return h.layout.Disk(h.shard.Key.PG, cluster.ShardIndex(i))
}

func (h *healing) key(i erasure.ShardIndex) cluster.ShardKey {
	k := h.shard.Key
	k.Index = cluster.ShardIndex(i)
	return k
}

// failed keeps why a shard could not be healed.
func (h *healing) failed(err error) {
	if h.why == nil {
		h.why = err
	}
}

// look sorts the wanted shards: a disk that was away has its shard as ever, and
// one that cannot say is left alone.
func (h *healing) look(ctx context.Context) {
	for i := range erasure.ShardIndex(h.geo.Shards()) {
		if !h.want.Has(i) {
			continue
		}
		b, err := h.read(ctx, cluster.ShardIndex(i))
		switch {
		case err == nil:
			disk.PutBuffer(b)
			h.healed = h.healed.With(i)
		case errors.Is(err, cluster.ErrNotFound):
			h.lacking = h.lacking.With(i)
		default:
			h.failed(err)
		}
	}
}

// store rebuilds the lacking shards and appends them, the shards of one node in one
// call, then reads each back: an acknowledgement alone proves nothing.
func (h *healing) store(ctx context.Context) error {
	codec, err := h.m.codecs.Get(h.geo)
	if err != nil {
		return err
	}
	shards := slices.Clone(h.shards)
	byNode := map[cluster.NodeID][]erasure.ShardIndex{}
	for i := range erasure.ShardIndex(h.geo.Shards()) {
		if h.lacking.Has(i) {
			shards[i] = disk.GetBuffer(h.shard.Bytes)[:0]
			byNode[h.disk(i).Node] = append(byNode[h.disk(i).Node], i)
		}
	}
	if err := codec.ReconstructShards(shards, h.lacking); err != nil {
		return err
	}
	for node, list := range byNode {
		disks := make([]cluster.DiskID, len(list))
		batch := make([]cluster.Shard, len(list))
		for j, i := range list {
			disks[j] = h.disk(i).ID
			batch[j] = cluster.Shard{Key: h.key(i), Profile: h.shard.Profile, Sums: erasure.Sums(nil, shards[i]), Payload: shards[i]}
		}
		errs := h.r.to.AppendShards(ctx, node, h.layout.Epoch, disks, batch)
		for j, i := range list {
			if errs[j] == nil {
				errs[j] = h.readBack(ctx, i, batch[j].Sums)
			}
			if errs[j] != nil {
				h.failed(fmt.Errorf("disk %s: %s: %w", disks[j], batch[j].Key, errs[j]))
				continue // its buffer may still be read by a disk that hangs
			}
			h.healed = h.healed.With(i)
			h.r.shards.Inc()
			h.r.bytes.Add(float64(len(shards[i])))
			disk.PutBuffer(shards[i][:cap(shards[i])])
		}
	}
	return nil
}

// readBack proves that a shard that was stored can be read, and is what was stored.
func (h *healing) readBack(ctx context.Context, i erasure.ShardIndex, sums []uint64) error {
	b, err := h.read(ctx, cluster.ShardIndex(i))
	if err != nil {
		return err
	}
	defer disk.PutBuffer(b)
	if !slices.Equal(erasure.Sums(nil, b), sums) {
		return fmt.Errorf("%w: other bytes are stored", cluster.ErrCorrupt)
	}
	return nil
}

// orphan is what a healed chunk leaves when its blob was deleted meanwhile.
func (c LackingChunk) orphans(healed uint64) []cluster.ShardKey {
	var out []cluster.ShardKey
	for i := range cluster.ShardIndex(64) {
		if healed>>i&1 == 1 {
			k := c.Key
			k.Index = i
			out = append(out, k)
		}
	}
	return out
}

// healCall bounds one chunk, its wait for room included.
const healCall = time.Minute
