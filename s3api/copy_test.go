package s3api_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"maps"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"

	"bivalve/metadata"
	"bivalve/s3api"
	"bivalve/s3api/checksum"
)

// ops keeps the names of the calls that reach the stores.
func (h *house) ops() *[]string {
	var seen []string
	h.memory.Hook = func(op, _, _ string) error {
		seen = append(seen, op)
		return nil
	}
	return &seen
}

// looking is a store that tells which bodies it may end for their pace.
type looking struct {
	s3api.Objects
	seen map[string]bool // by key
}

func (o looking) PutObject(ctx context.Context, r s3api.PutRequest) (metadata.Version, error) {
	_, o.seen[r.Key] = r.Body.(interface{ Interrupt() })
	return o.Objects.PutObject(ctx, r)
}

// TestCopiesHaveNoPace: the body of a client may be ended for its pace, that of a copy not.
func TestCopiesHaveNoPace(t *testing.T) {
	seen := map[string]bool{}
	h := open(t, func(cfg *s3api.Config) { cfg.Objects = looking{cfg.Objects, seen} })
	h.bucket("paced")
	h.want(h.do("PUT", "/paced/from", "data"), 200, "")
	h.want(h.do("PUT", "/paced/to", "", "X-Amz-Copy-Source: paced/from"), 200, "")
	if want := map[string]bool{"from": true, "to": false}; !maps.Equal(seen, want) {
		t.Errorf("%v, want %v", seen, want)
	}
}

// TestCopiesByReference: what a copy that shares its source's bytes keeps of it, and
// which copies are read and written instead.
func TestCopiesByReference(t *testing.T) {
	h := open(t)
	c := h.sdk()
	b := aws.String("shared")
	must[*s3.CreateBucketOutput](t)(c.CreateBucket(ctx, &s3.CreateBucketInput{Bucket: b}))
	one, two := blob(5<<20), blob(40_000)
	upload := func(key string, parts func(id *string) []types.CompletedPart) *s3.CompleteMultipartUploadOutput {
		u := must[*s3.CreateMultipartUploadOutput](t)(c.CreateMultipartUpload(ctx, &s3.CreateMultipartUploadInput{Bucket: b, Key: &key, ChecksumAlgorithm: types.ChecksumAlgorithmCrc32}))
		return must[*s3.CompleteMultipartUploadOutput](t)(c.CompleteMultipartUpload(ctx, &s3.CompleteMultipartUploadInput{Bucket: b, Key: &key,
			UploadId: u.UploadId, MultipartUpload: &types.CompletedMultipartUpload{Parts: parts(u.UploadId)}}))
	}
	src := upload("src", func(id *string) (done []types.CompletedPart) {
		for i, data := range [][]byte{one, two} {
			n := aws.Int32(int32(i + 1))
			p := must[*s3.UploadPartOutput](t)(c.UploadPart(ctx, &s3.UploadPartInput{Bucket: b, Key: aws.String("src"), UploadId: id, PartNumber: n, Body: bytes.NewReader(data)}))
			done = append(done, types.CompletedPart{PartNumber: n, ETag: p.ETag, ChecksumCRC32: p.ChecksumCRC32})
		}
		return done
	})
	ops := h.ops()
	copyTo := func(key string, in s3.CopyObjectInput, streams bool) *s3.HeadObjectOutput {
		t.Helper()
		*ops = nil
		in.Bucket, in.Key, in.CopySource = b, &key, aws.String("shared/src")
		must[*s3.CopyObjectOutput](t)(c.CopyObject(ctx, &in))
		if read := strings.Contains(fmt.Sprint(*ops), "OpenObject"); read != streams {
			t.Errorf("%s: calls %v", key, *ops)
		}
		get := must[*s3.GetObjectOutput](t)(c.GetObject(ctx, &s3.GetObjectInput{Bucket: b, Key: &key}))
		got := must[[]byte](t)(io.ReadAll(get.Body))
		get.Body.Close()
		if !bytes.Equal(got, append(append([]byte(nil), one...), two...)) {
			t.Errorf("%s: %d bytes differ", key, len(got))
		}
		return must[*s3.HeadObjectOutput](t)(c.HeadObject(ctx, &s3.HeadObjectInput{Bucket: b, Key: &key, ChecksumMode: types.ChecksumModeEnabled}))
	}
	if v := copyTo("same", s3.CopyObjectInput{}, false); *v.ETag != *src.ETag || aws.ToString(v.ChecksumCRC32) != *src.ChecksumCRC32 {
		t.Errorf("copy: ETag %s and checksum %s, want %s and %s", *v.ETag, aws.ToString(v.ChecksumCRC32), *src.ETag, *src.ChecksumCRC32)
	}
	replaced := copyTo("replaced", s3.CopyObjectInput{MetadataDirective: types.MetadataDirectiveReplace, Metadata: map[string]string{"a": "1"}}, false)
	if replaced.Metadata["a"] != "1" {
		t.Errorf("metadata %v", replaced.Metadata)
	}
	// A checksum of the whole object has to be computed, and so do other encryption
	// and another class.
	if v := copyTo("summed", s3.CopyObjectInput{ChecksumAlgorithm: types.ChecksumAlgorithmCrc32}, true); strings.Contains(*v.ETag, "-") || v.ChecksumType != types.ChecksumTypeFullObject {
		t.Errorf("copy with a new checksum: %+v", v)
	}
	copyTo("sealed", s3.CopyObjectInput{ServerSideEncryption: types.ServerSideEncryptionAes256}, true)
	copyTo("lean", s3.CopyObjectInput{StorageClass: types.StorageClassReducedRedundancy}, true)
	// A part of the source becomes a part of an upload; any other range is read.
	ranges := map[string]bool{fmt.Sprintf("bytes=0-%d", 5<<20-1): false, fmt.Sprintf("bytes=%d-%d", 5<<20, 5<<20+39_999): false, "bytes=0-39999": true,
		fmt.Sprintf("bytes=0-%d", 5<<20+39_999): true}
	for r, streams := range ranges {
		upload("part", func(id *string) []types.CompletedPart {
			*ops = nil
			p := must[*s3.UploadPartCopyOutput](t)(c.UploadPartCopy(ctx, &s3.UploadPartCopyInput{Bucket: b, Key: aws.String("part"), UploadId: id,
				PartNumber: aws.Int32(7), CopySource: aws.String("shared/src"), CopySourceRange: &r}))
			if read := strings.Contains(fmt.Sprint(*ops), "OpenObject"); read != streams {
				t.Errorf("%s: calls %v", r, *ops)
			}
			return []types.CompletedPart{{PartNumber: aws.Int32(7), ETag: p.CopyPartResult.ETag, ChecksumCRC32: p.CopyPartResult.ChecksumCRC32}}
		})
	}
}

