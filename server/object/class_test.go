package object

import (
	"errors"
	"fmt"
	"testing"

	"bivalve/cluster"
	"bivalve/erasure"
	"bivalve/metadata"
)

func standard(g erasure.Geometry) metadata.Profile {
	return metadata.Profile{K: uint8(g.K), M: uint8(g.M)}
}

func (r *rig) putAs(class, key string, data []byte) (metadata.Version, error) {
	return r.PutObject(r.t.Context(), PutRequest{Bucket: "bucket", Key: key, Bytes: int64(len(data)), Body: newBody(data),
		Attributes: metadata.Attributes{StorageClass: class}})
}

// TestClasses: what a class stores, where, and what it can lose.
func TestClasses(t *testing.T) {
	data := pattern(2*chunk+chunk/3, 5)
	for _, geo := range []erasure.Geometry{{K: 2, M: 1}, {K: 3, M: 1}, {K: 4, M: 1}, {K: 2, M: 2}} {
		onezone := erasure.Geometry{K: geo.PerZone() - 2, M: 2}
		for _, c := range []struct {
			class  string
			shards int // of a chunk
			zones  int
			loses  string
		}{
			{"", geo.Shards(), 2, "a zone and m"}, {storageLean, 2 * geo.K, 2, "a zone"}, {storageOneZone, onezone.PerZone(), 1, "two, and the other zone"},
		} {
			t.Run(fmt.Sprintf("%d+%d %s", geo.K, geo.M, c.class), func(t *testing.T) {
				r := newRig(t, geo)
				v, err := r.putAs(c.class, "k", data)
				if err != nil {
					t.Fatal(err)
				}
				b := v.Parts[0].Blob
				if b.UnderProtected() || len(b.AtRisk) > 0 {
					t.Errorf("%+v in a whole region", b)
				}
				if want := 3 * c.shards; r.shards.count() != want {
					t.Errorf("%d shards on the disks, want %d", r.shards.count(), want)
				}
				zones := map[cluster.Zone]bool{}
				for chunk := range uint32(3) {
					for _, p := range r.of(v, chunk) {
						if _, there := r.shards.disks[p.disk.ID][p.key]; !there {
							continue
						}
						zones[p.zone] = true
						if !shardProfile(b.Profile).Takes(p.key.Index) {
							t.Errorf("%s is not one of the class", p.key)
						}
					}
				}
				if len(zones) != c.zones {
					t.Errorf("the shards lie in %v", zones)
				}
				r.check(v, data, 0, int64(len(data)))
				r.check(v, data, chunk+70_000, 4096)
				for _, lost := range losses(r, b, c.loses) {
					r.region.set(func(f *fakeRegion) { clear(f.disks); clear(f.dead) })
					for _, d := range lost {
						r.region.set(func(f *fakeRegion) { f.dead[d.Node] = true })
					}
					r.check(v, data, 0, int64(len(data)))
				}
				r.region.set(func(f *fakeRegion) { clear(f.dead) })
				if err := r.RemoveBlob(t.Context(), b); err != nil || r.shards.count() != 0 {
					t.Errorf("%d shards are left, %v", r.shards.count(), err)
				}
			})
		}
	}
}

// losses are sets of disks that a class may lose.
func losses(r *rig, b *metadata.Blob, kind string) (out [][]cluster.Disk) {
	var zones [2][]cluster.Disk
	for _, d := range r.region.layout.Disks {
		z := 0
		if r.region.zoneOf[d.Node] == zoneB {
			z = 1
		}
		zones[z] = append(zones[z], d)
	}
	switch kind {
	case "a zone":
		return [][]cluster.Disk{zones[0], zones[1]}
	case "a zone and m":
		m := int(b.Profile.M)
		return [][]cluster.Disk{append(zones[0], zones[1][:m]...), append(zones[1], zones[0][:m]...)}
	}
	its := 0
	if b.Profile.Zone == string(zoneB) {
		its = 1
	}
	for i, one := range zones[its] {
		for _, two := range zones[its][:i] {
			out = append(out, append([]cluster.Disk{one, two}, zones[1-its]...))
		}
	}
	return out
}

