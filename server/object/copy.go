package object

import (
	"context"
	"errors"
	"fmt"

	"bivalve/cluster"
	"bivalve/metadata"
	"bivalve/metadata/replica"
)

// References lets a copy hold the blobs of its source; *catalog.Catalog is one.
type References interface {
	// AddReference makes a reference at the home of blobs. ErrConflict if one of them
	// is not held any more.
	AddReference(ctx context.Context, home replica.GroupID, a metadata.AddReference) (metadata.Reference, error)
	DropReferences(ctx context.Context, home replica.GroupID, ids []metadata.RefID) error
}

// ErrNotShared: the copy cannot have the blobs of its source, so its bytes have to be
// read and written. Nothing was done.
var ErrNotShared = errors.New("the copy cannot share the blobs of its source")

// CopyRequest makes an object of the whole of Source, as HeadObject answered it.
type CopyRequest struct {
	Source      metadata.Version
	Bucket, Key string
	Attributes  metadata.Attributes
	Tags        map[string]string
	Lock        metadata.Lock
	Condition   metadata.Condition
	Seal        metadata.SealWith
}

// CopyPartRequest makes a part of bytes [Offset, Offset+Bytes) of Source. The part has
// a checksum of that algorithm; "": whichever its source has, or none.
type CopyPartRequest struct {
	Source        metadata.Version
	Offset, Bytes int64
	Bucket, Key   string
	Upload        metadata.UploadID
	Number        int
	Algorithm     string
}

// CopyObject makes an object out of the blobs of another: no byte is read. It has the
// ETag, checksum and parts of its source. First the blobs are held by references, then
// the copy is committed that names them; what fails between leaves references which
// nobody names, for upkeep to find.
func (s *Store) CopyObject(ctx context.Context, r CopyRequest) (metadata.Version, error) {
	b, err := s.cfg.Buckets.GetBucket(ctx, r.Bucket)
	if err != nil {
		return metadata.Version{}, err
	}
	if err := s.checkClass(r.Attributes.StorageClass); err != nil {
		return metadata.Version{}, err
	}
	src := r.Source
	if len(src.Inline) > 0 || !sameClass(src.Attributes.StorageClass, r.Attributes.StorageClass) || !shareable(src.Parts, sealing(b, r.Seal)) {
		return metadata.Version{}, ErrNotShared
	}
	var done metadata.Version
	err = s.within(ctx, b, func(now metadata.Bucket) error {
		parts, drop, err := s.refer(ctx, src.Parts, s.cfg.Versions.PartitionOf(now.ID, r.Key))
		if err != nil {
			return err
		}
		return drop(s.inQuota(ctx, now, r.Key, src.Bytes, r.Condition, func(c metadata.Condition) (err error) {
			done, err = s.cfg.Versions.PutVersion(ctx, metadata.Version{Bucket: now.ID, Key: r.Key, ID: metadata.NullVersion,
				Bytes: src.Bytes, ETag: src.ETag, Checksum: src.Checksum, Attributes: r.Attributes, Tags: r.Tags, Lock: r.Lock,
				Parts: parts}, c)
			s.describe(&done, now, true)
			return err
		}))
	})
	if err != nil {
		return metadata.Version{}, err
	}
	return done, nil
}

// CopyPart is CopyObject for a part of an upload: the range is one part of the source,
// of which hash and checksum are known.
func (s *Store) CopyPart(ctx context.Context, r CopyPartRequest) (p metadata.Part, err error) {
	from, ok := exactPart(r.Source, r.Offset, r.Bytes)
	if !ok || r.Algorithm != "" && from.Checksum.Algorithm != r.Algorithm {
		return p, ErrNotShared
	}
	err = s.inUpload(ctx, r.Bucket, r.Key, r.Upload, func(ref metadata.UploadRef) error {
		u, err := s.cfg.Uploads.GetUpload(ctx, ref)
		if err != nil {
			return err
		}
		with := metadata.SealWith{}
		if u.Seal != nil {
			with.Kind = u.Seal.Kind
		}
		if !sameClass(r.Source.Attributes.StorageClass, u.Attributes.StorageClass) || !shareable([]metadata.Part{from}, with) {
			return ErrNotShared
		}
		parts, drop, err := s.refer(ctx, []metadata.Part{from}, s.cfg.Versions.PartitionOf(ref.Bucket, r.Key))
		if err != nil {
			return err
		}
		parts[0].Number = r.Number
		p, err = s.cfg.Uploads.PutPart(ctx, ref, parts[0])
		return drop(err)
	})
	return p, err
}

