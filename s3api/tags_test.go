package s3api_test

import (
	"bytes"
	"fmt"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"
)

func tagText(set []types.Tag) string {
	var out []string
	for _, t := range set {
		out = append(out, *t.Key+"="+*t.Value)
	}
	return strings.Join(out, "&")
}

func TestSDKTagging(t *testing.T) {
	h := open(t)
	c, b := h.versioned("tags")
	k := aws.String("k")
	tags := func(key, version *string) string {
		t.Helper()
		return tagText(must[*s3.GetObjectTaggingOutput](t)(c.GetObjectTagging(ctx, &s3.GetObjectTaggingInput{Bucket: b, Key: key, VersionId: version})).TagSet)
	}
	put := must[*s3.PutObjectOutput](t)(c.PutObject(ctx, &s3.PutObjectInput{Bucket: b, Key: k, Body: bytes.NewReader([]byte("1")), Tagging: aws.String("colour=dark%20blue&a")}))
	if got := tags(k, nil); got != "a=&colour=dark blue" {
		t.Errorf("put: %q", got)
	}
	head := must[*s3.HeadObjectOutput](t)(c.HeadObject(ctx, &s3.HeadObjectInput{Bucket: b, Key: k}))
	get := must[*s3.GetObjectOutput](t)(c.GetObject(ctx, &s3.GetObjectInput{Bucket: b, Key: k}))
	get.Body.Close()
	if aws.ToInt32(get.TagCount) != 2 || head.ContentLength == nil {
		t.Errorf("count %v", get.TagCount)
	}
	must[*s3.PutObjectOutput](t)(c.PutObject(ctx, &s3.PutObjectInput{Bucket: b, Key: k, Body: bytes.NewReader([]byte("2"))}))
	if got := tags(k, nil); got != "" {
		t.Errorf("a new version has the tags of the old: %q", got)
	}
	set := must[*s3.PutObjectTaggingOutput](t)(c.PutObjectTagging(ctx, &s3.PutObjectTaggingInput{Bucket: b, Key: k, VersionId: put.VersionId,
		Tagging: &types.Tagging{TagSet: []types.Tag{{Key: aws.String("ü"), Value: aws.String("x+y")}}}}))
	if aws.ToString(set.VersionId) != *put.VersionId || tags(k, put.VersionId) != "ü=x+y" || tags(k, nil) != "" {
		t.Errorf("set %+v", set)
	}
	again := must[*s3.GetObjectOutput](t)(c.GetObject(ctx, &s3.GetObjectInput{Bucket: b, Key: k, VersionId: put.VersionId}))
	again.Body.Close()
	if !again.LastModified.Equal(*get.LastModified) || *again.ETag != *get.ETag {
		t.Errorf("tagging changed the object: %+v", again)
	}

	source := aws.String("tags/k?versionId=" + *put.VersionId)
	for _, d := range []struct {
		directive types.TaggingDirective
		given     *string
		want      string
	}{{"", nil, "ü=x+y"}, {types.TaggingDirectiveCopy, nil, "ü=x+y"}, {types.TaggingDirectiveReplace, aws.String("n=1"), "n=1"}, {types.TaggingDirectiveReplace, nil, ""}} {
		to := aws.String("copy" + string(d.directive))
		must[*s3.CopyObjectOutput](t)(c.CopyObject(ctx, &s3.CopyObjectInput{Bucket: b, Key: to, CopySource: source, TaggingDirective: d.directive, Tagging: d.given}))
		if got := tags(to, nil); got != d.want {
			t.Errorf("directive %q: %q", d.directive, got)
		}
	}
	up := must[*s3.CreateMultipartUploadOutput](t)(c.CreateMultipartUpload(ctx, &s3.CreateMultipartUploadInput{Bucket: b, Key: aws.String("m"), Tagging: aws.String("m=1")}))
	part := must[*s3.UploadPartOutput](t)(c.UploadPart(ctx, &s3.UploadPartInput{Bucket: b, Key: aws.String("m"), UploadId: up.UploadId, PartNumber: aws.Int32(1), Body: bytes.NewReader([]byte("p"))}))
	must[*s3.CompleteMultipartUploadOutput](t)(c.CompleteMultipartUpload(ctx, &s3.CompleteMultipartUploadInput{Bucket: b, Key: aws.String("m"), UploadId: up.UploadId,
		MultipartUpload: &types.CompletedMultipartUpload{Parts: []types.CompletedPart{{PartNumber: aws.Int32(1), ETag: part.ETag}}}}))
	if got := tags(aws.String("m"), nil); got != "m=1" {
		t.Errorf("multipart: %q", got)
	}
	must[*s3.DeleteObjectTaggingOutput](t)(c.DeleteObjectTagging(ctx, &s3.DeleteObjectTaggingInput{Bucket: b, Key: k, VersionId: put.VersionId}))
	if got := tags(k, put.VersionId); got != "" {
		t.Errorf("deleted: %q", got)
	}
	del := must[*s3.DeleteObjectOutput](t)(c.DeleteObject(ctx, &s3.DeleteObjectInput{Bucket: b, Key: k}))
	_, err := c.DeleteObjectTagging(ctx, &s3.DeleteObjectTaggingInput{Bucket: b, Key: k, VersionId: del.VersionId})
	failed(t, err, 405, "MethodNotAllowed")

	_, err = c.GetBucketTagging(ctx, &s3.GetBucketTaggingInput{Bucket: b})
	failed(t, err, 404, "NoSuchTagSet")
	must[*s3.PutBucketTaggingOutput](t)(c.PutBucketTagging(ctx, &s3.PutBucketTaggingInput{Bucket: b,
		Tagging: &types.Tagging{TagSet: []types.Tag{{Key: aws.String("team"), Value: aws.String("a")}}}}))
	if got := tagText(must[*s3.GetBucketTaggingOutput](t)(c.GetBucketTagging(ctx, &s3.GetBucketTaggingInput{Bucket: b})).TagSet); got != "team=a" {
		t.Errorf("bucket: %q", got)
	}
	must[*s3.DeleteBucketTaggingOutput](t)(c.DeleteBucketTagging(ctx, &s3.DeleteBucketTaggingInput{Bucket: b}))
	_, err = c.GetBucketTagging(ctx, &s3.GetBucketTaggingInput{Bucket: b})
	failed(t, err, 404, "NoSuchTagSet")
}

