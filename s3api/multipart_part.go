package s3api

import (
	"context"
	"errors"
	"strconv"
	"strings"

	"bivalve/metadata"
	"bivalve/s3api/checksum"
	"bivalve/s3api/s3xml"
)

// uploadPart stores one part.
func (c *call) uploadPart() error {
	number, err := partNumber(c.query.Get("partNumber"))
	if err != nil {
		return err
	}
	id, err := c.uploadID()
	if err != nil {
		return err
	}
	u, err := c.api.Uploads.GetUpload(c.ctx(), c.bucket, c.key, id)
	if err != nil {
		return err
	}
	cl, err := c.checksumClaim()
	if err != nil {
		return err
	}
	if cl.algorithm != "" && u.ChecksumAlgorithm != "" && cl.algorithm != u.ChecksumAlgorithm {
		return failf("InvalidRequest", "Checksum Type mismatch occurred, expected checksum Type: %s, actual checksum Type: %s",
			strings.ToLower(u.ChecksumAlgorithm), strings.ToLower(cl.algorithm))
	}
	key, err := c.partKey(&u)
	if err != nil {
		return err
	}
	body, err := c.newUpload(kept(u.ChecksumAlgorithm))
	if err != nil {
		return err
	}
	p, err := c.api.Uploads.PutPart(c.ctx(), PutPartRequest{Bucket: c.bucket, Key: c.key, Upload: id, Number: number, Bytes: body.size, Body: body, ClientKey: key})
	if err != nil {
		return body.blame(otherKey(err))
	}
	c.setSeal(kindOf(u.Seal))
	h := c.w.Header()
	h["ETag"] = []string{quoted(p.ETag)}
	switch {
	case u.ChecksumAlgorithm != "":
		h[checksumHeader(p.Checksum.Algorithm)] = []string{p.Checksum.Value}
	case cl.algorithm != "": // the client's own, which was verified but is not the kept one
		h[checksumHeader(cl.algorithm)] = []string{body.claimed()}
	}
	c.done()
	return nil
}

// otherKey is what S3 answers to a part that comes with another key than its upload.
func otherKey(err error) error {
	if errors.Is(err, ErrWrongKey) {
		return failf("InvalidRequest", "The provided encryption parameters did not match the ones used originally.")
	}
	return err
}

// claimed is the client's checksum, once verified.
func (u *upload) claimed() string {
	if u.claim.trailer != "" {
		return u.frames.Trailer()[u.claim.trailer]
	}
	return u.claim.value
}

// kept is the checksum that is computed of a part's bytes. An upload that named none
// gets S3's default, which that of the object can be combined from.
func kept(named string) string {
	if named == "" {
		return checksum.CRC64NVME
	}
	return named
}

// uploadPartCopy stores a range of another object as a part.
func (c *call) uploadPartCopy() error {
	number, err := partNumber(c.query.Get("partNumber"))
	if err != nil {
		return err
	}
	id, err := c.uploadID()
	if err != nil {
		return err
	}
	u, err := c.api.Uploads.GetUpload(c.ctx(), c.bucket, c.key, id)
	if err != nil {
		return err
	}
	key, err := c.partKey(&u)
	if err != nil {
		return err
	}
	_, src, err := c.copySource()
	if err != nil {
		return err
	}
	s, err := c.copyRange(src.Bytes)
	if err != nil {
		return err
	}
	if s.length > c.api.MaxPutBytes {
		return failf("InvalidRequest", "The specified copy source is larger than the maximum allowable size for a copy source: %d", c.api.MaxPutBytes)
	}
	return c.long(func(ctx context.Context) (func(*s3xml.Writer), error) {
		p, err := c.makePart(ctx, CopyPartRequest{Source: src, Offset: s.offset, Bytes: s.length, Bucket: c.bucket, Key: c.key,
			Upload: id, Number: number, Algorithm: u.ChecksumAlgorithm}, key)
		return func(x *s3xml.Writer) {
			c.setSeal(kindOf(u.Seal))
			sum := metadata.Checksum{}
			if u.ChecksumAlgorithm != "" {
				sum = metadata.Checksum{Algorithm: p.Checksum.Algorithm, Value: p.Checksum.Value}
			}
			c.setSourceVersion(&src)
			copyResult(x, "CopyPartResult", p.Modified, p.ETag, sum)
		}, err
	})
}

// copyRange reads x-amz-copy-source-range, which knows only first-last.
func (c *call) copyRange(size int64) (span, error) {
	const name = "x-amz-copy-source-range"
	v := c.header("X-Amz-Copy-Source-Range")
	if v == "" {
		return span{0, size}, nil
	}
	bad := argument(name, v, "The x-amz-copy-source-range value must be of the form bytes=first-last where first and last are the zero-based offsets of the first and last bytes to copy")
	spec, ok := strings.CutPrefix(v, "bytes=")
	from, to, dash := strings.Cut(spec, "-")
	if !ok || !dash || from == "" || to == "" || !digits(from) || !digits(to) {
		return span{}, bad
	}
	first, last := saturated(from), saturated(to)
	if last < first {
		return span{}, bad
	}
	switch {
	case first >= size:
		return span{}, failf("InvalidRequest", "The specified copy range is invalid for the source object size")
	case last >= size:
		return span{}, argument(name, v, "Range specified is not valid for source object of size: "+strconv.FormatInt(size, 10))
	}
	return span{first, last - first + 1}, nil
}
