package s3api_test

import (
	"bytes"
	"fmt"
	"net/url"
	"strings"
	"sync"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"

	"bivalve/s3api"
)

// TestTenThousandParts: the most parts that there may be, listed, completed, read by
// number; one more is refused.
func TestTenThousandParts(t *testing.T) {
	if testing.Short() {
		t.Skip("ten thousand requests")
	}
	h := open(t, func(c *s3api.Config) { c.MinPartBytes = 1 })
	h.bucket("edges")
	id := h.do("POST", "/edges/x?uploads", "").element("UploadId")
	etags := make([]string, 10_000)
	var wg sync.WaitGroup
	for w := range 8 {
		wg.Go(func() {
			for n := w; n < len(etags); n += 8 {
				etags[n] = h.do("PUT", fmt.Sprintf("/edges/x?partNumber=%d&uploadId=%s", n+1, id), fmt.Sprintf("%05d", n+1)).Header.Get("ETag")
			}
		})
	}
	wg.Wait()
	h.want(h.do("PUT", "/edges/x?partNumber=10001&uploadId="+id, "d"), 400, "InvalidArgument")
	seen, marker := 0, "0"
	for more := true; more; {
		a := h.do("GET", "/edges/x?part-number-marker="+marker+"&uploadId="+id, "")
		n := strings.Count(a.body, "<Part>")
		if n != 1000 {
			t.Fatalf("a page of %d parts after %s", n, marker)
		}
		seen, marker, more = seen+n, a.element("NextPartNumberMarker"), a.element("IsTruncated") == "true"
	}
	if seen != 10_000 {
		t.Errorf("%d parts are listed", seen)
	}
	var doc strings.Builder
	doc.WriteString("<CompleteMultipartUpload>")
	for n, e := range etags {
		fmt.Fprintf(&doc, "<Part><PartNumber>%d</PartNumber><ETag>%s</ETag></Part>", n+1, e)
	}
	doc.WriteString("</CompleteMultipartUpload>")
	first := h.do("POST", "/edges/x?uploadId="+id, doc.String())
	h.want(first, 200, "")
	if e := first.element("ETag"); !strings.HasSuffix(e, "-10000&quot;") {
		t.Errorf("ETag %s", e)
	}
	// The same again, as after a timeout: the same answer.
	if again := h.do("POST", "/edges/x?uploadId="+id, doc.String()); again.body != first.body {
		t.Errorf("the second answer is %s", again.body)
	}
	h.want(h.do("DELETE", "/edges/x?uploadId="+id, ""), 404, "NoSuchUpload")
	if a := h.do("GET", "/edges/x?partNumber=10000", ""); a.body != "10000" || a.Header.Get("X-Amz-Mp-Parts-Count") != "10000" {
		t.Errorf("%q %v", a.body, a.Header)
	}
	h.want(h.do("GET", "/edges/x?partNumber=10001", ""), 400, "InvalidArgument")
	if a := h.do("HEAD", "/edges/x", ""); a.ContentLength != 50_000 {
		t.Errorf("%d bytes", a.ContentLength)
	}
}

// TestUploadsPast1000: pages of uploads neither skip nor repeat, also where many
// have one key.
func TestUploadsPast1000(t *testing.T) {
	h := open(t)
	h.bucket("many")
	want := map[string]bool{}
	for i := range 2105 {
		want[h.do("POST", fmt.Sprintf("/many/key%d?uploads", i%700), "").element("UploadId")] = true
	}
	query, pages := "", 0
	for more := true; more; pages++ {
		a := h.do("GET", "/many?uploads"+query, "")
		ids := strings.Split(a.body, "<UploadId>")[1:]
		for _, id := range ids {
			id, _, _ = strings.Cut(id, "<")
			if !want[id] {
				t.Fatalf("%s is listed twice, or was never begun", id)
			}
			delete(want, id)
		}
		more = a.element("IsTruncated") == "true"
		if len(ids) != 1000 && more {
			t.Fatalf("a page of %d", len(ids))
		}
		if a := h.do("GET", "/many?uploads&upload-id-marker="+a.element("NextUploadIdMarker"), ""); a.element("UploadIdMarker") != "" {
			t.Errorf("an upload without its key is a marker: %.300s", a.body)
		}
		query = "&key-marker=" + url.QueryEscape(a.element("NextKeyMarker")) + "&upload-id-marker=" + a.element("NextUploadIdMarker")
	}
	if len(want) != 0 || pages != 3 {
		t.Errorf("%d uploads were not listed on %d pages", len(want), pages)
	}
}

