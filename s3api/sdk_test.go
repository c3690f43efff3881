package s3api_test

import (
	"bytes"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"
)

func TestSDKObjects(t *testing.T) {
	h := open(t)
	c := h.sdk()
	b := aws.String("first-bucket")
	must[*s3.CreateBucketOutput](t)(c.CreateBucket(ctx, &s3.CreateBucketInput{Bucket: b}))
	for _, n := range []int{0, 1, 4096, 100_000, 3 << 20} {
		data := blob(n)
		put := must[*s3.PutObjectOutput](t)(c.PutObject(ctx, &s3.PutObjectInput{Bucket: b, Key: aws.String("dir/key +ü~"), Body: bytes.NewReader(data),
			Metadata: map[string]string{"Colour": "blue"}, ContentType: aws.String("text/x-test"), CacheControl: aws.String("no-cache")}))
		get := must[*s3.GetObjectOutput](t)(c.GetObject(ctx, &s3.GetObjectInput{Bucket: b, Key: aws.String("dir/key +ü~"), ChecksumMode: types.ChecksumModeEnabled}))
		got := must[[]byte](t)(io.ReadAll(get.Body))
		get.Body.Close()
		if !bytes.Equal(got, data) || *get.ETag != *put.ETag || *get.ContentType != "text/x-test" || get.Metadata["colour"] != "blue" || *get.CacheControl != "no-cache" {
			t.Fatalf("%d bytes: got %d, %+v", n, len(got), get)
		}
		if get.ChecksumCRC32 == nil || get.ChecksumType != types.ChecksumTypeFullObject {
			t.Errorf("%d bytes: no checksum in %+v", n, get)
		}
	}
	must[*s3.PutObjectOutput](t)(c.PutObject(ctx, &s3.PutObjectInput{Bucket: b, Key: aws.String("stream"), Body: bytes.NewReader(blob(1 << 20))}))
	list := must[*s3.ListObjectsV2Output](t)(c.ListObjectsV2(ctx, &s3.ListObjectsV2Input{Bucket: b, Delimiter: aws.String("/")}))
	if len(list.Contents) != 1 || len(list.CommonPrefixes) != 1 || *list.CommonPrefixes[0].Prefix != "dir/" || *list.KeyCount != 2 {
		t.Errorf("listing: %+v", list)
	}
	must[*s3.CopyObjectOutput](t)(c.CopyObject(ctx, &s3.CopyObjectInput{Bucket: b, Key: aws.String("copy"), CopySource: aws.String("first-bucket/dir/key%20%2B%C3%BC~")}))
	head := must[*s3.HeadObjectOutput](t)(c.HeadObject(ctx, &s3.HeadObjectInput{Bucket: b, Key: aws.String("copy")}))
	if *head.ContentLength != 3<<20 || head.Metadata["colour"] != "blue" {
		t.Errorf("copy: %+v", head)
	}
	del := must[*s3.DeleteObjectsOutput](t)(c.DeleteObjects(ctx, &s3.DeleteObjectsInput{Bucket: b, Delete: &types.Delete{Objects: []types.ObjectIdentifier{
		{Key: aws.String("copy")}, {Key: aws.String("stream")}, {Key: aws.String("dir/key +ü~")}, {Key: aws.String("absent")}}}}))
	if len(del.Deleted) != 4 || len(del.Errors) != 0 {
		t.Errorf("delete: %+v", del)
	}
	must[*s3.DeleteBucketOutput](t)(c.DeleteBucket(ctx, &s3.DeleteBucketInput{Bucket: b}))
}

