package s3test

import (
	"bytes"
	"errors"
	"fmt"

	"bivalve/metadata"
	"bivalve/s3api"
)

// copyRules: a copy is another object, though it may have the same bytes. A store may
// say that it cannot share them, but not for what is alike in everything.
func (s *suite) copyRules() {
	s.bucket("copies")
	data := bytes.Repeat([]byte("0123456789abcdef"), 4<<10)
	_, err := s.put("copies", "src", data, metadata.Condition{})
	s.no(err)
	src, err := s.Objects.HeadObject(s.ctx, "copies", "src", "")
	s.no(err)
	for i := range 8 { // of several partitions
		v, err := s.Copier.CopyObject(s.ctx, s3api.CopyRequest{Source: src, Bucket: "copies", Key: fmt.Sprint("copy", i),
			Attributes: metadata.Attributes{ContentType: "text/y"}, Tags: map[string]string{"t": "1"}})
		s.no(err)
		if v.ETag != src.ETag || v.Modified == 0 {
			s.Errorf("copy: %+v", v)
		}
	}
	_, err = s.Copier.CopyObject(s.ctx, s3api.CopyRequest{Source: src, Bucket: "copies", Key: "copy0", Condition: metadata.Condition{IfNoneMatchAny: true}})
	s.is(err, metadata.ErrConditionFailed)
	_, err = s.Copier.CopyObject(s.ctx, s3api.CopyRequest{Source: src, Bucket: "nowhere", Key: "k"})
	s.is(err, metadata.ErrNoSuchBucket)
	_, err = s.Copier.CopyObject(s.ctx, s3api.CopyRequest{Source: src, Bucket: "copies", Key: "client",
		Seal: metadata.SealWith{Kind: metadata.SealClient, ClientKey: make([]byte, 32)}})
	s.is(err, s3api.ErrNotShared)
	u, err := s.Uploads.CreateUpload(s.ctx, s3api.CreateUploadRequest{Bucket: "copies", Key: "whole"})
	s.no(err)
	part := s3api.CopyPartRequest{Source: src, Bytes: src.Bytes, Bucket: "copies", Key: "whole", Upload: u.ID, Number: 1, Algorithm: src.Checksum.Algorithm}
	p, err := s.Copier.CopyPart(s.ctx, part)
	s.no(err)
	if p.Number != 1 || p.ETag != src.ETag || p.Bytes != src.Bytes || p.Checksum.Value != src.Checksum.Value {
		s.Errorf("part: %+v", p)
	}
	part.Algorithm = "" // whichever the source has
	p, err = s.Copier.CopyPart(s.ctx, part)
	s.no(err)
	if p.ETag != src.ETag || p.Checksum.Algorithm != src.Checksum.Algorithm || p.Checksum.Value != src.Checksum.Value {
		s.Errorf("part: %+v", p)
	}
	other := part
	other.Algorithm = "SHA1"
	_, err = s.Copier.CopyPart(s.ctx, other)
	s.is(err, s3api.ErrNotShared)
	other = part
	other.Bytes--
	_, err = s.Copier.CopyPart(s.ctx, other)
	s.is(err, s3api.ErrNotShared)
	_, err = s.Uploads.CompleteUpload(s.ctx, s3api.CompleteRequest{Bucket: "copies", Key: "whole", Upload: u.ID, Parts: []metadata.Part{p}, ETag: "whole-1"})
	s.no(err)
	_, err = s.Objects.DeleteObject(s.ctx, s3api.DeleteRequest{Bucket: "copies", Key: "src"})
	s.no(err)
	for _, key := range []string{"copy0", "copy7", "whole"} {
		v, err := s.Objects.HeadObject(s.ctx, "copies", key, "")
		s.no(err)
		if got := s.read(v, 0, v.Bytes); !bytes.Equal(got, data) {
			s.Errorf("%s: %d bytes that differ", key, len(got))
		}
		if key != "whole" && (v.Attributes.ContentType != "text/y" || v.Tags["t"] != "1") {
			s.Errorf("%s: %+v", key, v)
		}
	}
	_, err = s.Copier.CopyObject(s.ctx, s3api.CopyRequest{Source: src, Bucket: "copies", Key: "late"})
	if err != nil && !errors.Is(err, s3api.ErrNotShared) { // the caller has looked before it went
		s.Error(err)
	}
}
