package s3api_test

import (
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"

	"bivalve/s3api"
)

// A storage class is shown wherever S3 shows it, and a copy may change it.
func TestStorageClasses(t *testing.T) {
	h := open(t)
	h.bucket("classes")
	c := h.sdk()
	for _, class := range []types.StorageClass{types.StorageClassReducedRedundancy, types.StorageClassOnezoneIa, types.StorageClassStandard} {
		key := string(class)
		must[*s3.PutObjectOutput](t)(c.PutObject(ctx, &s3.PutObjectInput{Bucket: aws.String("classes"), Key: &key, Body: strings.NewReader("data"), StorageClass: class}))
		shown := class
		if class == types.StorageClassStandard {
			shown = "" // S3 does not send the header for it
		}
		if got := must[*s3.HeadObjectOutput](t)(c.HeadObject(ctx, &s3.HeadObjectInput{Bucket: aws.String("classes"), Key: &key})).StorageClass; got != shown {
			t.Errorf("HEAD of %s says %q", key, got)
		}
		got := must[*s3.GetObjectOutput](t)(c.GetObject(ctx, &s3.GetObjectInput{Bucket: aws.String("classes"), Key: &key}))
		got.Body.Close()
		if got.StorageClass != shown {
			t.Errorf("GET of %s says %q", key, got.StorageClass)
		}
		a := must[*s3.GetObjectAttributesOutput](t)(c.GetObjectAttributes(ctx, &s3.GetObjectAttributesInput{Bucket: aws.String("classes"), Key: &key,
			ObjectAttributes: []types.ObjectAttributes{types.ObjectAttributesStorageClass}}))
		if a.StorageClass != class {
			t.Errorf("the attributes of %s say %q", key, a.StorageClass)
		}
		u := must[*s3.CreateMultipartUploadOutput](t)(c.CreateMultipartUpload(ctx, &s3.CreateMultipartUploadInput{Bucket: aws.String("classes"), Key: &key, StorageClass: class}))
		parts := must[*s3.ListPartsOutput](t)(c.ListParts(ctx, &s3.ListPartsInput{Bucket: aws.String("classes"), Key: &key, UploadId: u.UploadId}))
		if parts.StorageClass != class {
			t.Errorf("the parts of %s are listed as %q", key, parts.StorageClass)
		}
	}
	for _, o := range must[*s3.ListObjectsV2Output](t)(c.ListObjectsV2(ctx, &s3.ListObjectsV2Input{Bucket: aws.String("classes")})).Contents {
		if string(o.StorageClass) != *o.Key {
			t.Errorf("%s is listed as %q", *o.Key, o.StorageClass)
		}
	}
	// A copy has the class that it asks for, not that of its source; a new class is
	// reason enough to copy an object onto itself.
	h.want(h.do("PUT", "/classes/copy", "", "X-Amz-Copy-Source: classes/ONEZONE_IA"), 200, "")
	if a := h.do("HEAD", "/classes/copy", ""); a.Header.Get("X-Amz-Storage-Class") != "" {
		t.Error(a.Header)
	}
	h.want(h.do("PUT", "/classes/copy", "", "X-Amz-Copy-Source: classes/copy", "X-Amz-Storage-Class: REDUCED_REDUNDANCY"), 200, "")
	if a := h.do("HEAD", "/classes/copy", ""); a.Header.Get("X-Amz-Storage-Class") != "REDUCED_REDUNDANCY" {
		t.Error(a.Header)
	}
	// So is the same class, if it is named; none is not, though it would mean another one.
	h.want(h.do("PUT", "/classes/copy", "", "X-Amz-Copy-Source: classes/copy", "X-Amz-Storage-Class: REDUCED_REDUNDANCY"), 200, "")
	h.want(h.do("PUT", "/classes/copy", "", "X-Amz-Copy-Source: classes/copy"), 400, "InvalidRequest")
	h.want(h.do("PUT", "/classes/STANDARD", "", "X-Amz-Copy-Source: classes/STANDARD", "X-Amz-Storage-Class: STANDARD"), 200, "")
	h.memory.Hook = func(op, _, _ string) error {
		if op == "PutObject" {
			return s3api.ErrInvalidStorageClass
		}
		return nil
	}
	h.want(h.do("PUT", "/classes/x", "data", "X-Amz-Storage-Class: ONEZONE_IA"), 400, "InvalidStorageClass")
}
