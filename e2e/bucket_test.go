//go:build e2e

package e2e

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"bivalve/server"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
)

// TestBucketCommands: an operator reads what a bucket holds and limits it; a client
// meets the limit, and a large copy that fits is there at once.
func TestBucketCommands(t *testing.T) {
	r := sharedRegion(t)
	r.allUp(t)
	bucket := "operators-bucket"
	r.makeBucket(t, bucket)
	c := r.client(t, r.endpoint(t, "a"))
	put := func(key string, size int) error {
		_, err := c.PutObject(t.Context(), &s3.PutObjectInput{Bucket: &bucket, Key: &key, Body: bytes.NewReader(make([]byte, size))})
		return err
	}
	if err := put("k", 9<<20); err != nil {
		t.Fatal(err)
	}
	if _, err := c.CopyObject(t.Context(), &s3.CopyObjectInput{Bucket: &bucket, Key: aws.String("copy"), CopySource: aws.String(bucket + "/k")}); err != nil {
		t.Fatal(err)
	}
	out := r.bivalve(t, "admin", "bucket", "quota", bucket, "--bytes", "20MiB", "--dir", r.dir)
	if !strings.Contains(out, "18 MiB") || !strings.Contains(out, "20 MiB") {
		t.Errorf("quota: %s", out)
	}
	eventually(t, 30*time.Second, "the quota is met", func() error {
		err := put("more", 3<<20)
		if code, name := statusOf(err); code != http.StatusForbidden || name != "QuotaExceeded" {
			return fmt.Errorf("put: %v", err)
		}
		return nil
	})
	var list []server.BucketReport
	if err := json.Unmarshal([]byte(r.bivalve(t, "admin", "bucket", "list", "--json", "--dir", r.dir)), &list); err != nil {
		t.Fatal(err)
	}
	found := false
	for _, b := range list {
		if b.Name == bucket {
			found = b.MaxBytes == 20<<20
		}
	}
	if !found {
		t.Errorf("list: %+v", list)
	}
	r.bivalve(t, "admin", "bucket", "quota", bucket, "--none", "--dir", r.dir)
	var b server.BucketReport
	if err := json.Unmarshal([]byte(r.bivalve(t, "admin", "bucket", "usage", bucket, "--json", "--dir", r.dir)), &b); err != nil || b.MaxBytes != 0 || b.Bytes < 18<<20 {
		t.Errorf("usage: %+v, %v", b, err)
	}
}
