package s3api

import (
	"context"
	"strings"

	"bivalve/metadata"
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
	body, err := c.newUpload(keptAlgorithm(u))
	if err != nil {
		return err
	}
	p, err := c.api.Uploads.PutPart(c.ctx(), PutPartRequest{Bucket: c.bucket, Key: c.key, Upload: id, Number: number, Bytes: body.size, Body: body})
	if err != nil {
		return body.blame(err)
	}
	h := c.w.Header()
	h["ETag"] = []string{quoted(p.ETag)}
	switch {
	case u.ChecksumAlgorithm != "" || cl.algorithm == "":
		h[checksumHeader(p.Checksum.Algorithm)] = []string{p.Checksum.Value}
	default: // the client's own, which was verified but is not the kept one
		h[checksumHeader(cl.algorithm)] = []string{body.claimed()}
	}
	c.done()
	return nil
}

// claimed is the client's checksum, once verified.
func (u *upload) claimed() string {
	if u.claim.trailer != "" {
		return u.frames.Trailer()[u.claim.trailer]
	}
	return u.claim.value
}

// keptAlgorithm is the checksum kept with the parts of an upload. An upload that
// named none gets S3's default, which every part can be combined from.
func keptAlgorithm(u metadata.Upload) string {
	if u.ChecksumAlgorithm == "" {
		return "CRC64NVME"
	}
	return u.ChecksumAlgorithm
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
		var p metadata.Part
		err := c.withSource(ctx, src, s, keptAlgorithm(u), func(body *upload) (err error) {
			p, err = c.api.Uploads.PutPart(ctx, PutPartRequest{Bucket: c.bucket, Key: c.key, Upload: id, Number: number, Bytes: s.length, Body: body})
			return err
		})
		return func(x *s3xml.Writer) {
			p.Checksum.Type = ""
			copyResult(x, "CopyPartResult", p.Modified, p.ETag, p.Checksum)
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
	if last >= size {
		return span{}, failf("InvalidRange", "Range specified is not valid for source object of size: %d", size)
	}
	return span{first, last - first + 1}, nil
}
