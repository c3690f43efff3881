//go:build e2e

package server_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"mime/multipart"
	"net/http"
	"regexp"
	"strings"
	"testing"
	"time"

	"bivalve/cluster"
	"bivalve/metadata"
	"bivalve/s3api/s3test"
	"bivalve/server/admin"
	"bivalve/server/servertest"
)

// TestQuota: an operator limits a bucket through one node, clients of all nodes meet the
// limit in every way to make an object, and what is counted is what is there.
func TestQuota(t *testing.T) {
	r := servertest.Start(t, servertest.Options{Partitions: 4})
	ctx := t.Context()
	do := func(via, method, path string, body []byte, want string, header ...string) (answer string) {
		t.Helper()
		h := http.Header{}
		for i := 0; i < len(header); i += 2 {
			h.Set(header[i], header[i+1])
		}
		resp, err := r.Do(ctx, cluster.NodeID(via), method, path, bytes.NewReader(body), h)
		fatal(t, err)
		raw, err := io.ReadAll(resp.Body)
		fatal(t, errors.Join(err, resp.Body.Close()))
		switch {
		case want == "" && resp.StatusCode/100 != 2:
			t.Errorf("%s %s through %s: %s %s", method, path, via, resp.Status, raw)
		case want != "" && (resp.StatusCode != http.StatusForbidden || !strings.Contains(string(raw), "<Code>"+want+"</Code>")):
			t.Errorf("%s %s through %s: %s %s, want %s", method, path, via, resp.Status, raw, want)
		}
		return string(raw)
	}
	const full = "QuotaExceeded"
	do("a1", "PUT", "/limited", nil, "")
	_, err := r.Node("b1").SetQuota(ctx, "nowhere", metadata.Quota{Bytes: 1})
	if !errors.Is(err, admin.ErrRefused) {
		t.Errorf("a quota of no bucket: %v", err)
	}
	_, err = r.Node("b1").SetQuota(ctx, "limited", metadata.Quota{Bytes: 200_000, Objects: 5})
	fatal(t, err)
	r.Until("every node knows the quota", func(ctx context.Context) error {
		for _, id := range r.Nodes() {
			if b, err := r.Node(id).LocalBucket(ctx, "limited"); err != nil || len(b.Settings[metadata.FieldQuota]) == 0 {
				return fmt.Errorf("%s does not: %v", id, err)
			}
		}
		return nil
	})
	data := bytes.Repeat([]byte("x"), 50_000)
	for i := range 3 {
		do("a1", "PUT", fmt.Sprint("/limited/k", i), data, "")
	}
	do("a1", "PUT", "/limited/copy", nil, "", "X-Amz-Copy-Source", "limited/k0")
	do("a1", "PUT", "/limited/more", data[:1], full)
	do("b2", "PUT", "/limited/more", data[:1], full) // it has not looked before
	do("a1", "PUT", "/limited/copy2", nil, full, "X-Amz-Copy-Source", "limited/k0")
	do("a1", "PUT", "/limited/k1", data, "") // in its own place
	id := regexp.MustCompile("<UploadId>(.*)</UploadId>").FindStringSubmatch(do("a2", "POST", "/limited/parts?uploads", nil, ""))[1]
	do("a2", "PUT", "/limited/parts?partNumber=1&uploadId="+id, data, "")
	etag := regexp.MustCompile("<ETag>(.*)</ETag>").FindStringSubmatch(do("a2", "GET", "/limited/parts?uploadId="+id, nil, ""))[1]
	complete := []byte("<CompleteMultipartUpload><Part><PartNumber>1</PartNumber><ETag>" + etag + "</ETag></Part></CompleteMultipartUpload>")
	if b, err := r.Node("a3").Bucket(ctx, "limited"); err != nil || b.Objects != 4 || b.Bytes != 200_000 || b.Uploads != 1 || b.UploadBytes != 50_000 || b.MaxBytes != 200_000 {
		t.Errorf("%+v, %v", b, err)
	}
	do("a2", "POST", "/limited/parts?uploadId="+id, complete, full)
	do("b3", "DELETE", "/limited/k0", nil, "")
	do("a2", "POST", "/limited/parts?uploadId="+id, complete, "")
	do("a2", "POST", "/limited/parts?uploadId="+id, complete, "") // a repeat is answered as before, though the bucket is full
	list, err := r.Node("b1").Buckets(ctx, "")
	fatal(t, err)
	if len(list.Buckets) != 1 || list.Buckets[0].Versions != 4 || list.Buckets[0].Bytes != 200_000 || list.Buckets[0].Uploads != 0 || list.Buckets[0].MaxObjects != 5 {
		t.Errorf("%+v", list)
	}
	form := func(key string, file []byte, want string) {
		t.Helper()
		policy := fmt.Sprintf(`{"expiration": %q, "conditions": [{"bucket": "limited"}, {"key": %q}, ["starts-with", "$x-amz-credential", ""],
			["starts-with", "$x-amz-date", ""], {"x-amz-algorithm": "AWS4-HMAC-SHA256"}]}`, time.Now().Add(time.Minute).UTC().Format("2006-01-02T15:04:05.000Z"), key)
		fields := s3test.Signer{AccessKey: r.Secrets.AccessKey, SecretKey: r.Secrets.SecretKey, Region: r.Name, Time: time.Now()}.SignPolicy(policy)
		var body bytes.Buffer
		w := multipart.NewWriter(&body)
		fatal(t, w.WriteField("key", key))
		for name, value := range fields {
			fatal(t, w.WriteField(name, value))
		}
		f, err := w.CreateFormFile("file", key)
		fatal(t, err)
		_, err = f.Write(file)
		fatal(t, errors.Join(err, w.Close()))
		req, err := http.NewRequestWithContext(ctx, "POST", "http://"+r.Member("a3").S3+"/limited", &body)
		fatal(t, err)
		req.Header.Set("Content-Type", w.FormDataContentType())
		resp, err := http.DefaultClient.Do(req)
		fatal(t, err)
		raw, err := io.ReadAll(resp.Body)
		fatal(t, errors.Join(err, resp.Body.Close()))
		if ok := resp.StatusCode == http.StatusNoContent; ok != (want == "") || !ok && !strings.Contains(string(raw), "<Code>"+want+"</Code>") {
			t.Errorf("a form of %d bytes: %s %s, want %q", len(file), resp.Status, raw, want)
		}
	}
	form("form", data[:1], full)
	form("k1", data, "")                        // in its own place
	form("form", bytes.Repeat(data, 200), full) // 10 MB come in parts
	do("a3", "DELETE", "/limited/k2", nil, "")
	form("form", data, "")
	if b, err := r.Node("a3").Bucket(ctx, "limited"); err != nil || b.Versions != 4 || b.Bytes != 200_000 || b.Uploads != 0 || b.UploadBytes != 0 {
		t.Errorf("after the forms %+v, %v", b, err)
	}
	do("a1", "PUT", "/other", nil, "")
	do("a1", "PUT", "/other/k", data, "")
	do("a1", "POST", "/other/k?uploads", nil, "")
	r.Until("the metrics of all nodes add up to that", func(ctx context.Context) error {
		list, err := r.Node("b1").Buckets(ctx, "")
		if err != nil {
			return err
		}
		for _, b := range list.Buckets {
			for name, want := range map[string]int64{"objects": b.Objects, "versions": b.Versions, "bytes": b.Bytes, "incomplete_upload_bytes": b.UploadBytes} {
				sum := 0.0
				for _, id := range r.Nodes() {
					sum += r.Node(id).Gauge("bivalve_bucket_"+name, b.Name)
				}
				if sum != float64(want) {
					return fmt.Errorf("%s of %s: %.0f, not %d", name, b.Name, sum, want)
				}
			}
		}
		return nil
	})
	_, err = r.Node("a1").SetQuota(ctx, "limited", metadata.Quota{})
	fatal(t, err)
	do("a1", "PUT", "/limited/more", data, "")
}
