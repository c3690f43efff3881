//go:build e2e

package e2e

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/feature/s3/manager"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"
	"golang.org/x/sync/errgroup"
)

// TestSDK uses aws-sdk-go-v2 as it comes. Over TLS it sends unsigned payloads
// with trailing checksums, over HTTP signed payloads with the checksum in a
// header; both must work.
func TestSDK(t *testing.T) {
	r := sharedRegion(t)
	front := newTLSFront(t, r.endpoint(t, "b"))
	for _, c := range []struct {
		name   string
		client *s3.Client
		tls    bool
	}{
		{"HTTP", r.client(t, r.endpoint(t, "a")), false},
		{"TLS", r.client(t, front.url, config.WithHTTPClient(newHTTPClient(front.roots))), true},
	} {
		t.Run(c.name, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
			defer cancel()
			s := &sdkTest{ctx: ctx, c: c.client, bucket: "sdk-" + strings.ToLower(c.name)}
			if _, err := s.c.CreateBucket(ctx, &s3.CreateBucketInput{Bucket: &s.bucket}); err != nil {
				t.Fatal(err)
			}
			t.Run("PutGet", s.putGet)
			if c.tls {
				t.Run("Stream", s.stream)
			}
			t.Run("Checksums", s.checksums)
			t.Run("Manager", s.manager)
			t.Run("Conditions", s.conditions)
			t.Run("Multipart", s.multipart)
			t.Run("Copy", s.copy)
			t.Run("Ranges", s.ranges)
			t.Run("Paging", s.paging)
			t.Run("Versioning", s.versioning)
			t.Run("Presign", s.presign)
			t.Run("Absent", s.absent)
		})
	}
}

type sdkTest struct {
	ctx    context.Context // of the whole test; subtests share it
	c      *s3.Client
	bucket string
}

func (s *sdkTest) put(t *testing.T, key string, body []byte) {
	t.Helper()
	if err := put(s.ctx, s.c, s.bucket, key, bytes.NewReader(body)); err != nil {
		t.Fatal(err)
	}
}

func (s *sdkTest) same(t *testing.T, key string, want []byte) {
	t.Helper()
	got, err := fetch(s.ctx, s.c, s.bucket, key)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Fatalf("%s: %d bytes were stored, %d others came back", key, len(want), len(got))
	}
}

// want checks the status and S3 code of an error.
func want(t *testing.T, err error, status int, code string) {
	t.Helper()
	if gotStatus, gotCode := statusOf(err); gotStatus != status || code != "" && gotCode != code {
		t.Errorf("want %d %s, got: %v", status, code, err)
	}
}

// Sizes around what the house cuts at: inline, one block, one chunk.
func (s *sdkTest) putGet(t *testing.T) {
	for i, size := range []int{0, 1, 16 << 10, 16<<10 + 1, 64 << 10, 1<<20 + 7, 4 << 20, 4<<20 + 1, 9 << 20} {
		body := noiseBytes(uint64(i), size)
		key := fmt.Sprintf("putget/%d", size)
		s.put(t, key, body)
		s.same(t, key, body)
		head, err := s.c.HeadObject(s.ctx, &s3.HeadObjectInput{Bucket: &s.bucket, Key: &key})
		if err != nil {
			t.Fatal(err)
		}
		if aws.ToInt64(head.ContentLength) != int64(size) {
			t.Errorf("HEAD says %d of %d bytes", aws.ToInt64(head.ContentLength), size)
		}
	}
}

// stream puts a body that cannot be rewound: only TLS allows it.
func (s *sdkTest) stream(t *testing.T) {
	body := noiseBytes(7, 5<<20+11)
	key := "stream"
	_, err := s.c.PutObject(s.ctx, &s3.PutObjectInput{Bucket: &s.bucket, Key: &key,
		Body: io.MultiReader(bytes.NewReader(body)), ContentLength: aws.Int64(int64(len(body)))})
	if err != nil {
		t.Fatal(err)
	}
	s.same(t, key, body)
}