// All parts of a upload of class onezone lie in one zone, and in the other one
// when that zone is agreed to be down.
func TestOneZoneKeepsToItsZone(t *testing.T) {
	r := newRig(t, erasure.Geometry{K: 2, M: 1})
	var first string
	for i := range 8 {
		v, err := r.putAs(storageOneZone, "k", pattern(100_000, uint64(i)))
		if err != nil {
			t.Fatal(err)
		}
		if z := v.Parts[0].Blob.Profile.Zone; first == "" {
			first = z
		} else if z != first {
			t.Errorf("one key in zones %s and %s", first, z)
		}
	}
	r.region.agree(cluster.Zone(first), true)
	r.region.killZone(cluster.Zone(first), true)
	v, err := r.putAs(storageOneZone, "k", pattern(100_000, 99))
	if err != nil || v.Parts[0].Blob.Profile.Zone == first {
		t.Errorf("%v, zone %s", err, first)
	}
	r.check(v, pattern(100_000, 99), 0, 100_000)
}

func TestClassNotToBeHad(t *testing.T) {
	r := newRig(t, erasure.Geometry{K: 2})
	for _, n := range []int{1, 100_000} {
		if _, err := r.putAs(storageOneZone, "k", pattern(n, 1)); !errors.Is(err, ErrStorageClass) {
			t.Errorf("%d bytes in a zone of two: %v", n, err)
		}
		if _, err := r.putAs("GLACIER", "k", pattern(n, 1)); !errors.Is(err, ErrStorageClass) {
			t.Errorf("%d bytes in GLACIER: %v", n, err)
		}
	}
	if _, err := r.CreateUpload(t.Context(), CreateUploadRequest{Bucket: "bucket", Key: "k", Attributes: metadata.Attributes{StorageClass: storageOneZone}}); !errors.Is(err, ErrStorageClass) {
		t.Errorf("an upload: %v", err)
	}
	if r.shards.count() != 0 {
		t.Errorf("%d shards were written", r.shards.count())
	}
}

// TestDurableByClass: what is called durable keeps the promise of its class.
func TestDurableByClass(t *testing.T) {
	lean := metadata.Profile{K: 3, M: 1, Class: metadata.ClassLean}
	one := metadata.Profile{K: 2, M: 2, Class: metadata.ClassOneZone, Zone: "a"}
	for _, c := range []struct {
		p       metadata.Profile
		written halves
		down    [2]bool
		want    bool
	}{
		{lean, halves{3, 3}, [2]bool{}, true}, {lean, halves{3, 2}, [2]bool{}, false}, {lean, halves{3, 0}, [2]bool{}, false},
		{lean, halves{3, 0}, [2]bool{false, true}, true}, {lean, halves{2, 0}, [2]bool{false, true}, false},
		{one, halves{4, 0}, [2]bool{}, true}, {one, halves{3, 0}, [2]bool{}, true}, {one, halves{2, 0}, [2]bool{}, false}, {one, halves{2, 0}, [2]bool{true, false}, false},
	} {
		if got := durable(c.p, c.written, c.down); got != c.want {
			t.Errorf("durable(%+v, %v, %v) = %v", c.p, c.written, c.down, got)
		}
	}
}

// What a class leaves out is neither missing nor at risk; what it wants is.
func TestClassProtection(t *testing.T) {
	zones := []string{"a", "b"}
	for _, c := range []struct {
		p       metadata.Profile
		missing uint64
		spare   int
		risk    string
	}{
		{metadata.Profile{K: 2, M: 1}, 0, 4, ""},
		{metadata.Profile{K: 2, M: 1}, 0b000011, 2, "b"},
		{metadata.Profile{K: 2, M: 1, Class: metadata.ClassLean}, 0, 2, ""},
		{metadata.Profile{K: 2, M: 1, Class: metadata.ClassLean}, 0b000001, 1, "b"},
		{metadata.Profile{K: 2, M: 1, Class: metadata.ClassLean}, 0b011000, 0, "a"},
		{metadata.Profile{K: 1, M: 2, Class: metadata.ClassOneZone, Zone: "a"}, 0, 2, ""},
		{metadata.Profile{K: 1, M: 2, Class: metadata.ClassOneZone, Zone: "a"}, 0b000110, 0, ""},
	} {
		b := metadata.Blob{Bytes: 1, Profile: c.p}
		if c.missing != 0 {
			b.Notes = []metadata.ChunkNote{{Missing: c.missing, Zones: zones}}
		}
		b.Assess()
		risk := ""
		for _, z := range b.AtRisk {
			risk += z
		}
		if b.Spare() != c.spare || risk != c.risk {
			t.Errorf("%+v without %b: %d to spare, at risk %q; want %d and %q", c.p, c.missing, b.Spare(), risk, c.spare, c.risk)
		}
	}
}
