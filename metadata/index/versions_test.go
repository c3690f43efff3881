package index

import (
	"compress/gzip"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

	"bivalve/metadata"

	"pgregory.net/rapid"
)

// modelVersion is what the model of a key's history keeps, the newest first.
type modelVersion struct {
	id, etag string
	marker   bool
}

// versionModel says what S3 says of versions, on plain lists.
type versionModel struct {
	state metadata.Versioning
	keys  map[string][]modelVersion
}

func (m *versionModel) current(key string) *modelVersion {
	if l := m.keys[key]; len(l) > 0 && !l[0].marker {
		return &l[0]
	}
	return nil
}

func (m *versionModel) at(key, id string) int {
	return slices.IndexFunc(m.keys[key], func(v modelVersion) bool { return v.id == id })
}

// add puts v in front; a null version takes the place of the one before.
func (m *versionModel) add(key string, v modelVersion) {
	if v.id == metadata.NullVersion {
		if i := m.at(key, v.id); i >= 0 {
			m.keys[key] = slices.Delete(m.keys[key], i, i+1)
		}
	}
	m.keys[key] = append([]modelVersion{v}, m.keys[key]...)
}

// lines are the rows that a listing of versions has.
func (m *versionModel) lines(prefix, delimiter string) []string {
	var out []string
	keys := make([]string, 0, len(m.keys))
	for k := range m.keys {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	for _, k := range keys {
		if !strings.HasPrefix(k, prefix) || len(m.keys[k]) == 0 {
			continue
		}
		if i := strings.Index(k[len(prefix):], delimiter); delimiter != "" && i >= 0 {
			if p := k[:len(prefix)+i+1] + " prefix"; len(out) == 0 || out[len(out)-1] != p {
				out = append(out, p)
			}
			continue
		}
		for i, v := range m.keys[k] {
			out = append(out, fmt.Sprint(k, " ", v.id, " ", v.etag, " ", v.marker, " ", i == 0))
		}
	}
	return out
}

// pages lists versions page by page.
func (h *harness) pages(prefix, delimiter string, limit int) []string {
	h.t.Helper()
	var out []string
	q := metadata.VersionPage{Bucket: bucketA, Prefix: prefix, Delimiter: delimiter, Limit: limit}
	for {
		var got metadata.VersionRows
		h.must(h.query(metadata.QueryVersions, q, &got))
		for _, r := range got.Rows {
			q.AfterKey, q.AfterTime = r.Name, 0
			if r.Record == nil {
				out = append(out, r.Name+" prefix")
				continue
			}
			s, err := metadata.DecodeSummary(r.Name, r.Record)
			h.must(err)
			q.AfterTime = s.Modified
			if s.VersionID == metadata.NullVersion && limit%2 == 0 {
				q.AfterTime = -1 // the null version is found, or named by its time
			}
			out = append(out, fmt.Sprint(r.Name, " ", s.VersionID, " ", s.ETag, " ", s.DeleteMarker, " ", r.Latest))
		}
		if !got.More {
			return out
		}
	}
}

// TestVersionsAgainstModel: whatever is done in whatever state of versioning, the
// history of every key is what the model says, page size and restarts regardless,
// and the counts and owners follow from the records.
func TestVersionsAgainstModel(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		h := newHarness(t)
		m := &versionModel{keys: map[string][]modelVersion{}}
		revision, serial := int64(0), byte(0)
		steps := rapid.IntRange(1, 40).Draw(rt, "steps")
		for range steps {
			key := rapid.SampledFrom([]string{"a", "a/1", "a/2", "b", "a\x01"}).Draw(rt, "key")
			serial++
			random := metadata.Random{serial}
			switch rapid.IntRange(0, 6).Draw(rt, "op") {
			case 0:
				m.state = rapid.SampledFrom([]metadata.Versioning{metadata.VersioningEnabled, metadata.VersioningSuspended}).Draw(rt, "state")
				revision++
				h.must(h.do(metadata.CmdSetRules, metadata.SetRules{Bucket: bucketA, Revision: revision, Rules: metadata.BucketRules{Versioning: m.state}}))
				h.must(h.do(metadata.CmdSetRules, metadata.SetRules{Bucket: bucketA, Revision: revision - 1})) // late: passed over
			case 1, 2, 3:
				v := version(key, fmt.Sprint("e", serial), blobPart(0, serial, uint64(serial)%2))
				raw, err := h.apply(h.command(metadata.CmdPutVersion, metadata.PutVersion{Version: v, Random: random}))
				h.must(err)
				var done metadata.Committed
				h.must(metadata.DecodeBody(raw, &done))
				if (done.ID == metadata.NullVersion) != (m.state != metadata.VersioningEnabled) {
					rt.Fatalf("id %q in state %q", done.ID, m.state)
				}
				m.add(key, modelVersion{id: done.ID, etag: v.ETag})
			case 4:
				raw, err := h.apply(h.command(metadata.CmdDeleteKey, metadata.DeleteKey{Bucket: bucketA, Key: key, Random: random}))
				h.must(err)
				var done metadata.Deleted
				h.must(metadata.DecodeBody(raw, &done))
				if m.state == metadata.Unversioned {
					delete(m.keys, key)
				} else {
					m.add(key, modelVersion{id: done.ID, marker: true})
				}
			case 5:
				if len(m.keys[key]) == 0 {
					continue
				}
				i := rapid.IntRange(0, len(m.keys[key])-1).Draw(rt, "version")
				h.must(h.do(metadata.CmdDeleteKey, metadata.DeleteKey{Bucket: bucketA, Key: key, Version: m.keys[key][i].id}))
				m.keys[key] = slices.Delete(m.keys[key], i, i+1)
			case 6:
				_, err := h.ix.Flush()
				h.must(err)
				h.must(h.ix.Close())
				h.open()
			}
			h.sameAs(rt, m, key)
		}
		for _, q := range [][2]string{{"", ""}, {"", "/"}, {"a", ""}, {"a/", "/"}} {
			for _, limit := range []int{1, 2, 3, 100} {
				if got, want := h.pages(q[0], q[1], limit), m.lines(q[0], q[1]); !slices.Equal(got, want) {
					rt.Fatalf("prefix %q delimiter %q limit %d:\n%s\nwant:\n%s", q[0], q[1], limit, strings.Join(got, "\n"), strings.Join(want, "\n"))
				}
			}
		}
		audit(t, h.ix)
	})
}