// checksums: the client names one, the server keeps it and hands it out, the SDK
// checks what it reads against it; a false one is refused.
func (s *sdkTest) checksums(t *testing.T) {
	body := noiseBytes(9, 300<<10)
	for _, a := range []types.ChecksumAlgorithm{types.ChecksumAlgorithmCrc32, types.ChecksumAlgorithmCrc32c,
		types.ChecksumAlgorithmCrc64nvme, types.ChecksumAlgorithmSha1, types.ChecksumAlgorithmSha256} {
		key := "checksum/" + string(a)
		if _, err := s.c.PutObject(s.ctx, &s3.PutObjectInput{Bucket: &s.bucket, Key: &key, Body: bytes.NewReader(body), ChecksumAlgorithm: a}); err != nil {
			t.Fatalf("%s: %v", a, err)
		}
		out, err := s.c.GetObject(s.ctx, &s3.GetObjectInput{Bucket: &s.bucket, Key: &key, ChecksumMode: types.ChecksumModeEnabled})
		if err != nil {
			t.Fatal(err)
		}
		got, err := io.ReadAll(out.Body)
		if err != nil || !bytes.Equal(got, body) {
			t.Errorf("%s: %d bytes, %v", a, len(got), err)
		}
		sums := map[types.ChecksumAlgorithm]*string{types.ChecksumAlgorithmCrc32: out.ChecksumCRC32, types.ChecksumAlgorithmCrc32c: out.ChecksumCRC32C,
			types.ChecksumAlgorithmCrc64nvme: out.ChecksumCRC64NVME, types.ChecksumAlgorithmSha1: out.ChecksumSHA1, types.ChecksumAlgorithmSha256: out.ChecksumSHA256}
		if sums[a] == nil || out.ChecksumType != types.ChecksumTypeFullObject {
			t.Errorf("%s: no such checksum in the answer", a)
		}
	}
	_, err := s.c.PutObject(s.ctx, &s3.PutObjectInput{Bucket: &s.bucket, Key: aws.String("checksum/false"), Body: bytes.NewReader(body), ChecksumCRC32: aws.String("AAAAAA==")})
	want(t, err, http.StatusBadRequest, "BadDigest")
	_, err = s.c.HeadObject(s.ctx, &s3.HeadObjectInput{Bucket: &s.bucket, Key: aws.String("checksum/false")})
	want(t, err, http.StatusNotFound, "")
}

func (s *sdkTest) manager(t *testing.T) {
	body := noiseBytes(11, 23<<20+5)
	key := "manager"
	// A reader without Seek, as a pipe would be.
	up := manager.NewUploader(s.c)
	if _, err := up.Upload(s.ctx, &s3.PutObjectInput{Bucket: &s.bucket, Key: &key, Body: io.MultiReader(bytes.NewReader(body))}); err != nil {
		t.Fatal(err)
	}
	buf := manager.NewWriteAtBuffer(nil)
	if _, err := manager.NewDownloader(s.c).Download(s.ctx, buf, &s3.GetObjectInput{Bucket: &s.bucket, Key: &key}); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(buf.Bytes(), body) {
		t.Error("other bytes came down than went up")
	}
}

func (s *sdkTest) conditions(t *testing.T) {
	key := "conditions"
	write := func(body string, in s3.PutObjectInput) (string, error) {
		in.Bucket, in.Key, in.Body = &s.bucket, &key, strings.NewReader(body)
		out, err := s.c.PutObject(s.ctx, &in)
		if err != nil {
			return "", err
		}
		return aws.ToString(out.ETag), nil
	}
	one, err := write("one", s3.PutObjectInput{IfNoneMatch: aws.String("*")})
	if err != nil {
		t.Fatal(err)
	}
	_, err = write("two", s3.PutObjectInput{IfNoneMatch: aws.String("*")})
	want(t, err, http.StatusPreconditionFailed, "PreconditionFailed")
	two, err := write("two", s3.PutObjectInput{IfMatch: &one})
	if err != nil {
		t.Fatal(err)
	}
	_, err = write("three", s3.PutObjectInput{IfMatch: &one})
	want(t, err, http.StatusPreconditionFailed, "PreconditionFailed")
	s.same(t, key, []byte("two"))
	_, err = s.c.GetObject(s.ctx, &s3.GetObjectInput{Bucket: &s.bucket, Key: &key, IfNoneMatch: &two})
	want(t, err, http.StatusNotModified, "")
	_, err = s.c.GetObject(s.ctx, &s3.GetObjectInput{Bucket: &s.bucket, Key: &key, IfMatch: &one})
	want(t, err, http.StatusPreconditionFailed, "")
}