// TestMultipartChecksums: both types, by the client of the service itself.
func TestMultipartChecksums(t *testing.T) {
	h := open(t)
	h.bucket("sums")
	c := h.sdk()
	bucket, key := aws.String("sums"), aws.String("x")
	one, two := blob(5<<20), blob(1000)
	for _, k := range []struct {
		algorithm types.ChecksumAlgorithm
		typ       types.ChecksumType
	}{{types.ChecksumAlgorithmCrc32, types.ChecksumTypeFullObject}, {types.ChecksumAlgorithmCrc32, types.ChecksumTypeComposite},
		{types.ChecksumAlgorithmCrc64nvme, types.ChecksumTypeFullObject}, {types.ChecksumAlgorithmSha256, types.ChecksumTypeComposite}} {
		u := must[*s3.CreateMultipartUploadOutput](t)(c.CreateMultipartUpload(ctx, &s3.CreateMultipartUploadInput{Bucket: bucket, Key: key, ChecksumAlgorithm: k.algorithm, ChecksumType: k.typ}))
		var parts []types.CompletedPart
		for n, data := range [][]byte{one, two} {
			p := must[*s3.UploadPartOutput](t)(c.UploadPart(ctx, &s3.UploadPartInput{Bucket: bucket, Key: key, UploadId: u.UploadId, PartNumber: aws.Int32(int32(n + 1)),
				Body: bytes.NewReader(data), ChecksumAlgorithm: k.algorithm}))
			parts = append(parts, types.CompletedPart{PartNumber: aws.Int32(int32(n + 1)), ETag: p.ETag, ChecksumCRC32: p.ChecksumCRC32, ChecksumCRC64NVME: p.ChecksumCRC64NVME, ChecksumSHA256: p.ChecksumSHA256})
		}
		other := types.ChecksumTypeComposite
		if k.typ == other {
			other = types.ChecksumTypeFullObject
		}
		complete := func(typ types.ChecksumType) (*s3.CompleteMultipartUploadOutput, error) {
			return c.CompleteMultipartUpload(ctx, &s3.CompleteMultipartUploadInput{Bucket: bucket, Key: key, UploadId: u.UploadId, ChecksumType: typ,
				MultipartUpload: &types.CompletedMultipartUpload{Parts: parts}})
		}
		if _, err := complete(other); err == nil {
			t.Errorf("%s %s: completed as the other type", k.algorithm, k.typ)
		}
		_, err := c.CompleteMultipartUpload(ctx, &s3.CompleteMultipartUploadInput{Bucket: bucket, Key: key, UploadId: u.UploadId,
			MultipartUpload: &types.CompletedMultipartUpload{Parts: []types.CompletedPart{{PartNumber: aws.Int32(1), ETag: parts[0].ETag, ChecksumCRC32C: aws.String("AAAAAA==")}}}})
		failed(t, err, 400, "BadDigest") // of another kind
		done := must[*s3.CompleteMultipartUploadOutput](t)(complete(k.typ))
		head := must[*s3.HeadObjectOutput](t)(c.HeadObject(ctx, &s3.HeadObjectInput{Bucket: bucket, Key: key, ChecksumMode: types.ChecksumModeEnabled}))
		sums := aws.ToString(head.ChecksumCRC32) + aws.ToString(head.ChecksumCRC64NVME) + aws.ToString(head.ChecksumSHA256)
		if head.ChecksumType != k.typ || done.ChecksumType != k.typ || sums == "" || strings.HasSuffix(sums, "-2") != (k.typ == types.ChecksumTypeComposite) {
			t.Errorf("%s %s: %s %q", k.algorithm, k.typ, head.ChecksumType, sums)
		}
		// Unasked it is not told.
		if head := must[*s3.HeadObjectOutput](t)(c.HeadObject(ctx, &s3.HeadObjectInput{Bucket: bucket, Key: key})); head.ChecksumCRC32 != nil || head.ChecksumSHA256 != nil || head.ChecksumCRC64NVME != nil {
			t.Error("a checksum that nobody asked for")
		}
	}
	if _, err := c.CreateMultipartUpload(ctx, &s3.CreateMultipartUploadInput{Bucket: bucket, Key: key, ChecksumAlgorithm: types.ChecksumAlgorithmSha1, ChecksumType: types.ChecksumTypeFullObject}); err == nil {
		t.Error("SHA1 cannot be of a full object")
	}
}

