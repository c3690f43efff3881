//go:build e2e

package server_test

import (
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"

	"bivalve/s3api"
	"bivalve/s3api/s3test"
	"bivalve/server/servertest"
)

// BenchmarkCopies copies objects by requests to a region: by reference, and with a
// checksum that the source does not have, for which the bytes are read and written. The
// one is told against the other.
func BenchmarkCopies(b *testing.B) {
	r := servertest.Start(b, servertest.Options{}) // k=2, m=1
	bucketOfLoad(b, r)
	for _, size := range []int{1 << 20, 16 << 20, 256 << 20} {
		src := fmt.Sprint("src", size)
		_, err := r.Node("a1").Stores().Objects.PutObject(b.Context(), s3api.PutRequest{Bucket: "load", Key: src, Bytes: int64(size), Body: s3test.NewBody(content(size, src))})
		fatal(b, err)
		var shared float64
		for _, way := range []struct {
			name   string
			header http.Header
		}{{"reference", http.Header{}}, {"streamed", http.Header{"X-Amz-Checksum-Algorithm": {"CRC32C"}}}} {
			way.header.Set("X-Amz-Copy-Source", "load/"+src)
			b.Run(fmt.Sprintf("%dMiB/%s", size>>20, way.name), func(b *testing.B) {
				for b.Loop() {
					resp, err := r.Do(b.Context(), "a1", "PUT", "/load/copy", nil, way.header)
					fatal(b, err)
					body, err := io.ReadAll(resp.Body)
					fatal(b, err)
					fatal(b, resp.Body.Close())
					if resp.StatusCode != http.StatusOK || !strings.Contains(string(body), "<CopyObjectResult") {
						b.Fatalf("%s: %s", resp.Status, body)
					}
				}
				each := b.Elapsed().Seconds() / float64(b.N)
				b.ReportMetric(each*1000, "ms/copy")
				if way.name == "reference" {
					shared = each
				}
				b.ReportMetric(each/shared, "x-reference")
			})
		}
	}
}
