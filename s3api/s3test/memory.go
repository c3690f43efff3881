package s3test

import (
	"bytes"
	"context"
	"crypto/md5"
	"fmt"
	"io"
	"slices"
	"sort"
	"strings"
	"sync"
	"time"

	"bivalve/metadata"
	"bivalve/s3api"
)

// Stores is everything behind the door.
type Stores struct {
	Buckets  s3api.Buckets
	Settings s3api.Settings
	Objects  s3api.Objects
	Lister   s3api.Lister
	Uploads  s3api.Uploads
	Copier   s3api.Copier
	Sealed   s3api.Sealed
}

// Memory keeps a region in memory. Hook, if set before use, runs at the start of
// every call with its name; its error is the call's answer. BreakRead, if set,
// wraps the stream of OpenObject.
type Memory struct {
	Hook      func(op, bucket, key string) error
	BreakRead func(io.ReadCloser) io.ReadCloser
	Now       func() time.Time

	mu       sync.Mutex
	serial   uint64
	buckets  map[string]*bucket
	finished map[metadata.UploadID]finished
}

type bucket struct {
	metadata.Bucket
	objects map[string][]*object // the newest version first
	uploads map[metadata.UploadID]*upload
}

type object struct {
	metadata.Version
	data []byte
}

type upload struct {
	metadata.Upload
	parts map[int]*part
}

type part struct {
	metadata.Part
	data []byte
}

type finished struct {
	bucket, key string
	version     metadata.Version
}

// NewMemory answers an empty region.
func NewMemory() *Memory {
	return &Memory{Now: time.Now, buckets: map[string]*bucket{}, finished: map[metadata.UploadID]finished{}}
}

// Stores answers the region as the interfaces of the door.
func (m *Memory) Stores() Stores { return Stores{m, m, m, m, m, m, m} }

func (m *Memory) enter(op, bucket, key string) error {
	if m.Hook != nil {
		if err := m.Hook(op, bucket, key); err != nil {
			return err
		}
	}
	m.mu.Lock()
	return nil
}

func (m *Memory) next() (id [16]byte) {
	m.serial++
	copy(id[:], fmt.Sprintf("%016d", m.serial))
	return id
}

func (m *Memory) CreateBucket(_ context.Context, name string) (metadata.Bucket, error) {
	if err := m.enter("CreateBucket", name, ""); err != nil {
		return metadata.Bucket{}, err
	}
	defer m.mu.Unlock()
	if b := m.buckets[name]; b != nil {
		return b.Bucket, metadata.ErrBucketExists
	}
	b := &bucket{Bucket: metadata.Bucket{Name: name, ID: m.next(), Created: m.Now().UnixNano()},
		objects: map[string][]*object{}, uploads: map[metadata.UploadID]*upload{}}
	m.buckets[name] = b
	return b.Bucket, nil
}

// find is called with the lock held.
func (m *Memory) find(name string) (*bucket, error) {
	if b := m.buckets[name]; b != nil {
		return b, nil
	}
	return nil, metadata.ErrNoSuchBucket
}

func (m *Memory) GetBucket(_ context.Context, name string) (metadata.Bucket, error) {
	if err := m.enter("GetBucket", name, ""); err != nil {
		return metadata.Bucket{}, err
	}
	defer m.mu.Unlock()
	b, err := m.find(name)
	if err != nil {
		return metadata.Bucket{}, err
	}
	return b.Bucket, nil
}

func (m *Memory) DeleteBucket(_ context.Context, name string) error {
	if err := m.enter("DeleteBucket", name, ""); err != nil {
		return err
	}
	defer m.mu.Unlock()
	b, err := m.find(name)
	if err != nil {
		return err
	}
	if len(b.objects) > 0 {
		return metadata.ErrBucketNotEmpty
	}
	delete(m.buckets, name)
	return nil
}

func (m *Memory) ListBuckets(_ context.Context, q s3api.BucketQuery) ([]metadata.Bucket, bool, error) {
	if err := m.enter("ListBuckets", "", ""); err != nil {
		return nil, false, err
	}
	defer m.mu.Unlock()
	var out []metadata.Bucket
	for name, b := range m.buckets {
		if strings.HasPrefix(name, q.Prefix) && name > q.After {
			out = append(out, b.Bucket)
		}
	}
	sort.Slice(out, func(i, j int) bool { return out[i].Name < out[j].Name })
	more := len(out) > q.Limit
	return out[:min(len(out), q.Limit)], more, nil
}

// check evaluates a condition against what is there, with the lock held.
func check(c metadata.Condition, o *object) error {
	switch {
	case c.IfNoneMatchAny && o != nil:
		return metadata.ErrConditionFailed
	case c.IfMatch != "" && o == nil:
		return metadata.ErrNoSuchKey
	case c.IfMatch != "" && c.IfMatch != "*" && c.IfMatch != o.ETag:
		return metadata.ErrConditionFailed
	}
	return nil
}