// TestLearned26TagsOfMarkers: to tags a current delete marker is something that takes none;
// a bucket whose tags were replaced by none has no tag set.
func TestLearned26TagsOfMarkers(t *testing.T) {
	h := open(t)
	h.bucket("marked")
	const some, none = "<Tagging><TagSet><Tag><Key>a</Key><Value>1</Value></Tag></TagSet></Tagging>", "<Tagging><TagSet/></Tagging>"
	all := func(status int, code string) {
		t.Helper()
		for method, body := range map[string]string{"GET": "", "PUT": some, "DELETE": ""} {
			a := h.do(method, "/marked/x?tagging", body)
			h.want(a, status, code)
			if status == 405 && (a.element("Method") != method || a.element("ResourceType") != "DeleteMarker") {
				t.Error(a.body)
			}
		}
	}
	all(404, "NoSuchKey")
	h.want(h.do("PUT", "/marked?versioning", "<VersioningConfiguration><Status>Enabled</Status></VersioningConfiguration>"), 200, "")
	all(404, "NoSuchKey")
	h.want(h.do("DELETE", "/marked/x", ""), 204, "")
	all(405, "MethodNotAllowed")
	h.want(h.do("GET", "/marked/x", ""), 404, "NoSuchKey")

	h.want(h.do("PUT", "/marked?tagging", some), 204, "")
	h.want(h.do("GET", "/marked?tagging", ""), 200, "")
	h.want(h.do("PUT", "/marked?tagging", none), 204, "")
	h.want(h.do("GET", "/marked?tagging", ""), 404, "NoSuchTagSet")
	h.want(h.do("PUT", "/absent?tagging", none), 404, "NoSuchBucket")
}

