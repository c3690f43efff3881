package s3api

import (
	"bytes"
	"context"
	"crypto/md5"
	"encoding/hex"
	"errors"
	"hash"
	"io"
	"strconv"
	"time"

	"bivalve/metadata"
	"bivalve/s3api/checksum"
)

// fileSums is computed over the whole file as it goes by.
type fileSums struct {
	md5       hash.Hash
	sum       hash.Hash
	algorithm string
	bytes     int64
}

// storeForm reads the file, bounded by the policy, and commits it.
func (c *call) storeForm(f *form, p *postPolicy, attr metadata.Attributes, seal metadata.SealWith) (metadata.Version, error) {
	claim, err := c.checksumClaim()
	if err != nil {
		return metadata.Version{}, err
	}
	wantMD5, err := c.contentMD5()
	if err != nil {
		return metadata.Version{}, err
	}
	algorithm := claim.algorithm
	if algorithm == "" {
		algorithm = checksum.CRC64NVME
	}
	room, err := c.api.forms.open(c.ctx(), f.file, c.input, c.r.ContentLength)
	if err != nil {
		return metadata.Version{}, err
	}
	defer room.close()
	f.bound.src = room
	s := &fileSums{md5: md5.New(), sum: checksum.New(algorithm), algorithm: algorithm}
	first, more, err := c.piece(f, p, s, room)
	if err != nil {
		return metadata.Version{}, err
	}
	verify := func() error {
		sum := s.md5.Sum(nil)
		if wantMD5 != nil && string(sum) != string(wantMD5) {
			return &apiError{code: "BadDigest", fields: map[string]string{"ExpectedDigest": hex.EncodeToString(wantMD5), "CalculatedDigest": hex.EncodeToString(sum)}}
		}
		if claim.value != "" && checksum.Encode(s.sum.Sum(nil)) != claim.value {
			return failf("BadDigest", "The %s you specified did not match the calculated checksum.", claim.algorithm)
		}
		return nil
	}
	if !more {
		if err := verify(); err != nil {
			return metadata.Version{}, err
		}
		return c.api.Objects.PutObject(c.ctx(), PutRequest{Bucket: c.bucket, Key: c.key, Bytes: int64(len(first)),
			Body: newCopy(bytes.NewReader(first), int64(len(first)), algorithm), Attributes: attr, Tags: f.tags, Seal: seal})
	}
	return c.storePieces(f, p, s, room, first, attr, seal, verify)
}

// piece is the next of the file. more: the file has not ended. At its end the
// rest of the form is read too, and its size is held against the policy.
func (c *call) piece(f *form, p *postPolicy, s *fileSums, room *formRoom) (buf []byte, more bool, err error) {
	defer func() { err = room.verdict(err) }()
	buf, err = room.next()
	s.md5.Write(buf)
	s.sum.Write(buf)
	s.bytes += int64(len(buf))
	if most := min(p.max, c.api.MaxPutBytes); s.bytes > most {
		return buf, false, &apiError{code: "EntityTooLarge", fields: map[string]string{
			"ProposedSize": strconv.FormatInt(s.bytes, 10), "MaxSizeAllowed": strconv.FormatInt(most, 10)}}
	}
	switch err {
	case nil:
		return buf, true, nil
	case io.EOF, io.ErrUnexpectedEOF:
		// ReadFull's own words for a file that ended; one that broke off is no part of
		// a form that ends.
		if err := f.end(); err != nil {
			return buf, false, err
		}
		if s.bytes < p.min {
			return buf, false, &apiError{code: "EntityTooSmall", fields: map[string]string{
				"ProposedSize": strconv.FormatInt(s.bytes, 10), "MinSizeAllowed": strconv.FormatInt(p.min, 10)}}
		}
		return buf, false, nil
	}
	return buf, false, badForm(err)
}

// storePieces stores a long file as parts, of which buf is the first.
func (c *call) storePieces(f *form, p *postPolicy, s *fileSums, room *formRoom, buf []byte, attr metadata.Attributes, seal metadata.SealWith, verify func() error) (v metadata.Version, err error) {
	u, err := c.api.Uploads.CreateUpload(c.ctx(), CreateUploadRequest{Bucket: c.bucket, Key: c.key, Attributes: attr, Tags: f.tags, Seal: seal})
	if err != nil {
		return v, err
	}
	done := false
	defer func() {
		if !done {
			c.dropUpload(u.ID)
		}
	}()
	r := CompleteRequest{Bucket: c.bucket, Key: c.key, Upload: u.ID}
	for more := true; len(buf) > 0; {
		part, err := c.api.Uploads.PutPart(c.ctx(), PutPartRequest{Bucket: c.bucket, Key: c.key, Upload: u.ID, Number: len(r.Parts) + 1,
			Bytes: int64(len(buf)), Body: newCopy(bytes.NewReader(buf), int64(len(buf)), s.algorithm), ClientKey: seal.ClientKey})
		if err != nil {
			return v, err
		}
		r.Parts = append(r.Parts, part)
		if !more {
			break
		}
		if buf, more, err = c.piece(f, p, s, room); err != nil {
			return v, err
		}
	}
	if err := verify(); err != nil {
		return v, err
	}
	r.ETag = hex.EncodeToString(s.md5.Sum(nil))
	if seal.Kind == metadata.SealClient {
		r.ETag = r.Parts[0].ETag // random, as that of the whole has to be
	}
	r.Checksum = metadata.Checksum{Algorithm: s.algorithm, Type: checksum.TypeFull, Value: checksum.Encode(s.sum.Sum(nil))}
	// An error may leave the outcome open. Its upload goes all the same, for nobody knows
	// of it: if it was completed there is none, and if it will be then now it will not.
	v, err = c.api.Uploads.CompleteUpload(c.ctx(), r)
	done = err == nil
	return v, err
}

// dropUpload throws the parts of a form that failed away, though its client may
// be gone.
func (c *call) dropUpload(id metadata.UploadID) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(c.ctx()), 10*time.Second)
	defer cancel()
	if err := c.api.Uploads.AbortUpload(ctx, c.bucket, c.key, id); err != nil && !errors.Is(err, metadata.ErrNoSuchUpload) {
		c.api.Logger.Warn("the parts of a broken form stay behind", "req", c.id, "bucket", c.bucket, "key", c.key, "upload", id.String(), "err", err)
	}
}
