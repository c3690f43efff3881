package s3api_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"
)

// versioned makes a bucket with versioning.
func (h *house) versioned(name string) (*s3.Client, *string) {
	h.Helper()
	c, b := h.sdk(), aws.String(name)
	must[*s3.CreateBucketOutput](h.T)(c.CreateBucket(ctx, &s3.CreateBucketInput{Bucket: b}))
	must[*s3.PutBucketVersioningOutput](h.T)(c.PutBucketVersioning(ctx, &s3.PutBucketVersioningInput{Bucket: b,
		VersioningConfiguration: &types.VersioningConfiguration{Status: types.BucketVersioningStatusEnabled}}))
	return c, b
}

// failed demands an error of that status and code, and answers its header.
func failed(t *testing.T, err error, status int, code string) http.Header {
	t.Helper()
	var re *awshttp.ResponseError
	var api interface{ ErrorCode() string }
	if !errors.As(err, &re) || re.HTTPStatusCode() != status || code != "" && (!errors.As(err, &api) || api.ErrorCode() != code) {
		t.Fatalf("got %v, want %d %s", err, status, code)
	}
	return re.Response.Header
}

func TestSDKVersions(t *testing.T) {
	h := open(t)
	c, b := h.versioned("history")
	got := must[*s3.GetBucketVersioningOutput](t)(c.GetBucketVersioning(ctx, &s3.GetBucketVersioningInput{Bucket: b}))
	if got.Status != types.BucketVersioningStatusEnabled {
		t.Errorf("status %q", got.Status)
	}
	k := aws.String("dir/ü")
	var ids []string
	for i := range 3 {
		put := must[*s3.PutObjectOutput](t)(c.PutObject(ctx, &s3.PutObjectInput{Bucket: b, Key: k, Body: bytes.NewReader(fmt.Appendf(nil, "version %d", i))}))
		ids = append(ids, aws.ToString(put.VersionId))
	}
	if ids[0] == "" || slices.Contains(ids[1:], ids[0]) || len(ids[0]) < 32 {
		t.Fatalf("ids %q", ids)
	}
	read := func(id *string) string {
		t.Helper()
		o := must[*s3.GetObjectOutput](t)(c.GetObject(ctx, &s3.GetObjectInput{Bucket: b, Key: k, VersionId: id}))
		defer o.Body.Close()
		return string(must[[]byte](t)(io.ReadAll(o.Body))) + " " + aws.ToString(o.VersionId)
	}
	if got := read(nil); got != "version 2 "+ids[2] {
		t.Error(got)
	}
	if got := read(&ids[0]); got != "version 0 "+ids[0] {
		t.Error(got)
	}

	del := must[*s3.DeleteObjectOutput](t)(c.DeleteObject(ctx, &s3.DeleteObjectInput{Bucket: b, Key: k}))
	if !aws.ToBool(del.DeleteMarker) || aws.ToString(del.VersionId) == "" {
		t.Errorf("delete: %+v", del)
	}
	_, err := c.GetObject(ctx, &s3.GetObjectInput{Bucket: b, Key: k})
	if head := failed(t, err, 404, "NoSuchKey"); head.Get("x-amz-delete-marker") != "true" || head.Get("x-amz-version-id") != *del.VersionId {
		t.Errorf("404 of a marker: %v", head)
	}
	for _, get := range []func() error{
		func() error {
			_, err := c.GetObject(ctx, &s3.GetObjectInput{Bucket: b, Key: k, VersionId: del.VersionId})
			return err
		},
		func() error {
			_, err := c.HeadObject(ctx, &s3.HeadObjectInput{Bucket: b, Key: k, VersionId: del.VersionId})
			return err
		},
	} {
		if head := failed(t, get(), 405, ""); head.Get("x-amz-delete-marker") != "true" || head.Get("Last-Modified") == "" {
			t.Errorf("405 of a marker: %v", head)
		}
	}

	source := "history/" + url.PathEscape(*k) + "?versionId=" + ids[1]
	cp := must[*s3.CopyObjectOutput](t)(c.CopyObject(ctx, &s3.CopyObjectInput{Bucket: b, Key: k, CopySource: &source}))
	if aws.ToString(cp.CopySourceVersionId) != ids[1] || aws.ToString(cp.VersionId) == "" {
		t.Errorf("copy: %+v", cp)
	}
	if got := read(nil); got != "version 1 "+*cp.VersionId {
		t.Errorf("a restored version reads %q", got)
	}
	marker := "history/" + url.PathEscape(*k) + "?versionId=" + *del.VersionId
	_, err = c.CopyObject(ctx, &s3.CopyObjectInput{Bucket: b, Key: k, CopySource: &marker})
	failed(t, err, 400, "InvalidRequest")

	attr := must[*s3.GetObjectAttributesOutput](t)(c.GetObjectAttributes(ctx, &s3.GetObjectAttributesInput{Bucket: b, Key: k, VersionId: &ids[0],
		ObjectAttributes: []types.ObjectAttributes{types.ObjectAttributesObjectSize}}))
	if aws.ToString(attr.VersionId) != ids[0] || aws.ToInt64(attr.ObjectSize) != 9 {
		t.Errorf("attributes: %+v", attr)
	}

	list := must[*s3.ListObjectVersionsOutput](t)(c.ListObjectVersions(ctx, &s3.ListObjectVersionsInput{Bucket: b, EncodingType: types.EncodingTypeUrl}))
	if len(list.Versions) != 4 || len(list.DeleteMarkers) != 1 || !aws.ToBool(list.Versions[0].IsLatest) || aws.ToBool(list.DeleteMarkers[0].IsLatest) ||
		aws.ToBool(list.Versions[1].IsLatest) || aws.ToString(list.Versions[0].Key) != "dir/%C3%BC" {
		t.Errorf("versions: %+v", list)
	}
	var paged []string
	in := &s3.ListObjectVersionsInput{Bucket: b, MaxKeys: aws.Int32(2)}
	for {
		page := must[*s3.ListObjectVersionsOutput](t)(c.ListObjectVersions(ctx, in))
		for _, v := range page.Versions {
			paged = append(paged, *v.VersionId)
		}
		if !aws.ToBool(page.IsTruncated) {
			break
		}
		in.KeyMarker, in.VersionIdMarker = page.NextKeyMarker, page.NextVersionIdMarker
	}
	if !slices.Equal(paged, []string{*cp.VersionId, ids[2], ids[1], ids[0]}) {
		t.Errorf("pages: %q, put %q", paged, ids)
	}

	many := must[*s3.DeleteObjectsOutput](t)(c.DeleteObjects(ctx, &s3.DeleteObjectsInput{Bucket: b, Delete: &types.Delete{Objects: []types.ObjectIdentifier{
		{Key: k, VersionId: &ids[0]}, {Key: k, VersionId: del.VersionId}, {Key: aws.String("other")}, {Key: k, VersionId: aws.String("junk")}}}}))
	if len(many.Deleted) != 3 || len(many.Errors) != 1 || aws.ToString(many.Errors[0].Code) != "NoSuchVersion" {
		t.Errorf("DeleteObjects: %+v", many)
	}
	for _, d := range many.Deleted {
		asked := aws.ToString(d.VersionId)
		if isMarker := asked != ids[0]; aws.ToBool(d.DeleteMarker) != isMarker || isMarker && asked != "" && aws.ToString(d.DeleteMarkerVersionId) != asked {
			t.Errorf("deleted: %+v", d)
		}
	}
	_, err = c.GetObject(ctx, &s3.GetObjectInput{Bucket: b, Key: k, VersionId: &ids[0]})
	failed(t, err, 404, "NoSuchVersion")
	_, err = c.GetObject(ctx, &s3.GetObjectInput{Bucket: b, Key: k, VersionId: aws.String("../../x")})
	failed(t, err, 400, "InvalidArgument")
	_, err = c.DeleteBucket(ctx, &s3.DeleteBucketInput{Bucket: b})
	failed(t, err, 409, "BucketNotEmpty")
}