// TestCopiesIntoUnnamedUploads: parts of an upload that named no checksum are shared
// whatever checksum they have. The object shows the one that they share and that can be
// combined; the expected values are those of the bytes.
func TestCopiesIntoUnnamedUploads(t *testing.T) {
	h := open(t)
	c := h.sdk()
	b := aws.String("unnamed")
	must[*s3.CreateBucketOutput](t)(c.CreateBucket(ctx, &s3.CreateBucketInput{Bucket: b}))
	one, two := blob(5<<20), blob(40_000)
	var all []byte
	all = append(append(all, one...), two...)
	source := func(key string, alg types.ChecksumAlgorithm) {
		u := must[*s3.CreateMultipartUploadOutput](t)(c.CreateMultipartUpload(ctx, &s3.CreateMultipartUploadInput{Bucket: b, Key: &key, ChecksumAlgorithm: alg}))
		var done []types.CompletedPart
		for i, data := range [][]byte{one, two} {
			n := aws.Int32(int32(i + 1))
			p := must[*s3.UploadPartOutput](t)(c.UploadPart(ctx, &s3.UploadPartInput{Bucket: b, Key: &key, UploadId: u.UploadId, PartNumber: n,
				ChecksumAlgorithm: alg, Body: bytes.NewReader(data)}))
			part := types.CompletedPart{PartNumber: n, ETag: p.ETag}
			if alg != "" {
				part.ChecksumCRC32, part.ChecksumCRC32C, part.ChecksumCRC64NVME, part.ChecksumSHA256 = p.ChecksumCRC32, p.ChecksumCRC32C, p.ChecksumCRC64NVME, p.ChecksumSHA256
			}
			done = append(done, part)
		}
		must[*s3.CompleteMultipartUploadOutput](t)(c.CompleteMultipartUpload(ctx, &s3.CompleteMultipartUploadInput{Bucket: b, Key: &key,
			UploadId: u.UploadId, MultipartUpload: &types.CompletedMultipartUpload{Parts: done}}))
	}
	source("crc32", types.ChecksumAlgorithmCrc32)
	source("crc32c", types.ChecksumAlgorithmCrc32c)
	source("sha256", types.ChecksumAlgorithmSha256)
	source("default", "")
	ops := h.ops()
	first, second := fmt.Sprintf("bytes=0-%d", len(one)-1), fmt.Sprintf("bytes=%d-%d", len(one), len(all)-1)
	for _, want := range []struct {
		from, then string
		second     string // range of the second part
		algorithm  string // of the object's checksum, "" = none
		reads      int
	}{
		{"crc32", "crc32", second, checksum.CRC32, 0},
		{"crc32c", "crc32c", second, checksum.CRC32C, 0},
		{"default", "default", second, checksum.CRC64NVME, 0},
		{"sha256", "sha256", second, "", 0},
		{"crc32", "crc32c", second, "", 0},
		{"sha256", "default", second, "", 0},
		// Half a part is read, and has S3's default then.
		{"default", "crc32c", fmt.Sprintf("bytes=%d-%d", len(one), len(all)-2), checksum.CRC64NVME, 1},
		{"crc32", "crc32", fmt.Sprintf("bytes=%d-%d", len(one), len(all)-2), "", 1},
	} {
		name := want.from + " and " + want.then + " " + want.second
		*ops = nil
		key := aws.String("to")
		u := must[*s3.CreateMultipartUploadOutput](t)(c.CreateMultipartUpload(ctx, &s3.CreateMultipartUploadInput{Bucket: b, Key: key}))
		var done []types.CompletedPart
		for i, r := range []string{first, want.second} {
			n := aws.Int32(int32(i + 1))
			p := must[*s3.UploadPartCopyOutput](t)(c.UploadPartCopy(ctx, &s3.UploadPartCopyInput{Bucket: b, Key: key, UploadId: u.UploadId, PartNumber: n,
				CopySource: aws.String("unnamed/" + []string{want.from, want.then}[i]), CopySourceRange: &r})).CopyPartResult
			if p.ChecksumCRC32 != nil || p.ChecksumCRC32C != nil || p.ChecksumCRC64NVME != nil || p.ChecksumSHA256 != nil {
				t.Errorf("%s: part %d tells of a checksum that nobody asked for", name, i+1)
			}
			done = append(done, types.CompletedPart{PartNumber: n, ETag: p.ETag})
		}
		_, err := c.CompleteMultipartUpload(ctx, &s3.CompleteMultipartUploadInput{Bucket: b, Key: key, UploadId: u.UploadId, ChecksumType: types.ChecksumTypeFullObject,
			MultipartUpload: &types.CompletedMultipartUpload{Parts: done}})
		failed(t, err, 400, "InvalidRequest") // the upload has no type
		if want.algorithm == "" {
			_, err = c.CompleteMultipartUpload(ctx, &s3.CompleteMultipartUploadInput{Bucket: b, Key: key, UploadId: u.UploadId, ChecksumCRC64NVME: aws.String("AAAAAAAAAAA="),
				MultipartUpload: &types.CompletedMultipartUpload{Parts: done}})
			failed(t, err, 400, "InvalidRequest") // nobody can tell
		}
		must[*s3.CompleteMultipartUploadOutput](t)(c.CompleteMultipartUpload(ctx, &s3.CompleteMultipartUploadInput{Bucket: b, Key: key, UploadId: u.UploadId,
			MultipartUpload: &types.CompletedMultipartUpload{Parts: done}}))
		if reads := strings.Count(fmt.Sprint(*ops), "OpenObject"); reads != want.reads {
			t.Errorf("%s: %d reads, want %d: %v", name, reads, want.reads, *ops)
		}
		get := must[*s3.GetObjectOutput](t)(c.GetObject(ctx, &s3.GetObjectInput{Bucket: b, Key: key, ChecksumMode: types.ChecksumModeEnabled}))
		got := must[[]byte](t)(io.ReadAll(get.Body)) // the SDK compares a checksum of the whole
		get.Body.Close()
		if n := len(all) - want.reads; !bytes.Equal(got, all[:n]) {
			t.Errorf("%s: %d bytes differ", name, len(got))
		}
		sums := map[string]*string{checksum.CRC32: get.ChecksumCRC32, checksum.CRC32C: get.ChecksumCRC32C, checksum.CRC64NVME: get.ChecksumCRC64NVME, checksum.SHA256: get.ChecksumSHA256}
		for alg, value := range sums {
			sum := ""
			if alg == want.algorithm {
				hash := checksum.New(alg)
				hash.Write(got)
				sum = checksum.Encode(hash.Sum(nil))
			}
			if aws.ToString(value) != sum {
				t.Errorf("%s: %s %q, want %q", name, alg, aws.ToString(value), sum)
			}
		}
		if typ := types.ChecksumTypeFullObject; (want.algorithm != "") != (get.ChecksumType == typ) {
			t.Errorf("%s: type %q", name, get.ChecksumType)
		}
	}
}