// TestSDKAttributes: the parts of an object by pages.
func TestSDKAttributes(t *testing.T) {
	h := open(t, func(c *s3api.Config) { c.MinPartBytes = 1 })
	h.bucket("attrs")
	c := h.sdk()
	bucket, key := aws.String("attrs"), aws.String("x")
	u := must[*s3.CreateMultipartUploadOutput](t)(c.CreateMultipartUpload(ctx, &s3.CreateMultipartUploadInput{Bucket: bucket, Key: key, ChecksumAlgorithm: types.ChecksumAlgorithmSha256}))
	var parts []types.CompletedPart
	for n := range int32(5) {
		p := must[*s3.UploadPartOutput](t)(c.UploadPart(ctx, &s3.UploadPartInput{Bucket: bucket, Key: key, UploadId: u.UploadId, PartNumber: aws.Int32(n + 1),
			Body: bytes.NewReader(blob(int(n) + 1)), ChecksumAlgorithm: types.ChecksumAlgorithmSha256}))
		parts = append(parts, types.CompletedPart{PartNumber: aws.Int32(n + 1), ETag: p.ETag, ChecksumSHA256: p.ChecksumSHA256})
	}
	must[*s3.CompleteMultipartUploadOutput](t)(c.CompleteMultipartUpload(ctx, &s3.CompleteMultipartUploadInput{Bucket: bucket, Key: key, UploadId: u.UploadId,
		MultipartUpload: &types.CompletedMultipartUpload{Parts: parts}}))
	var marker *string
	var sizes []int64
	for {
		a := must[*s3.GetObjectAttributesOutput](t)(c.GetObjectAttributes(ctx, &s3.GetObjectAttributesInput{Bucket: bucket, Key: key, MaxParts: aws.Int32(2), PartNumberMarker: marker,
			ObjectAttributes: []types.ObjectAttributes{types.ObjectAttributesObjectParts, types.ObjectAttributesObjectSize, types.ObjectAttributesChecksum, types.ObjectAttributesEtag}}))
		if aws.ToInt64(a.ObjectSize) != 15 || aws.ToInt32(a.ObjectParts.TotalPartsCount) != 5 || a.Checksum == nil || a.Checksum.ChecksumType != types.ChecksumTypeComposite ||
			strings.Contains(aws.ToString(a.Checksum.ChecksumSHA256), "-") { // the count is told apart
			t.Errorf("%+v", a)
		}
		for _, p := range a.ObjectParts.Parts {
			if p.ChecksumSHA256 == nil {
				t.Errorf("part %d has no checksum", aws.ToInt32(p.PartNumber))
			}
			sizes = append(sizes, aws.ToInt64(p.Size))
		}
		if marker = a.ObjectParts.NextPartNumberMarker; !aws.ToBool(a.ObjectParts.IsTruncated) {
			break
		}
	}
	if fmt.Sprint(sizes) != "[1 2 3 4 5]" {
		t.Errorf("parts of %v", sizes)
	}
	if a := h.do("GET", "/attrs/x?attributes", "", "X-Amz-Object-Attributes: ObjectParts", "X-Amz-Part-Number-Marker: 10"); a.element("PartNumberMarker") != "10" ||
		a.element("NextPartNumberMarker") != "0" || a.element("IsTruncated") != "false" {
		t.Errorf("behind the last part: %s", a.body)
	}
}