// multipart by hand: parts out of order, one of them twice, listed, completed; a
// broken one aborted.
func (s *sdkTest) multipart(t *testing.T) {
	key := "multipart"
	// Checksums of parts count at the end only where the upload has named their algorithm.
	up, err := s.c.CreateMultipartUpload(s.ctx, &s3.CreateMultipartUploadInput{Bucket: &s.bucket, Key: &key, ContentType: aws.String("x/y"), Metadata: map[string]string{"who": "me"},
		ChecksumAlgorithm: types.ChecksumAlgorithmCrc32})
	if err != nil {
		t.Fatal(err)
	}
	parts := map[int32][]byte{1: noiseBytes(1, 5<<20), 2: noiseBytes(2, 6<<20), 3: noiseBytes(3, 1000)}
	done := make([]types.CompletedPart, 3)
	for _, n := range []int32{3, 1, 2, 1} {
		out, err := s.c.UploadPart(s.ctx, &s3.UploadPartInput{Bucket: &s.bucket, Key: &key, UploadId: up.UploadId, PartNumber: &n, Body: bytes.NewReader(parts[n])})
		if err != nil {
			t.Fatal(err)
		}
		done[n-1] = types.CompletedPart{PartNumber: &n, ETag: out.ETag, ChecksumCRC32: out.ChecksumCRC32}
	}
	listed, err := s.c.ListParts(s.ctx, &s3.ListPartsInput{Bucket: &s.bucket, Key: &key, UploadId: up.UploadId})
	if err != nil || len(listed.Parts) != 3 {
		t.Fatalf("ListParts: %v, %v", listed, err)
	}
	uploads, err := s.c.ListMultipartUploads(s.ctx, &s3.ListMultipartUploadsInput{Bucket: &s.bucket})
	if err != nil || len(uploads.Uploads) != 1 {
		t.Fatalf("ListMultipartUploads: %v, %v", uploads, err)
	}
	_, err = s.c.HeadObject(s.ctx, &s3.HeadObjectInput{Bucket: &s.bucket, Key: &key})
	want(t, err, http.StatusNotFound, "") // nothing is visible yet
	out, err := s.c.CompleteMultipartUpload(s.ctx, &s3.CompleteMultipartUploadInput{Bucket: &s.bucket, Key: &key, UploadId: up.UploadId,
		MultipartUpload: &types.CompletedMultipartUpload{Parts: done}})
	if err != nil {
		t.Fatal(err)
	}
	if !strings.HasSuffix(strings.Trim(aws.ToString(out.ETag), `"`), "-3") {
		t.Errorf("the ETag of three parts is %s", aws.ToString(out.ETag))
	}
	s.same(t, key, bytes.Join([][]byte{parts[1], parts[2], parts[3]}, nil))
	head, err := s.c.HeadObject(s.ctx, &s3.HeadObjectInput{Bucket: &s.bucket, Key: &key})
	if err != nil || aws.ToString(head.ContentType) != "x/y" || head.Metadata["who"] != "me" {
		t.Errorf("HEAD: %v, %v", head, err)
	}

	bad, err := s.c.CreateMultipartUpload(s.ctx, &s3.CreateMultipartUploadInput{Bucket: &s.bucket, Key: aws.String("aborted")})
	if err != nil {
		t.Fatal(err)
	}
	_, err = s.c.CompleteMultipartUpload(s.ctx, &s3.CompleteMultipartUploadInput{Bucket: &s.bucket, Key: aws.String("aborted"), UploadId: bad.UploadId,
		MultipartUpload: &types.CompletedMultipartUpload{Parts: done}})
	want(t, err, http.StatusBadRequest, "InvalidPart")
	if _, err := s.c.AbortMultipartUpload(s.ctx, &s3.AbortMultipartUploadInput{Bucket: &s.bucket, Key: aws.String("aborted"), UploadId: bad.UploadId}); err != nil {
		t.Error(err)
	}
	_, err = s.c.ListParts(s.ctx, &s3.ListPartsInput{Bucket: &s.bucket, Key: aws.String("aborted"), UploadId: bad.UploadId})
	want(t, err, http.StatusNotFound, "NoSuchUpload")
}