func (m *Memory) PutObject(ctx context.Context, r s3api.PutRequest) (metadata.Version, error) {
	if _, err := m.GetBucket(ctx, r.Bucket); err != nil {
		return metadata.Version{}, err
	}
	data, err := readBody(r.Body, r.Bytes)
	if err != nil {
		return metadata.Version{}, err
	}
	if err := m.enter("PutObject", r.Bucket, r.Key); err != nil {
		return metadata.Version{}, err
	}
	defer m.mu.Unlock()
	b, err := m.find(r.Bucket)
	if err != nil {
		return metadata.Version{}, err
	}
	if err := check(r.Condition, b.current(r.Key)); err != nil {
		return metadata.Version{}, err
	}
	sums := r.Body.Sums()
	o := &object{data: data, Version: metadata.Version{Bucket: b.ID, Key: r.Key, ID: metadata.NullVersion, Modified: m.Now().UnixNano(),
		Bytes: r.Bytes, ETag: sums.MD5, Checksum: sums.Checksum, Attributes: r.Attributes, Tags: r.Tags, Lock: r.Lock,
		Parts: []metadata.Part{{Bytes: r.Bytes, ETag: sums.MD5, Checksum: sums.Checksum, Seal: m.seal(b, r.Seal)}}}}
	o.ETag = etagOf(o.ETag, o.Parts[0].Seal)
	return m.commit(b, o)
}

func readBody(body io.Reader, size int64) ([]byte, error) {
	data, err := io.ReadAll(body)
	if err == nil && int64(len(data)) != size {
		err = fmt.Errorf("body of %d bytes, declared %d", len(data), size)
	}
	return data, err
}

func (m *Memory) OpenObject(_ context.Context, v metadata.Version, offset, length int64) (io.ReadCloser, error) {
	if err := m.CheckKey(v, nil); err != nil {
		return nil, err
	}
	return m.open(v, offset, length)
}

func (m *Memory) open(v metadata.Version, offset, length int64) (io.ReadCloser, error) {
	if err := m.enter("OpenObject", "", v.Key); err != nil {
		return nil, err
	}
	m.mu.Unlock()
	rd := io.NopCloser(bytes.NewReader(v.Inline[offset : offset+length]))
	if m.BreakRead != nil {
		rd = m.BreakRead(rd)
	}
	return rd, nil
}

func (m *Memory) ListObjects(_ context.Context, r s3api.ListRequest) (s3api.ListPage, error) {
	var p s3api.ListPage
	if err := m.enter("ListObjects", r.Bucket, ""); err != nil {
		return p, err
	}
	defer m.mu.Unlock()
	b, err := m.find(r.Bucket)
	if err != nil {
		return p, err
	}
	keys := make([]string, 0, len(b.objects))
	for k := range b.objects {
		if b.current(k) != nil {
			keys = append(keys, k)
		}
	}
	slices.Sort(keys)
	for _, k := range keys {
		if !strings.HasPrefix(k, r.Prefix) || k <= r.After {
			continue
		}
		prefix := common(k, r.Prefix, r.Delimiter)
		if prefix != "" && (prefix <= r.After || len(p.Prefixes) > 0 && p.Prefixes[len(p.Prefixes)-1] == prefix) {
			continue
		}
		if len(p.Objects)+len(p.Prefixes) == r.Limit {
			p.More = true
			return p, nil
		}
		if prefix != "" {
			p.Prefixes = append(p.Prefixes, prefix)
			p.Next = prefix
			continue
		}
		o := b.current(k)
		p.Objects = append(p.Objects, metadata.ObjectSummary{Key: k, Bytes: o.Bytes, ETag: o.ETag, Modified: o.Modified,
			StorageClass: o.Attributes.StorageClass, Checksum: o.Checksum})
		p.Next = k
	}
	p.Next = ""
	return p, nil
}

// common is the common prefix into which the key collapses, or "".
func common(key, prefix, delimiter string) string {
	if delimiter == "" {
		return ""
	}
	if i := strings.Index(key[len(prefix):], delimiter); i >= 0 {
		return key[:len(prefix)+i+len(delimiter)]
	}
	return ""
}

// Fingerprint describes all that a client can see of the region: two that are
// alike mean that nothing has changed.
func (m *Memory) Fingerprint() string {
	m.mu.Lock()
	defer m.mu.Unlock()
	var lines []string
	for name, b := range m.buckets {
		lines = append(lines, fmt.Sprintf("bucket %s %+v", name, b.Bucket))
		for key, history := range b.objects {
			for i, o := range history {
				lines = append(lines, fmt.Sprintf("object %s/%q %d %+v %x", name, key, i, o.Version, md5.Sum(o.data)))
			}
		}
		for id, u := range b.uploads {
			lines = append(lines, fmt.Sprintf("upload %s/%s %+v", name, id, u.Upload))
			for n, p := range u.parts {
				lines = append(lines, fmt.Sprintf("part %s %d %+v", id, n, p.Part))
			}
		}
	}
	slices.Sort(lines)
	return strings.Join(lines, "\n")
}
