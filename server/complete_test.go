//go:build e2e

package server_test

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"regexp"
	"strings"
	"sync"
	"testing"

	"bivalve/s3api"
	"bivalve/server/servertest"
)

// TestCompleteThroughAllNodes: 16 completions of one upload at once, through all nodes
// of both zones, make one version and get one answer; so does a client who asks again
// later, whatever has become of the key.
func TestCompleteThroughAllNodes(t *testing.T) {
	r := servertest.Start(t, servertest.Options{})
	ctx := t.Context()
	nodes := r.Nodes(servertest.ZoneA, servertest.ZoneB)
	do := func(n int, method, path string, body []byte) (answer, version string, err error) {
		resp, err := r.Do(ctx, nodes[n%len(nodes)], method, path, bytes.NewReader(body), http.Header{})
		if err != nil {
			return "", "", err
		}
		raw, err := io.ReadAll(resp.Body)
		resp.Body.Close()
		if err == nil && resp.StatusCode/100 != 2 {
			err = fmt.Errorf("%s %s: %s %s", method, path, resp.Status, raw)
		}
		location := regexp.MustCompile("<Location>.*</Location>") // names the node that was asked
		return location.ReplaceAllString(string(raw), ""), resp.Header.Get("X-Amz-Version-Id"), err
	}
	must := func(n int, method, path string, body []byte) string {
		t.Helper()
		answer, _, err := do(n, method, path, body)
		fatal(t, err)
		return answer
	}
	must(0, "PUT", "/uploads", nil)
	must(0, "PUT", "/uploads?versioning", []byte("<VersioningConfiguration><Status>Enabled</Status></VersioningConfiguration>"))
	data := bytes.Repeat([]byte("0123456789"), 20_000)
	for round := range 5 {
		key := fmt.Sprint("/uploads/k", round)
		id := regexp.MustCompile("<UploadId>(.*)</UploadId>").FindStringSubmatch(must(1, "POST", key+"?uploads", nil))[1]
		must(2, "PUT", key+"?partNumber=1&uploadId="+id, data)
		etag := regexp.MustCompile("<ETag>(.*)</ETag>").FindStringSubmatch(must(3, "GET", key+"?uploadId="+id, nil))[1]
		doc := []byte("<CompleteMultipartUpload><Part><PartNumber>1</PartNumber><ETag>" + etag + "</ETag></Part></CompleteMultipartUpload>")
		var work sync.WaitGroup
		answers, versions, errs := make([]string, 16), make([]string, 16), make([]error, 16)
		for i := range answers {
			work.Go(func() { answers[i], versions[i], errs[i] = do(i, "POST", key+"?uploadId="+id, doc) })
		}
		work.Wait()
		must(1, "PUT", key, []byte("something else"))
		for i, again := range append(answers, must(5, "POST", key+"?uploadId="+id, doc)) {
			if i < 16 {
				fatal(t, errs[i])
			}
			if again != answers[0] || i < 16 && (versions[i] != versions[0] || versions[i] == "") {
				t.Errorf("answer %d: %s, the first: %s", i, again, answers[0])
			}
		}
		list := must(4, "GET", "/uploads?versions&prefix="+strings.TrimPrefix(key, "/uploads/"), nil)
		if n := strings.Count(list, "<Version>"); n != 2 {
			t.Errorf("%d versions of %s", n, key)
		}
		v, err := r.Node(nodes[0]).Stores().Objects.HeadObject(ctx, "uploads", strings.TrimPrefix(key, "/uploads/"), versions[0])
		fatal(t, err)
		rd, err := r.Node(nodes[0]).Stores().Objects.OpenObject(ctx, v, 0, v.Bytes)
		fatal(t, err)
		got, err := io.ReadAll(rd)
		fatal(t, err)
		fatal(t, rd.Close())
		if !bytes.Equal(got, data) {
			t.Errorf("%s: %d bytes that differ", key, len(got))
		}
	}
	page, err := r.Node(nodes[0]).Stores().Uploads.ListUploads(ctx, s3api.UploadQuery{Bucket: "uploads", Limit: 10})
	fatal(t, err)
	if len(page.Uploads) != 0 {
		t.Errorf("%d uploads are left", len(page.Uploads))
	}
}
