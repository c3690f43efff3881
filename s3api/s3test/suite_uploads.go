package s3test

import (
	"bytes"
	"strings"

	"bivalve/metadata"
	"bivalve/s3api"
)

func (s *suite) part(bucket, key string, id metadata.UploadID, n int, data []byte) metadata.Part {
	s.Helper()
	p, err := s.Uploads.PutPart(s.ctx, s3api.PutPartRequest{Bucket: bucket, Key: key, Upload: id, Number: n, Bytes: int64(len(data)), Body: NewBody(data)})
	s.no(err)
	if p.Number != n || p.Bytes != int64(len(data)) || p.ETag != NewBody(data).Sums().MD5 || p.Modified == 0 {
		s.Errorf("part: %+v", p)
	}
	return p
}

func (s *suite) uploadRules() {
	s.bucket("uploads")
	_, err := s.Uploads.CreateUpload(s.ctx, s3api.CreateUploadRequest{Bucket: "nowhere", Key: "k"})
	s.is(err, metadata.ErrNoSuchBucket)
	u, err := s.Uploads.CreateUpload(s.ctx, s3api.CreateUploadRequest{Bucket: "uploads", Key: "k", ChecksumAlgorithm: "CRC32", ChecksumType: "FULL_OBJECT",
		Attributes: metadata.Attributes{ContentType: "text/x"}})
	s.no(err)
	got, err := s.Uploads.GetUpload(s.ctx, "uploads", "k", u.ID)
	s.no(err)
	if got.ChecksumAlgorithm != "CRC32" || got.ChecksumType != "FULL_OBJECT" || got.Key != "k" {
		s.Errorf("upload: %+v", got)
	}
	_, err = s.Uploads.GetUpload(s.ctx, "uploads", "other", u.ID)
	s.is(err, metadata.ErrNoSuchUpload)
	_, err = s.Uploads.GetUpload(s.ctx, "uploads", "k", metadata.UploadID{1})
	s.is(err, metadata.ErrNoSuchUpload)
	_, err = s.Uploads.FinishedUpload(s.ctx, "uploads", "k", u.ID)
	s.is(err, metadata.ErrNoSuchUpload)

	one, two := bytes.Repeat([]byte("1"), 5<<20), []byte("two")
	s.part("uploads", "k", u.ID, 9, []byte("unused"))
	s.part("uploads", "k", u.ID, 3, []byte("replaced"))
	p3 := s.part("uploads", "k", u.ID, 3, two)
	p1 := s.part("uploads", "k", u.ID, 1, one)
	page, err := s.Uploads.ListParts(s.ctx, "uploads", "k", u.ID, 0, 2)
	s.no(err)
	if len(page.Parts) != 2 || !page.More || page.Parts[0].Number != 1 || page.Parts[1].Number != 3 || page.Parts[1].ETag != p3.ETag {
		s.Fatalf("parts: %+v", page)
	}
	rest, err := s.Uploads.ListParts(s.ctx, "uploads", "k", u.ID, 3, 2)
	s.no(err)
	if len(rest.Parts) != 1 || rest.More || rest.Parts[0].Number != 9 {
		s.Errorf("parts after 3: %+v", rest)
	}
	if _, err := s.Objects.HeadObject(s.ctx, "uploads", "k", ""); err == nil {
		s.Error("the object is visible before the complete")
	}
	r := s3api.CompleteRequest{Bucket: "uploads", Key: "k", Upload: u.ID, Parts: page.Parts, ETag: "whole-2", Checksum: metadata.Checksum{Algorithm: "CRC32", Type: "FULL_OBJECT", Value: "AAAAAA=="}}
	s.part("uploads", "k", u.ID, 1, bytes.Repeat([]byte("x"), 5<<20))
	_, err = s.Uploads.CompleteUpload(s.ctx, r)
	s.is(err, metadata.ErrPartChanged)
	s.part("uploads", "k", u.ID, 1, one)
	page, err = s.Uploads.ListParts(s.ctx, "uploads", "k", u.ID, 0, 2)
	s.no(err)
	r.Parts = page.Parts
	v, err := s.Uploads.CompleteUpload(s.ctx, r)
	s.no(err)
	if v.ETag != "whole-2" || v.Bytes != 5<<20+3 || v.Attributes.ContentType != "text/x" || v.Checksum.Value != "AAAAAA==" || len(v.Parts) != 2 || v.Parts[0].ETag != p1.ETag {
		s.Errorf("version: %+v", v)
	}
	head, err := s.Objects.HeadObject(s.ctx, "uploads", "k", "")
	s.no(err)
	if b := s.read(head, 5<<20-1, 4); string(b) != "1two" {
		s.Errorf("across the parts: %q", b)
	}
	_, err = s.Uploads.CompleteUpload(s.ctx, r)
	s.is(err, metadata.ErrNoSuchUpload)
	again, err := s.Uploads.FinishedUpload(s.ctx, "uploads", "k", u.ID)
	s.no(err)
	if again.ETag != v.ETag || again.Bytes != v.Bytes {
		s.Errorf("finished: %+v", again)
	}
	_, err = s.Uploads.FinishedUpload(s.ctx, "uploads", "other", u.ID)
	s.is(err, metadata.ErrNoSuchUpload)
	s.abortRules()
}