func TestSDKSuspended(t *testing.T) {
	h := open(t)
	c, b := h.versioned("pause")
	k := aws.String("k")
	kept := must[*s3.PutObjectOutput](t)(c.PutObject(ctx, &s3.PutObjectInput{Bucket: b, Key: k, Body: bytes.NewReader([]byte("kept"))}))
	must[*s3.PutBucketVersioningOutput](t)(c.PutBucketVersioning(ctx, &s3.PutBucketVersioningInput{Bucket: b,
		VersioningConfiguration: &types.VersioningConfiguration{Status: types.BucketVersioningStatusSuspended}}))
	for range 2 {
		put := must[*s3.PutObjectOutput](t)(c.PutObject(ctx, &s3.PutObjectInput{Bucket: b, Key: k, Body: bytes.NewReader([]byte("null"))}))
		head := must[*s3.HeadObjectOutput](t)(c.HeadObject(ctx, &s3.HeadObjectInput{Bucket: b, Key: k}))
		if put.VersionId != nil || aws.ToString(head.VersionId) != "null" {
			t.Errorf("suspended: id %q, read %q", aws.ToString(put.VersionId), aws.ToString(head.VersionId))
		}
	}
	up := must[*s3.CreateMultipartUploadOutput](t)(c.CreateMultipartUpload(ctx, &s3.CreateMultipartUploadInput{Bucket: b, Key: k}))
	part := must[*s3.UploadPartOutput](t)(c.UploadPart(ctx, &s3.UploadPartInput{Bucket: b, Key: k, UploadId: up.UploadId, PartNumber: aws.Int32(1), Body: bytes.NewReader([]byte("p"))}))
	for range 2 { // a repeated complete gets the same answer
		done := must[*s3.CompleteMultipartUploadOutput](t)(c.CompleteMultipartUpload(ctx, &s3.CompleteMultipartUploadInput{Bucket: b, Key: k, UploadId: up.UploadId,
			MultipartUpload: &types.CompletedMultipartUpload{Parts: []types.CompletedPart{{PartNumber: aws.Int32(1), ETag: part.ETag}}}}))
		if aws.ToString(done.ETag) == "" || done.VersionId != nil {
			t.Errorf("complete: %+v", done)
		}
	}
	list := must[*s3.ListObjectVersionsOutput](t)(c.ListObjectVersions(ctx, &s3.ListObjectVersionsInput{Bucket: b}))
	if len(list.Versions) != 2 || *list.Versions[0].VersionId != "null" || *list.Versions[1].VersionId != *kept.VersionId {
		t.Errorf("versions: %+v", list.Versions)
	}
	del := must[*s3.DeleteObjectOutput](t)(c.DeleteObject(ctx, &s3.DeleteObjectInput{Bucket: b, Key: k}))
	if aws.ToString(del.VersionId) != "null" || !aws.ToBool(del.DeleteMarker) {
		t.Errorf("delete: %+v", del)
	}
}