// TestTagLimits: row 118 of the catalogue of bad input.
func TestTagLimits(t *testing.T) {
	h := open(t)
	h.bucket("tags")
	h.want(h.do("PUT", "/tags/x", "data", "X-Amz-Tagging: keep=1"), 200, "")
	tag := func(key, value string) string {
		return "<Tag><Key>" + key + "</Key><Value>" + value + "</Value></Tag>"
	}
	many := func(n int) (xml, header string) {
		for i := range n {
			xml += tag(fmt.Sprint("k", i), "v")
			header += fmt.Sprint("&k", i, "=v")
		}
		return xml, header[1:]
	}
	x10, h10 := many(10)
	x11, h11 := many(11)
	x50, _ := many(50)
	x51, _ := many(51)
	doc := func(tags string) string { return "<Tagging><TagSet>" + tags + "</TagSet></Tagging>" }
	long := strings.Repeat("ü", 128)
	for body, want := range map[string]string{
		doc(x10): "", doc(x11): "BadRequest", doc(tag(long, long+long)): "", doc(tag(long+"x", "")): "InvalidTag", doc(tag("k", long+long+"x")): "InvalidTag",
		doc(tag("k", "") + tag("k", "1")): "InvalidTag", doc(tag("aws:x", "")): "InvalidTag", doc(tag("AWS:x", "")): "InvalidTag", doc(tag("", "v")): "InvalidTag",
		doc(tag("k", "a;b")): "InvalidTag", doc(tag("k&amp;", "a")): "InvalidTag", doc("<Tag><Key>k</Key></Tag>"): "MalformedXML", "<Tagging/>": "MalformedXML",
		doc("<Tag><Key>k</Key><Value>v</Value><Value>w</Value></Tag>"): "MalformedXML", "<TagSet/>": "MalformedXML", "": "MissingRequestBodyError",
		doc("<Other/>"): "MalformedXML", doc(tag("k", "+-=._:/@ 1")): "",
	} {
		if a := h.do("PUT", "/tags/y?tagging", body); a.code() != "NoSuchKey" && want == "" {
			t.Errorf("%.80s: %q", body, a.code())
		}
		if a := h.do("PUT", "/tags/x?tagging", body); a.code() != want {
			t.Errorf("%.80s: %q, want %q", body, a.code(), want)
		}
	}
	h.want(h.do("PUT", "/tags/x?tagging", doc(tag("keep", "1"))), 200, "")
	for header, want := range map[string]string{h10: "", h11: "BadRequest", "a=1&a=2": "InvalidArgument", "aws:a=1": "InvalidTag", "=v": "InvalidTag",
		"%zz": "InvalidArgument", "a;b=1": "InvalidArgument", "a=" + strings.Repeat("x", 257): "InvalidTag", "a=%00": "InvalidTag"} {
		if a := h.do("PUT", "/tags/h", "", "X-Amz-Tagging: "+header); a.code() != want {
			t.Errorf("header %.60q: %q, want %q", header, a.code(), want)
		}
		if want == "" {
			h.want(h.do("DELETE", "/tags/h", ""), 204, "")
		} else {
			h.want(h.do("GET", "/tags/h", ""), 404, "NoSuchKey")
		}
	}
	if a := h.do("GET", "/tags/x?tagging", ""); !strings.Contains(a.body, "<Key>keep</Key>") {
		t.Errorf("a refused set changed the tags: %s", a.body)
	}
	h.want(h.do("PUT", "/tags/c", "", "X-Amz-Copy-Source: tags/x", "X-Amz-Tagging-Directive: MOVE"), 400, "InvalidArgument")
	h.want(h.do("PUT", "/tags/c", "", "X-Amz-Copy-Source: tags/x", "X-Amz-Tagging: a=1"), 400, "InvalidRequest")
	for body, want := range map[string]string{doc(x50): "", doc(x51): "BadRequest"} {
		if a := h.do("PUT", "/tags?tagging", body); a.code() != want {
			t.Errorf("%d bytes for a bucket: %q, want %q", len(body), a.code(), want)
		}
	}
	h.want(h.do("PUT", "/absent?tagging", doc(x10)), 404, "NoSuchBucket")
}