// exactPart is the part of a version that has exactly these bytes. The only part of a
// simple object is described by its version.
func exactPart(v metadata.Version, offset, n int64) (metadata.Part, bool) {
	at := int64(0)
	for _, p := range v.Parts {
		if at == offset && p.Bytes == n {
			if p.ETag == "" && len(v.Parts) == 1 {
				p.ETag, p.Checksum = v.ETag, v.Checksum
			}
			return p, p.ETag != ""
		}
		at += p.Bytes
	}
	return metadata.Part{}, false
}

// shareable tells whether a copy that is to be encrypted like that can have parts as
// they are. A client's key is another one for each copy, as far as anybody knows.
func shareable(parts []metadata.Part, with metadata.SealWith) bool {
	for _, p := range parts {
		kind := metadata.SealNone
		if p.Seal != nil {
			kind = p.Seal.Kind
		}
		if p.Blob == nil && p.Bytes > 0 || kind != with.Kind || kind == metadata.SealClient {
			return false
		}
	}
	return len(parts) > 0
}

func sameClass(a, b string) bool {
	if a == "" {
		a = storageStandard
	}
	return a == b || b == "" && a == storageStandard
}

// refer makes references to the blobs of parts, for a record of partition to, and
// answers the parts that it shall have. drop is called with the outcome of its commit
// and passes it on: if the record certainly does not exist, the references are let go.
func (s *Store) refer(ctx context.Context, parts []metadata.Part, to uint16) (out []metadata.Part, drop func(error) error, err error) {
	var homes []replica.GroupID
	blobs := map[replica.GroupID][]metadata.BlobID{}
	for _, p := range parts {
		if p.Blob == nil {
			continue
		}
		home := homeOf(p.Blob)
		if blobs[home] == nil {
			homes = append(homes, home)
		}
		blobs[home] = append(blobs[home], p.Blob.ID)
	}
	made := map[replica.GroupID]metadata.Reference{}
	drop = func(err error) error { return s.unrefer(made, err) }
	for _, home := range homes {
		a := metadata.AddReference{To: to, Lifetime: int64(s.cfg.ReferenceLife), Blobs: blobs[home]}
		if err := s.cfg.Random(a.ID[:]); err != nil {
			return nil, nil, drop(fmt.Errorf("reference id: %w: %w", metadata.ErrUnavailable, err))
		}
		ref, err := s.cfg.References.AddReference(ctx, home, a)
		if err != nil {
			return nil, nil, drop(before(err))
		}
		made[home] = ref
	}
	for _, p := range parts {
		if p.Blob != nil {
			p = p.Refer(made[homeOf(p.Blob)])
		}
		out = append(out, p)
	}
	return out, drop, nil
}

// before is an error that came before a copy's commit: whatever became of the
// reference, no copy was made.
func before(err error) error {
	if errors.Is(err, metadata.ErrUnknownOutcome) {
		return fmt.Errorf("%w: %v", metadata.ErrUnavailable, err)
	}
	return err
}

func homeOf(b *metadata.Blob) replica.GroupID {
	return replica.GroupID(cluster.BlobID(b.ID).Partition())
}

// unrefer lets references go after a commit that certainly did not happen, in the
// background: upkeep finds what it leaves. It passes err on; a conflict says that blobs
// or references are gone already, and then the bytes have to be copied.
func (s *Store) unrefer(made map[replica.GroupID]metadata.Reference, err error) error {
	if err == nil || !metadata.IsAnswer(err) && !errors.Is(err, metadata.ErrUnavailable) {
		return err
	}
	s.cleaning.Add(1)
	go func() {
		defer s.cleaning.Done()
		ctx, cancel := context.WithTimeout(s.closing, discardTimeout)
		defer cancel()
		for home, ref := range made {
			if err := s.cfg.References.DropReferences(ctx, home, []metadata.RefID{ref.ID}); err != nil {
				s.cfg.Logger.Debug("a reference of a failed copy is left to upkeep", "group", home, "err", err)
			}
		}
	}()
	if errors.Is(err, metadata.ErrConflict) {
		return ErrNotShared
	}
	return err
}
