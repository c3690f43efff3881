package s3api

import (
	"context"
	"errors"

	"bivalve/metadata"
	"bivalve/s3api/checksum"
)

// Copier makes copies that have the stored bytes of their source, without reading
// them. Both answer ErrNotShared, having done nothing, if this copy has to be read and
// written; other errors as PutObject and PutPart.
type Copier interface {
	// CopyObject copies the whole of a source, which keeps its ETag, checksum and parts.
	CopyObject(ctx context.Context, r CopyRequest) (metadata.Version, error)
	// CopyPart copies a range of a source that is one of its parts.
	CopyPart(ctx context.Context, r CopyPartRequest) (metadata.Part, error)
}

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

// CopyPartRequest makes a part of bytes [Offset, Offset+Bytes) of Source. The part
// needs a checksum of that algorithm; "": it may have whichever its source has, or none.
type CopyPartRequest struct {
	Source        metadata.Version
	Offset, Bytes int64
	Bucket, Key   string
	Upload        metadata.UploadID
	Number        int // 1..10000
	Algorithm     string
}

// makeCopy shares the bytes of the source if it can and copies them if not. asked is
// the checksum that the client wants; "": that of the source.
func (c *call) makeCopy(ctx context.Context, r CopyRequest, asked string) (v metadata.Version, err error) {
	src := r.Source
	if asked == "" || asked == src.Checksum.Algorithm && src.Checksum.Type != checksum.TypeComposite {
		if v, err = c.api.Copier.CopyObject(ctx, r); !errors.Is(err, ErrNotShared) {
			return v, err
		}
	}
	if asked == "" {
		asked = src.Checksum.Algorithm
	}
	err = c.withSource(ctx, src, span{0, src.Bytes}, asked, func(body Body) (err error) {
		v, err = c.api.Objects.PutObject(ctx, PutRequest{Bucket: r.Bucket, Key: r.Key, Bytes: src.Bytes, Body: body,
			Attributes: r.Attributes, Tags: r.Tags, Lock: r.Lock, Condition: r.Condition, Seal: r.Seal})
		return err
	})
	return v, err
}

// makePart does the same for a range that becomes a part.
func (c *call) makePart(ctx context.Context, r CopyPartRequest, clientKey []byte) (p metadata.Part, err error) {
	if p, err = c.api.Copier.CopyPart(ctx, r); !errors.Is(err, ErrNotShared) {
		return p, err
	}
	err = c.withSource(ctx, r.Source, span{r.Offset, r.Bytes}, kept(r.Algorithm), func(body Body) (err error) {
		p, err = c.api.Uploads.PutPart(ctx, PutPartRequest{Bucket: r.Bucket, Key: r.Key, Upload: r.Upload, Number: r.Number,
			Bytes: r.Bytes, Body: body, ClientKey: clientKey})
		return otherKey(err)
	})
	return p, err
}
