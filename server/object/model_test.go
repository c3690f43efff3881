package object

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"testing"
	"testing/synctest"
	"time"

	"bivalve/cluster"
	"bivalve/erasure"
	"bivalve/metadata"
	"bivalve/metadata/replica"

	"pgregory.net/rapid"
)

// TestModel runs random operations against a map, with faults up to the limit of
// the code: one zone, or m nodes of each, and any m shards that rot.
func TestModel(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		geo := rapid.SampledFrom(geometries).Draw(rt, "geometry")
		seed := rapid.Uint64().Draw(rt, "seed")
		steps := rapid.IntRange(5, 25).Draw(rt, "steps")
		var fault error
		synctest.Test(t, func(t *testing.T) {
			fault = newModel(t, geo, seed).run(steps)
		})
		if fault != nil {
			rt.Fatal(fault)
		}
	})
}

type model struct {
	*rig
	rnd     *rand.Rand
	objects map[string][]byte
	maybe   map[string][][]byte // after an unknown outcome: what it may be as well; nil entry = absent
	zone    cluster.Zone        // that is down, or ""
	node    map[cluster.Zone]cluster.NodeID
	rotten  map[metadata.BlobID]bool
}

func newModel(t *testing.T, geo erasure.Geometry, seed uint64) *model {
	return &model{rig: newRig(t, geo), rnd: rand.New(rand.NewPCG(seed, 1)), objects: map[string][]byte{}, maybe: map[string][][]byte{},
		node: map[cluster.Zone]cluster.NodeID{}, rotten: map[metadata.BlobID]bool{}}
}

func (m *model) run(steps int) error {
	for n := range steps {
		if err := m.step(n); err != nil {
			return fmt.Errorf("step %d: %w", n, err)
		}
	}
	for k := range 4 {
		if err := m.get(fmt.Sprint(k)); err != nil {
			return fmt.Errorf("at the end: %w", err)
		}
	}
	return nil
}

func (m *model) step(n int) error {
	key := fmt.Sprint(m.rnd.IntN(4))
	switch p := m.rnd.IntN(100); {
	case p < 40:
		return m.put(key, n)
	case p < 70:
		return m.get(key)
	case p < 80:
		if _, err := m.DeleteObject(m.t.Context(), DeleteRequest{Bucket: "bucket", Key: key, Condition: metadata.Condition{}}); err != nil {
			return err
		}
		delete(m.objects, key)
		delete(m.maybe, key)
	case p < 90:
		m.moveZone()
	case p < 95:
		m.moveNode()
	default:
		return m.rot(key)
	}
	return nil
}

// put writes, sometimes under a condition, sometimes with an outcome that stays
// unknown, sometimes with a body that breaks.
func (m *model) put(key string, n int) error {
	size := []int{0, 100, 16 << 10, 20_000, 300_000, chunk + 1_000}[m.rnd.IntN(6)]
	data := pattern(size, m.rnd.Uint64())
	req := PutRequest{Bucket: "bucket", Key: key, Bytes: int64(size), Body: newBody(data)}
	now, exists := m.objects[key]
	switch m.rnd.IntN(8) {
	case 0:
		if len(m.maybe[key]) > 0 {
			return nil
		}
		req.Condition.IfNoneMatchAny = true
		_, err := m.PutObject(m.t.Context(), req)
		if exists {
			if !errors.Is(err, metadata.ErrConditionFailed) {
				return fmt.Errorf("conditional put over an object of %d bytes: %w", len(now), err)
			}
			return nil
		}
		if err != nil {
			return err
		}
	case 1:
		bad := errors.New("broken body")
		b := newBody(data[:m.rnd.IntN(size+1)])
		b.err = bad
		req.Body = b
		if _, err := m.PutObject(m.t.Context(), req); !errors.Is(err, bad) {
			return fmt.Errorf("broken body: %w", err)
		}
		return nil
	case 2:
		applied := m.rnd.IntN(2) == 0
		m.groups.OnPropose = func(context.Context, replica.GroupID, metadata.CommandKind, metadata.Command) (bool, error) {
			return applied, replica.ErrUnknown
		}
		_, err := m.PutObject(m.t.Context(), req)
		m.groups.OnPropose = nil
		if !errors.Is(err, metadata.ErrUnknownOutcome) {
			return fmt.Errorf("unknown outcome: %w", err)
		}
		m.maybe[key] = append(m.maybe[key], data)
		return nil
	default:
		if _, err := m.PutObject(m.t.Context(), req); err != nil {
			return fmt.Errorf("put of %d bytes with zone %q down: %w", size, m.zone, err)
		}
	}
	m.objects[key] = data
	delete(m.maybe, key)
	return nil
}