func TestVersioningInput(t *testing.T) {
	h := open(t)
	h.bucket("input")
	const doc = `<VersioningConfiguration xmlns="http://s3.amazonaws.com/doc/2006-03-01/">%s</VersioningConfiguration>`
	for body, want := range map[string]string{
		"": "MissingRequestBodyError", "<Status>Enabled</Status>": "MalformedXML",
		fmt.Sprintf(doc, ""): "IllegalVersioningConfigurationException", fmt.Sprintf(doc, "<Status>enabled</Status>"): "MalformedXML",
		fmt.Sprintf(doc, "<Status>Enabled</Status><Status>Suspended</Status>"):       "MalformedXML",
		fmt.Sprintf(doc, "<Status>Enabled</Status><Other/>"):                         "MalformedXML",
		fmt.Sprintf(doc, "<Status>Enabled</Status><MfaDelete>Enabled</MfaDelete>"):   "NotImplemented",
		fmt.Sprintf(doc, "<Status>Enabled</Status><MfaDelete>sometimes</MfaDelete>"): "MalformedXML",
	} {
		if a := h.do("PUT", "/input?versioning", body); a.code() != want {
			t.Errorf("%s: %q, want %q", body, a.code(), want)
		}
	}
	if a := h.do("GET", "/input?versioning", ""); a.element("Status") != "" {
		t.Errorf("bad input changed the bucket: %s", a.body)
	}
	h.want(h.do("PUT", "/absent?versioning", fmt.Sprintf(doc, "<Status>Enabled</Status>")), 404, "NoSuchBucket")
	h.want(h.do("GET", "/absent?versions", ""), 404, "NoSuchBucket")
	h.want(h.do("DELETE", "/input/x", "", "X-Amz-Bypass-Governance-Retention: maybe"), 400, "InvalidArgument")
}