func (s *sdkTest) copy(t *testing.T) {
	body := noiseBytes(21, 11<<20)
	s.put(t, "copy/from", body)
	source := aws.String(s.bucket + "/copy/from")
	if _, err := s.c.CopyObject(s.ctx, &s3.CopyObjectInput{Bucket: &s.bucket, Key: aws.String("copy/to"), CopySource: source}); err != nil {
		t.Fatal(err)
	}
	s.same(t, "copy/to", body)

	key := aws.String("copy/parts")
	up, err := s.c.CreateMultipartUpload(s.ctx, &s3.CreateMultipartUploadInput{Bucket: &s.bucket, Key: key})
	if err != nil {
		t.Fatal(err)
	}
	var done []types.CompletedPart
	for i, span := range []string{"bytes=0-5242879", "bytes=5242880-11534335"} {
		n := aws.Int32(int32(i + 1))
		out, err := s.c.UploadPartCopy(s.ctx, &s3.UploadPartCopyInput{Bucket: &s.bucket, Key: key, UploadId: up.UploadId, PartNumber: n, CopySource: source, CopySourceRange: &span})
		if err != nil {
			t.Fatal(err)
		}
		done = append(done, types.CompletedPart{PartNumber: n, ETag: out.CopyPartResult.ETag})
	}
	if _, err := s.c.CompleteMultipartUpload(s.ctx, &s3.CompleteMultipartUploadInput{Bucket: &s.bucket, Key: key, UploadId: up.UploadId,
		MultipartUpload: &types.CompletedMultipartUpload{Parts: done}}); err != nil {
		t.Fatal(err)
	}
	s.same(t, "copy/parts", body)
}

func (s *sdkTest) ranges(t *testing.T) {
	body := noiseBytes(31, 9<<20)
	s.put(t, "ranges", body)
	n := len(body)
	for _, r := range []struct {
		span     string
		from, to int
	}{
		{"bytes=0-0", 0, 1}, {"bytes=65535-65536", 65535, 65537}, {"bytes=4194300-4194310", 4194300, 4194311},
		{fmt.Sprintf("bytes=%d-", n-5), n - 5, n}, {"bytes=-100000", n - 100000, n}, {"bytes=1000000-8999999", 1000000, 9000000},
	} {
		out, err := s.c.GetObject(s.ctx, &s3.GetObjectInput{Bucket: &s.bucket, Key: aws.String("ranges"), Range: &r.span})
		if err != nil {
			t.Fatalf("%s: %v", r.span, err)
		}
		got, err := io.ReadAll(out.Body)
		if err != nil || !bytes.Equal(got, body[r.from:r.to]) {
			t.Errorf("%s: %d bytes, %v", r.span, len(got), err)
		}
		if want := fmt.Sprintf("bytes %d-%d/%d", r.from, r.to-1, n); aws.ToString(out.ContentRange) != want {
			t.Errorf("%s: Content-Range %s", r.span, aws.ToString(out.ContentRange))
		}
	}
	_, err := s.c.GetObject(s.ctx, &s3.GetObjectInput{Bucket: &s.bucket, Key: aws.String("ranges"), Range: aws.String(fmt.Sprintf("bytes=%d-", n))})
	want(t, err, http.StatusRequestedRangeNotSatisfiable, "InvalidRange")
}