// TestConditionalCompletesAndCopies: conditions are those of the commit.
func TestConditionalCompletesAndCopies(t *testing.T) {
	h := open(t)
	h.bucket("cond")
	h.want(h.do("PUT", "/cond/src", "data"), 200, "")
	etag := h.do("HEAD", "/cond/src", "").Header.Get("ETag")
	complete := func(key string, headers ...string) answer {
		id := h.do("POST", "/cond/"+key+"?uploads", "").element("UploadId")
		e := h.do("PUT", "/cond/"+key+"?partNumber=1&uploadId="+id, "part").Header.Get("ETag")
		return h.do("POST", "/cond/"+key+"?uploadId="+id, "<CompleteMultipartUpload><Part><PartNumber>1</PartNumber><ETag>"+e+"</ETag></Part></CompleteMultipartUpload>", headers...)
	}
	h.want(complete("new", "If-None-Match: *"), 200, "")
	h.want(complete("src", "If-None-Match: *"), 412, "PreconditionFailed")
	h.want(complete("src", `If-Match: "other"`), 412, "PreconditionFailed")
	h.want(complete("absent", "If-Match: "+etag), 404, "NoSuchKey")
	if a := h.do("GET", "/cond/src", ""); a.body != "data" {
		t.Errorf("a refused complete changed the object to %q", a.body)
	}
	from := "X-Amz-Copy-Source: cond/src"
	const past, future = "Tue, 01 Jan 2019 00:00:00 GMT", "Tue, 01 Jan 2999 00:00:00 GMT"
	for header, ok := range map[string]bool{
		"X-Amz-Copy-Source-If-Match: " + etag: true, `X-Amz-Copy-Source-If-Match: "other"`: false,
		"X-Amz-Copy-Source-If-None-Match: " + etag: false, `X-Amz-Copy-Source-If-None-Match: "other"`: true,
		"X-Amz-Copy-Source-If-Modified-Since: " + past: true, "X-Amz-Copy-Source-If-Modified-Since: " + future: true,
		"X-Amz-Copy-Source-If-Unmodified-Since: " + past: false, "X-Amz-Copy-Source-If-Unmodified-Since: " + future: true,
	} {
		a := h.do("PUT", "/cond/copy", "", from, header)
		if ok {
			h.want(a, 200, "")
		} else {
			h.want(a, 412, "PreconditionFailed")
		}
	}
	h.want(h.do("PUT", "/cond/copy", "", from, "If-None-Match: *"), 412, "PreconditionFailed")
	h.want(h.do("PUT", "/cond/copy2", "", from, "If-None-Match: *"), 200, "")
	h.want(h.do("PUT", "/cond/copy3", "", from, "If-Match: "+etag), 404, "NoSuchKey")
}

// TestListBucketsPaging: pages of buckets, by prefix.
func TestListBucketsPaging(t *testing.T) {
	h := open(t)
	for i := range 7 {
		h.bucket(fmt.Sprintf("page-%d", i))
	}
	h.bucket("other")
	c := h.sdk()
	var names []string
	var token *string
	for {
		p := must[*s3.ListBucketsOutput](t)(c.ListBuckets(ctx, &s3.ListBucketsInput{MaxBuckets: aws.Int32(3), Prefix: aws.String("page-"), ContinuationToken: token}))
		if len(p.Buckets) > 3 || aws.ToString(p.Prefix) != "page-" {
			t.Errorf("%d buckets, prefix %v", len(p.Buckets), p.Prefix)
		}
		for _, b := range p.Buckets {
			names = append(names, aws.ToString(b.Name))
		}
		if token = p.ContinuationToken; token == nil {
			break
		}
	}
	if fmt.Sprint(names) != "[page-0 page-1 page-2 page-3 page-4 page-5 page-6]" {
		t.Error(names)
	}
}
