//go:build e2e

package e2e

import (
	"bytes"
	"context"
	"crypto/md5"
	"encoding/base64"
	"errors"
	"io"
	"io/fs"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
)

// appendConfig adds lines to the configuration of every node of a stopped region.
func (r *region) appendConfig(t *testing.T, lines string) {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(r.dir, "*", "config.yaml"))
	if err != nil || len(files) == 0 {
		t.Fatalf("%d configurations, %v", len(files), err)
	}
	for _, name := range files {
		f, err := os.OpenFile(name, os.O_APPEND|os.O_WRONLY, 0)
		if err != nil {
			t.Fatal(err)
		}
		_, err = f.WriteString(lines)
		if err = errors.Join(err, f.Close()); err != nil {
			t.Fatal(err)
		}
	}
}

// TestNoSecretsLeft: neither the words of the nodes, at their most talkative, nor their
// metadata, nor their disks hold the secret key, a client's key or a signature; nor does
// what the admin listener tells.
func TestNoSecretsLeft(t *testing.T) {
	r := startDemo(t, options{NodesPerZone: 1, DisksPerNode: 2})
	if err := r.stop(); err != nil {
		t.Fatal(err)
	}
	r.appendConfig(t, "log:\n    level: debug\n")
	if err := r.start(); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	c := r.client(t, r.endpoint(t, "a"))
	key := "canary-key-of-a-client-32-bytes!"
	sum := md5.Sum([]byte(key))
	sealed := s3.PutObjectInput{Bucket: aws.String("canary"), Key: aws.String("k"), SSECustomerAlgorithm: aws.String("AES256"),
		SSECustomerKey: aws.String(base64.StdEncoding.EncodeToString([]byte(key))), SSECustomerKeyMD5: aws.String(base64.StdEncoding.EncodeToString(sum[:]))}
	if _, err := c.CreateBucket(ctx, &s3.CreateBucketInput{Bucket: sealed.Bucket}); err != nil {
		t.Fatal(err)
	}
	for _, size := range []int{10, 300_000} { // in the record, and in shards
		in := sealed
		in.Body = bytes.NewReader(make([]byte, size))
		if _, err := c.PutObject(ctx, &in); err != nil {
			t.Fatal(err)
		}
	}
	signed, err := s3.NewPresignClient(c).PresignGetObject(ctx, &s3.GetObjectInput{Bucket: sealed.Bucket, Key: aws.String("absent")})
	if err != nil {
		t.Fatal(err)
	}
	address, err := url.Parse(signed.URL)
	if err != nil {
		t.Fatal(err)
	}
	signature := address.Query().Get("X-Amz-Signature")
	for _, u := range []string{signed.URL, strings.Replace(signed.URL, "absent", "other", 1)} { // 404 and 403
		resp, err := http.Get(u)
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(resp.Body)
		if err = errors.Join(err, resp.Body.Close()); err != nil || resp.StatusCode < 400 {
			t.Fatalf("status %d, %v", resp.StatusCode, err)
		}
		if strings.Contains(string(body), signature) {
			t.Errorf("the answer repeats the signature: %s", body)
		}
	}
	info := r.info(t)
	canaries := map[string]string{"the secret key": info.SecretKey, "the client's key": key,
		"the client's key in base64": *sealed.SSECustomerKey, "a signature": signature}
	for _, path := range []string{"/metrics", "/v1/status", "/readyz"} {
		resp, err := http.Get(info.Nodes[0].Admin + path)
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(resp.Body)
		if err = errors.Join(err, resp.Body.Close()); err != nil || len(body) == 0 {
			t.Fatalf("%s: %d bytes, %v", path, len(body), err)
		}
		for what, canary := range canaries {
			if bytes.Contains(body, []byte(canary)) {
				t.Errorf("%s tells %s", path, what)
			}
		}
	}
	if err := r.stop(); err != nil {
		t.Fatal(err)
	}
	files := 0
	err = filepath.WalkDir(r.dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || d.Name() == "secrets.yaml" || d.Name() == "demo.json" { // where the secret key belongs
			return err
		}
		body, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		files++
		for what, canary := range canaries {
			if bytes.Contains(body, []byte(canary)) {
				t.Errorf("%s holds %s", path, what)
			}
		}
		return nil
	})
	if err != nil || files < 20 {
		t.Errorf("%d files, %v", files, err)
	}
}