// paging lists more than a page, in order, with folders, and deletes it all.
func (s *sdkTest) paging(t *testing.T) {
	var keys []string
	for i := range 25 {
		keys = append(keys, fmt.Sprintf("page/%02d/a", i), fmt.Sprintf("page/%02d/b %%é", i))
	}
	var g errgroup.Group
	g.SetLimit(8)
	for _, k := range keys {
		g.Go(func() error { return put(s.ctx, s.c, s.bucket, k, strings.NewReader(k)) })
	}
	if err := g.Wait(); err != nil {
		t.Fatal(err)
	}
	var got []string
	pages := s3.NewListObjectsV2Paginator(s.c, &s3.ListObjectsV2Input{Bucket: &s.bucket, Prefix: aws.String("page/"), MaxKeys: aws.Int32(7)})
	for pages.HasMorePages() {
		page, err := pages.NextPage(s.ctx)
		if err != nil {
			t.Fatal(err)
		}
		if len(page.Contents) > 7 {
			t.Errorf("%d keys on a page of 7", len(page.Contents))
		}
		for _, o := range page.Contents {
			got = append(got, aws.ToString(o.Key))
		}
	}
	if strings.Join(got, "|") != strings.Join(keys, "|") {
		t.Errorf("%d keys were stored, listed were %q", len(keys), got)
	}
	folders, err := s.c.ListObjectsV2(s.ctx, &s3.ListObjectsV2Input{Bucket: &s.bucket, Prefix: aws.String("page/"), Delimiter: aws.String("/")})
	if err != nil || len(folders.CommonPrefixes) != 25 || len(folders.Contents) != 0 {
		t.Errorf("with a delimiter: %v, %v", folders, err)
	}
	var ids []types.ObjectIdentifier
	for i := range keys {
		ids = append(ids, types.ObjectIdentifier{Key: &keys[i]})
	}
	out, err := s.c.DeleteObjects(s.ctx, &s3.DeleteObjectsInput{Bucket: &s.bucket, Delete: &types.Delete{Objects: ids}})
	if err != nil || len(out.Deleted) != len(keys) || len(out.Errors) != 0 {
		t.Errorf("DeleteObjects: %v, %v", out, err)
	}
	if left := listAll(t, s.c, s.bucket, "page/"); len(left) != 0 {
		t.Errorf("%d keys are left", len(left))
	}
}

// versioning is off; what is not there yet says so and does not pretend.
func (s *sdkTest) versioning(t *testing.T) {
	out, err := s.c.GetBucketVersioning(s.ctx, &s3.GetBucketVersioningInput{Bucket: &s.bucket})
	if err != nil || out.Status != "" {
		t.Errorf("GetBucketVersioning: %v, %v", out, err)
	}
	if _, err := s.c.GetBucketLocation(s.ctx, &s3.GetBucketLocationInput{Bucket: &s.bucket}); err != nil {
		t.Error(err)
	}
	_, err = s.c.GetBucketLifecycleConfiguration(s.ctx, &s3.GetBucketLifecycleConfigurationInput{Bucket: &s.bucket})
	if status, _ := statusOf(err); status != http.StatusNotImplemented && status != http.StatusNotFound {
		t.Errorf("GetBucketLifecycleConfiguration: %v", err)
	}
	s.put(t, "versioning", []byte("x"))
	head, err := s.c.HeadObject(s.ctx, &s3.HeadObjectInput{Bucket: &s.bucket, Key: aws.String("versioning")})
	if err != nil || aws.ToString(head.VersionId) != "" {
		t.Errorf("HEAD without versioning: %v, %v", head, err)
	}
}

func (s *sdkTest) presign(t *testing.T) {
	pre := s3.NewPresignClient(s.c)
	key := "presigned"
	up, err := pre.PresignPutObject(s.ctx, &s3.PutObjectInput{Bucket: &s.bucket, Key: &key})
	if err != nil {
		t.Fatal(err)
	}
	req, err := http.NewRequestWithContext(s.ctx, up.Method, up.URL, strings.NewReader("through a URL"))
	if err != nil {
		t.Fatal(err)
	}
	for k, v := range up.SignedHeader {
		req.Header[k] = v
	}
	resp, err := s.c.Options().HTTPClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		body, _ := io.ReadAll(resp.Body)
		t.Fatalf("PUT to a presigned URL: %s %s", resp.Status, body)
	}
	s.same(t, key, []byte("through a URL"))
}

func (s *sdkTest) absent(t *testing.T) {
	_, err := s.c.GetObject(s.ctx, &s3.GetObjectInput{Bucket: &s.bucket, Key: aws.String("absent")})
	want(t, err, http.StatusNotFound, "NoSuchKey")
	_, err = s.c.GetObject(s.ctx, &s3.GetObjectInput{Bucket: aws.String("no-such-bucket"), Key: aws.String("absent")})
	want(t, err, http.StatusNotFound, "NoSuchBucket")
	if _, err := s.c.DeleteObject(s.ctx, &s3.DeleteObjectInput{Bucket: &s.bucket, Key: aws.String("absent")}); err != nil {
		t.Errorf("deleting nothing: %v", err)
	}
	_, err = s.c.DeleteBucket(s.ctx, &s3.DeleteBucketInput{Bucket: &s.bucket})
	want(t, err, http.StatusConflict, "BucketNotEmpty")
}