// Every complete is sent twice; the upload without algorithm gets CRC64NVME.
func TestLearned14And19Multipart(t *testing.T) {
	h := open(t)
	c := h.sdk()
	b, k := aws.String("parts"), aws.String("big")
	must[*s3.CreateBucketOutput](t)(c.CreateBucket(ctx, &s3.CreateBucketInput{Bucket: b}))
	type variant struct {
		alg types.ChecksumAlgorithm
		typ types.ChecksumType
	}
	for _, v := range []variant{{"", ""}, {types.ChecksumAlgorithmCrc32, types.ChecksumTypeFullObject}, {types.ChecksumAlgorithmCrc32c, types.ChecksumTypeComposite},
		{types.ChecksumAlgorithmSha256, ""}, {types.ChecksumAlgorithmSha1, ""}, {types.ChecksumAlgorithmCrc64nvme, types.ChecksumTypeFullObject}} {
		up := must[*s3.CreateMultipartUploadOutput](t)(c.CreateMultipartUpload(ctx, &s3.CreateMultipartUploadInput{Bucket: b, Key: k, ChecksumAlgorithm: v.alg, ChecksumType: v.typ}))
		data := blob(11 << 20)
		var done []types.CompletedPart
		for i, piece := range [][]byte{data[:5<<20], data[5<<20 : 10<<20], data[10<<20:]} {
			n := aws.Int32(int32(i + 1))
			p := must[*s3.UploadPartOutput](t)(c.UploadPart(ctx, &s3.UploadPartInput{Bucket: b, Key: k, UploadId: up.UploadId, PartNumber: n, Body: bytes.NewReader(piece), ChecksumAlgorithm: v.alg}))
			part := types.CompletedPart{PartNumber: n, ETag: p.ETag}
			if v.alg != "" {
				part = types.CompletedPart{PartNumber: n, ETag: p.ETag, ChecksumCRC32: p.ChecksumCRC32, ChecksumCRC32C: p.ChecksumCRC32C,
					ChecksumSHA1: p.ChecksumSHA1, ChecksumSHA256: p.ChecksumSHA256, ChecksumCRC64NVME: p.ChecksumCRC64NVME}
			}
			done = append(done, part)
		}
		parts := must[*s3.ListPartsOutput](t)(c.ListParts(ctx, &s3.ListPartsInput{Bucket: b, Key: k, UploadId: up.UploadId}))
		if len(parts.Parts) != 3 {
			t.Errorf("%v: %d parts", v, len(parts.Parts))
		}
		in := &s3.CompleteMultipartUploadInput{Bucket: b, Key: k, UploadId: up.UploadId, MultipartUpload: &types.CompletedMultipartUpload{Parts: done}, ChecksumType: v.typ}
		fin := must[*s3.CompleteMultipartUploadOutput](t)(c.CompleteMultipartUpload(ctx, in))
		again := must[*s3.CompleteMultipartUploadOutput](t)(c.CompleteMultipartUpload(ctx, in))
		if *fin.ETag != *again.ETag || !strings.HasSuffix(*fin.ETag, `-3"`) {
			t.Errorf("%v: %s then %s", v, *fin.ETag, *again.ETag)
		}
		get := must[*s3.GetObjectOutput](t)(c.GetObject(ctx, &s3.GetObjectInput{Bucket: b, Key: k, ChecksumMode: types.ChecksumModeEnabled}))
		if got := must[[]byte](t)(io.ReadAll(get.Body)); !bytes.Equal(got, data) {
			t.Errorf("%v: content differs", v)
		}
		if v.alg == types.ChecksumAlgorithmCrc64nvme && get.ChecksumCRC64NVME == nil {
			t.Errorf("%v: no checksum", v)
		}
		get.Body.Close()
		if v.typ == types.ChecksumTypeFullObject && get.ChecksumType != types.ChecksumTypeFullObject {
			t.Errorf("%v: type %s", v, get.ChecksumType)
		}
		second := must[*s3.GetObjectOutput](t)(c.GetObject(ctx, &s3.GetObjectInput{Bucket: b, Key: k, PartNumber: aws.Int32(2)}))
		if got := must[[]byte](t)(io.ReadAll(second.Body)); !bytes.Equal(got, data[5<<20:10<<20]) || *second.PartsCount != 3 {
			t.Errorf("%v: part 2 differs", v)
		}
		second.Body.Close()
		attr := must[*s3.GetObjectAttributesOutput](t)(c.GetObjectAttributes(ctx, &s3.GetObjectAttributesInput{Bucket: b, Key: k,
			ObjectAttributes: []types.ObjectAttributes{types.ObjectAttributesEtag, types.ObjectAttributesObjectParts, types.ObjectAttributesObjectSize, types.ObjectAttributesChecksum}}))
		if *attr.ObjectSize != 11<<20 || *attr.ObjectParts.TotalPartsCount != 3 || attr.Checksum == nil {
			t.Errorf("%v: attributes %+v", v, attr)
		}
	}
}

func TestSDKPresigned(t *testing.T) {
	h := open(t)
	h.bucket("presigned")
	p := s3.NewPresignClient(h.sdk())
	put, err := p.PresignPutObject(ctx, &s3.PutObjectInput{Bucket: aws.String("presigned"), Key: aws.String("a b"), Metadata: map[string]string{"x": "y"}}, s3.WithPresignExpires(time.Minute))
	if err != nil {
		t.Fatal(err)
	}
	r, _ := http.NewRequest("PUT", put.URL, strings.NewReader("hello"))
	for n, v := range put.SignedHeader {
		if n != "Host" {
			r.Header[n] = slices.Clone(v)
		}
	}
	h.want(h.send(r), 200, "")
	get, err := p.PresignGetObject(ctx, &s3.GetObjectInput{Bucket: aws.String("presigned"), Key: aws.String("a b"), ResponseContentType: aws.String("text/y")})
	if err != nil {
		t.Fatal(err)
	}
	r, _ = http.NewRequest("GET", get.URL, nil)
	a := h.send(r)
	h.want(a, 200, "")
	if a.body != "hello" || a.Header.Get("Content-Type") != "text/y" || a.Header["X-Amz-Meta-X"][0] != "y" {
		t.Errorf("got %q %v", a.body, a.Header)
	}
}