// sameAs compares what reads of one key answer.
func (h *harness) sameAs(rt *rapid.T, m *versionModel, key string) {
	err := h.query(metadata.QueryVersion, metadata.KeyRef{Bucket: bucketA, Key: key}, nil)
	if (err == nil) != (len(m.keys[key]) > 0) {
		rt.Fatalf("newest of %q: %v, the model has %+v", key, err, m.keys[key])
	}
	for _, v := range m.keys[key] {
		f, err := h.ix.find(bucketA, key, v.id)
		if err != nil || !f.exists || f.v.ETag != v.etag || f.v.DeleteMarker != v.marker {
			rt.Fatalf("%q version %q: %+v, %v", key, v.id, f, err)
		}
	}
	cur, err := h.ix.current(bucketA, key)
	h.must(err)
	if want := m.current(key); cur.exists != (want != nil) || want != nil && cur.v.ID != want.id {
		rt.Fatalf("current of %q: %+v, want %+v", key, cur.v, want)
	}
}

// TestFenceSeesMarkers: a bucket with nothing but a delete marker is not empty.
func TestFenceSeesMarkers(t *testing.T) {
	h := newHarness(t)
	h.must(h.do(metadata.CmdSetRules, metadata.SetRules{Bucket: bucketA, Revision: 1, Rules: metadata.BucketRules{Versioning: metadata.VersioningEnabled}}))
	h.must(h.do(metadata.CmdDeleteKey, metadata.DeleteKey{Bucket: bucketA, Key: "k", Random: metadata.Random{1}}))
	if err := h.do(metadata.CmdFenceBucket, metadata.Fence{Bucket: bucketA, Attempt: 1}); !errors.Is(err, metadata.ErrBucketNotEmpty) {
		t.Fatal(err)
	}
}

// TestWriteSample makes a sample of the present format; it runs only when asked to.
func TestWriteSample(t *testing.T) {
	dir := os.Getenv("BIVALVE_WRITE_SAMPLE")
	if dir == "" {
		t.Skip("BIVALVE_WRITE_SAMPLE names no folder")
	}
	h := newHarness(t)
	_, err := h.ix.ApplyBatch(nil, []byte{8, 1})
	h.must(err)
	h.must(h.do(metadata.CmdPutVersion, metadata.PutVersion{Version: version("k", "a", blobPart(0, 1, 1))}))
	h.must(h.do(metadata.CmdSetRules, metadata.SetRules{Bucket: bucketA, Revision: 1, Rules: metadata.BucketRules{
		Versioning: metadata.VersioningEnabled, Lock: &metadata.LockRule{Mode: metadata.Governance, Days: 1}}}))
	for i := range byte(3) {
		v := version("k", fmt.Sprint("v", i), blobPart(0, 10+i, 0))
		v.Tags = map[string]string{"colour": "blue"}
		h.must(h.do(metadata.CmdPutVersion, metadata.PutVersion{Version: v, Random: metadata.Random{i}}))
	}
	h.must(h.do(metadata.CmdDeleteKey, metadata.DeleteKey{Bucket: bucketA, Key: "k", Random: metadata.Random{9}}))
	h.must(h.do(metadata.CmdPutVersion, metadata.PutVersion{Version: version("l", "b"), Random: metadata.Random{10}}))
	for id := range byte(3) { // one that is used, one that is released, one that is pending
		ref, err := h.refer(id+1, 1, 1e9, 11, 12)
		h.must(err)
		if id < 2 {
			h.must(h.do(metadata.CmdPutVersion, metadata.PutVersion{Version: version(fmt.Sprint("copy", id), "v1", blobPart(0, 11, 0).Refer(ref), blobPart(0, 12, 0).Refer(ref)), Random: metadata.Random{20 + id}}))
		}
	}
	copied, err := h.ix.current(bucketA, "copy0")
	h.must(err)
	h.must(h.do(metadata.CmdSetRules, metadata.SetRules{Bucket: bucketA, Revision: 2, Rules: metadata.BucketRules{Versioning: metadata.VersioningEnabled}}))
	v, err := h.ix.current(bucketA, "copy1")
	h.must(err)
	h.must(h.do(metadata.CmdDeleteKey, metadata.DeleteKey{Bucket: bucketA, Key: "copy1", Version: v.v.ID, Bypass: true, Clock: 1}))
	h.must(h.do(metadata.CmdConfirmReferences, metadata.RefIDs{IDs: []metadata.RefID{copied.v.Parts[0].Ref.ID}}))
	audit(t, h.ix)
	text := dump(t, h.ix)
	h.must(h.ix.Close())
	raw, err := os.ReadFile(h.dir + "/index.db")
	h.must(err)
	h.must(os.MkdirAll(dir, 0o755))
	for name, data := range map[string][]byte{"index.db.gz": raw, "dump.txt.gz": []byte(text)} {
		f, err := os.Create(dir + "/" + name)
		h.must(err)
		z := gzip.NewWriter(f)
		_, err = z.Write(data)
		h.must(errors.Join(err, z.Close(), f.Close()))
	}
}