// abortRules: of an upload that was ended nothing is left.
func (s *suite) abortRules() {
	u, err := s.Uploads.CreateUpload(s.ctx, s3api.CreateUploadRequest{Bucket: "uploads", Key: "gone"})
	s.no(err)
	s.no(s.Uploads.AbortUpload(s.ctx, "uploads", "gone", u.ID))
	s.is(s.Uploads.AbortUpload(s.ctx, "uploads", "gone", u.ID), metadata.ErrNoSuchUpload)
	_, err = s.Uploads.PutPart(s.ctx, s3api.PutPartRequest{Bucket: "uploads", Key: "gone", Upload: u.ID, Number: 1, Bytes: 1, Body: NewBody([]byte("x"))})
	s.is(err, metadata.ErrNoSuchUpload)
}

func (s *suite) listUploadRules() {
	s.bucket("uploads")
	for _, k := range []string{"b", "a", "dir/1", "dir/2", "a"} {
		_, err := s.Uploads.CreateUpload(s.ctx, s3api.CreateUploadRequest{Bucket: "uploads", Key: k})
		s.no(err)
	}
	for _, c := range []struct{ prefix, delimiter, marker, want string }{
		{"", "", "", "a a b dir/1 dir/2"}, {"", "/", "", "a a b | dir/"}, {"dir/", "/", "", "dir/1 dir/2"}, {"", "", "a", "b dir/1 dir/2"}, {"", "/", "dir/", ""},
	} {
		for limit := 1; limit <= 6; limit++ {
			var keys, prefixes []string
			q := s3api.UploadQuery{Bucket: "uploads", Prefix: c.prefix, Delimiter: c.delimiter, KeyMarker: c.marker, Limit: limit}
			for n := 0; ; n++ {
				p, err := s.Uploads.ListUploads(s.ctx, q)
				s.no(err)
				for _, u := range p.Uploads {
					keys = append(keys, u.Key)
				}
				prefixes = append(prefixes, p.Prefixes...)
				if !p.More {
					break
				}
				if n > 10 {
					s.Fatalf("%+v limit %d does not end: %+v", c, limit, p)
				}
				q.KeyMarker, q.UploadMarker = p.NextKey, p.NextUpload
			}
			got := strings.Join(keys, " ")
			if len(prefixes) > 0 {
				got += " | " + strings.Join(prefixes, " ")
			}
			if got != c.want {
				s.Errorf("%+v limit %d: %q", c, limit, got)
			}
		}
	}
}