func (m *model) get(key string) error {
	want, exists := m.objects[key]
	v, err := m.HeadObject(m.t.Context(), "bucket", key, "")
	if errors.Is(err, metadata.ErrNoSuchKey) {
		if exists {
			return fmt.Errorf("key %s of %d bytes is lost", key, len(want))
		}
		return nil
	}
	if err != nil {
		return err
	}
	got, err := m.rig.get(v, 0, v.Bytes)
	if err != nil {
		return fmt.Errorf("get of %d bytes with zone %q down: %w", v.Bytes, m.zone, err)
	}
	if exists && bytes.Equal(got, want) {
		return nil
	}
	for _, other := range m.maybe[key] {
		if bytes.Equal(got, other) {
			return nil
		}
	}
	return fmt.Errorf("key %s has %d bytes that nobody put there", key, len(got))
}

// moveZone takes a zone down, agreed or agreed only later, or brings it back.
// What was written meanwhile depends on the other zone, which therefore stays up.
func (m *model) moveZone() {
	if m.zone != "" {
		m.region.killZone(m.zone, false)
		m.region.agree(m.zone, false)
		m.zone = ""
		return
	}
	if len(m.node) > 0 || m.rotted() {
		return
	}
	z := zoneB // always the same one: the other holds what was written alone
	m.zone = z
	m.region.killZone(z, true)
	if m.rnd.IntN(2) == 0 {
		m.region.agree(z, true)
	} else {
		time.AfterFunc(time.Duration(m.rnd.IntN(8))*time.Second, func() {
			m.region.set(func(r *fakeRegion) { r.agreed[z] = r.dead["b0"] })
		})
	}
}

// rotted: shards have rotted, so that a zone alone may not be enough.
func (m *model) rotted() bool { return len(m.rotten) > 0 }

// moveNode kills one node where the code allows it, or brings it back.
func (m *model) moveNode() {
	if m.zone != "" || m.geo.M == 0 || m.rotted() {
		return
	}
	z := []cluster.Zone{zoneA, zoneB}[m.rnd.IntN(2)]
	if n, ok := m.node[z]; ok {
		m.region.set(func(r *fakeRegion) { r.dead[n], r.suspect[n] = false, false })
		delete(m.node, z)
		return
	}
	n := cluster.NodeID(fmt.Sprintf("%s%d", z, m.rnd.IntN(m.geo.PerZone())))
	m.node[z] = n
	known := m.rnd.IntN(2) == 0
	m.region.set(func(r *fakeRegion) { r.dead[n], r.suspect[n] = true, known })
}

// rot damages m shards of an object, once, while everything else is well.
func (m *model) rot(key string) error {
	v, err := m.HeadObject(m.t.Context(), "bucket", key, "")
	if err != nil || len(v.Parts) == 0 || m.zone != "" || len(m.node) > 0 || m.rotten[v.Parts[0].Blob.ID] || v.Parts[0].Blob.UnderProtected() {
		return nil
	}
	m.rotten[v.Parts[0].Blob.ID] = true
	for c := range chunks(v.Bytes) {
		shards := m.of(v, c)
		for _, i := range m.rnd.Perm(len(shards))[:m.geo.Survives()] {
			m.shards.damage(shards[i], func(s *stored) { s.payload[m.rnd.IntN(len(s.payload))] ^= 0x10 })
		}
	}
	return nil
}
