//go:build e2e

package e2e

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/s3"
)

// aws calls the AWS CLI on an endpoint.
func (r *region) aws(t testing.TB, cli, endpoint string, args ...string) string {
	t.Helper()
	out, err := r.command(t, cli, append([]string{"--endpoint-url", endpoint}, args...)...)
	if err != nil {
		t.Fatalf("aws %s: %v", strings.Join(args, " "), err)
	}
	return out
}

// TestAWSCLI does what people do first, with every aws on PATH: Debian's and a
// newer one behave differently (the newer adds checksums of its own).
func TestAWSCLI(t *testing.T) {
	for i, cli := range programs(t, "aws") {
		r := sharedRegion(t)
		version := strings.Fields(r.aws(t, cli, r.endpoint(t, "a"), "--version"))[0]
		t.Run(strings.ReplaceAll(version, "/", "-"), func(t *testing.T) {
			bucket := fmt.Sprintf("cli-%d", i)
			r.aws(t, cli, r.endpoint(t, "a"), "s3", "mb", "s3://"+bucket)
			t.Run("BigFile", func(t *testing.T) { testBigFile(t, r, cli, bucket, i) })
			t.Run("Sync", func(t *testing.T) { testSync(t, r, cli, bucket, i) })
			t.Run("Verbs", func(t *testing.T) { testVerbs(t, r, cli, bucket) })
			r.aws(t, cli, r.endpoint(t, "b"), "s3", "rb", "s3://"+bucket)
		})
	}
}

// testBigFile: the first CLI moves 1 GiB, further ones less.
func testBigFile(t *testing.T, r *region, cli, bucket string, i int) {
	size := sized(1<<30, 100<<20)
	if i > 0 {
		size = 100 << 20
	}
	dir := t.TempDir()
	want := noiseFile(t, filepath.Join(dir, "up"), uint64(i), size)
	begun := time.Now()
	r.aws(t, cli, r.endpoint(t, "a"), "s3", "cp", "--only-show-errors", filepath.Join(dir, "up"), "s3://"+bucket+"/big")
	up := time.Since(begun)
	begun = time.Now()
	r.aws(t, cli, r.endpoint(t, "b"), "s3", "cp", "--only-show-errors", "s3://"+bucket+"/big", filepath.Join(dir, "down"))
	down := time.Since(begun)
	if got := sumFile(t, filepath.Join(dir, "down")); got != want {
		t.Fatalf("%s went up, %s came down", want, got)
	}
	t.Logf("%s up through zone a in %.1f s, down through zone b in %.1f s, byte-equal", mib(size), up.Seconds(), down.Seconds())
	// A copy has the parts of its source by reference, whatever checksums this CLI sent.
	before := r.appended(t)
	r.aws(t, cli, r.endpoint(t, "b"), "s3", "cp", "--only-show-errors", "s3://"+bucket+"/big", "s3://"+bucket+"/copy")
	if n := r.appended(t) - before; n > float64(size)/10 {
		t.Errorf("a copy of %s wrote %s of shards", mib(size), mib(int64(n)))
	}
	r.aws(t, cli, r.endpoint(t, "a"), "s3", "rm", "--only-show-errors", "s3://"+bucket+"/big")
	r.aws(t, cli, r.endpoint(t, "a"), "s3", "cp", "--only-show-errors", "s3://"+bucket+"/copy", filepath.Join(dir, "down"))
	if got := sumFile(t, filepath.Join(dir, "down")); got != want {
		t.Fatalf("%s went up, its copy is %s", want, got)
	}
	r.aws(t, cli, r.endpoint(t, "a"), "s3", "rm", "--only-show-errors", "s3://"+bucket+"/copy")
}

// appended is how many bytes of large shards all disks have written.
func (r *region) appended(t testing.TB) (sum float64) {
	t.Helper()
	for _, n := range r.info(t).Nodes {
		for line := range strings.Lines(metrics(t, n)) {
			if strings.HasPrefix(line, "bivalve_disk_appended_bytes_total{") && strings.Contains(line, `segment="large"`) {
				_, value, _ := strings.Cut(line, "} ")
				bytes, err := strconv.ParseFloat(strings.TrimSpace(value), 64)
				if err != nil {
					t.Fatalf("%s: %v", line, err)
				}
				sum += bytes
			}
		}
	}
	return sum
}

// testSync: the first CLI moves the whole tree, further ones a part.
func testSync(t *testing.T, r *region, cli, bucket string, i int) {
	root, down := goSource(t), t.TempDir()
	if i > 0 && !testing.Short() {
		root = filepath.Join(root, "crypto")
	}
	begun := time.Now()
	r.aws(t, cli, r.endpoint(t, "a"), "s3", "sync", "--only-show-errors", root, "s3://"+bucket+"/src")
	up := time.Since(begun)
	begun = time.Now()
	r.aws(t, cli, r.endpoint(t, "b"), "s3", "sync", "--only-show-errors", "s3://"+bucket+"/src", down)
	want := sumTree(t, root)
	sameSums(t, want, sumTree(t, down))
	t.Logf("%d files up through zone a in %.1f s, down through zone b in %.1f s, byte-equal",
		len(want), up.Seconds(), time.Since(begun).Seconds())
	// Nothing is left to do: what LIST says of size and time is believed.
	if out := r.aws(t, cli, r.endpoint(t, "b"), "s3", "sync", root, "s3://"+bucket+"/src"); strings.TrimSpace(out) != "" {
		t.Errorf("a second sync had work to do:\n%s", tail(out, 500))
	}
	listed := strings.Count(r.aws(t, cli, r.endpoint(t, "a"), "s3", "ls", "--recursive", "s3://"+bucket+"/src/"), "\n")
	if listed != len(want) {
		t.Errorf("ls lists %d of %d files", listed, len(want))
	}
	r.aws(t, cli, r.endpoint(t, "a"), "s3", "rm", "--recursive", "--only-show-errors", "s3://"+bucket+"/src")
	if out, err := r.command(t, cli, "--endpoint-url", r.endpoint(t, "b"), "s3", "ls", "--recursive", "s3://"+bucket); err != nil || out != "" {
		t.Errorf("after rm --recursive: %q, %v", tail(out, 500), err)
	}
}

// TestExpectContinue: a client that asks whether it may send is told so even if it
// has nothing to send. Clients built on botocore misread the answer after the
// next otherwise, and wait for a minute.
func TestExpectContinue(t *testing.T) {
	r := sharedRegion(t)
	bucket := "expect"
	r.makeBucket(t, bucket)
	for _, size := range []int{0, 5} {
		url, err := s3.NewPresignClient(r.client(t, r.endpoint(t, "a"))).PresignPutObject(t.Context(), &s3.PutObjectInput{Bucket: &bucket, Key: ptr("key")})
		if err != nil {
			t.Fatal(err)
		}
		req, err := http.NewRequest(url.Method, url.URL, nil)
		if err != nil {
			t.Fatal(err)
		}
		conn, err := net.DialTimeout("tcp", req.URL.Host, 10*time.Second)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		if err := conn.SetDeadline(time.Now().Add(20 * time.Second)); err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(conn, "PUT %s HTTP/1.1\r\nHost: %s\r\nContent-Length: %d\r\nExpect: 100-continue\r\n\r\n", req.URL.RequestURI(), req.URL.Host, size)
		in := bufio.NewReader(conn)
		line, err := in.ReadString('\n')
		if err != nil || !strings.HasPrefix(line, "HTTP/1.1 100 ") {
			t.Errorf("a PUT of %d bytes that expects 100 is answered %q, %v", size, line, err)
			continue
		}
		if _, err := conn.Write(noiseBytes(1, size)); err != nil {
			t.Fatal(err)
		}
		for err == nil && line != "\r\n" { // the end of the 100
			line, err = in.ReadString('\n')
		}
		if line, err := in.ReadString('\n'); err != nil || !strings.HasPrefix(line, "HTTP/1.1 200 ") {
			t.Errorf("a PUT of %d bytes is answered %q, %v", size, line, err)
		}
	}
}

func testVerbs(t *testing.T, r *region, cli, bucket string) {
	a, b := r.endpoint(t, "a"), r.endpoint(t, "b")
	path := filepath.Join(t.TempDir(), "f")
	if err := os.WriteFile(path, []byte("a few words"), 0o600); err != nil {
		t.Fatal(err)
	}
	key := "dir/with space & plus+é.txt"
	r.aws(t, cli, a, "s3", "cp", "--only-show-errors", "--content-type", "text/x-words", path, "s3://"+bucket+"/"+key)
	if out := r.aws(t, cli, b, "s3", "ls", "s3://"+bucket+"/"); !strings.Contains(out, "PRE dir/") {
		t.Errorf("ls of the bucket: %q", out)
	}
	if out := r.aws(t, cli, b, "s3", "ls", "s3://"+bucket+"/dir/"); !strings.Contains(out, " 11 with space & plus+é.txt") {
		t.Errorf("ls of the folder: %q", out)
	}
	if out := r.aws(t, cli, b, "s3", "cp", "s3://"+bucket+"/"+key, "-"); out != "a few words" {
		t.Errorf("cp to standard output: %q", out)
	}
	if out := r.aws(t, cli, b, "s3api", "head-object", "--bucket", bucket, "--key", key); !strings.Contains(out, "text/x-words") {
		t.Errorf("head-object: %s", out)
	}
	r.aws(t, cli, b, "s3", "mv", "--only-show-errors", "s3://"+bucket+"/"+key, "s3://"+bucket+"/moved")

	testChecksums(t, r, cli, bucket)

	// A presigned URL works for whoever holds it, and for nothing else.
	url := r.presign(t, cli, a, "s3://"+bucket+"/moved")
	if code, body := get(t, url); code != http.StatusOK || body != "a few words" {
		t.Errorf("GET of a presigned URL: %d %s", code, body)
	}
	if code, _ := get(t, strings.Replace(url, "/moved", "/else", 1)); code != http.StatusForbidden {
		t.Errorf("GET of another key with that signature: %d", code)
	}
	if code, _ := get(t, a+"/"+bucket+"/moved"); code != http.StatusForbidden {
		t.Errorf("GET without a signature: %d", code)
	}
	r.aws(t, cli, a, "s3", "rm", "--only-show-errors", "s3://"+bucket+"/moved")
}

// testChecksums: a checksum that the CLI sends is checked on the way in, kept, and
// checked on the way out; what does not fit is refused. Every call of the CLI costs a
// second, so there are few.
func testChecksums(t *testing.T, r *region, cli, bucket string) {
	a, b := r.endpoint(t, "a"), r.endpoint(t, "b")
	dir := t.TempDir()
	up, down := filepath.Join(dir, "up"), filepath.Join(dir, "down")
	want := noiseFile(t, up, 5, 9<<20)
	at := func(key string) []string { return []string{"--bucket", bucket, "--key", key} }
	put := append([]string{"s3api", "put-object", "--body", up}, at("sum")...)
	for _, algorithm := range []string{"CRC32", "SHA256"} {
		if out := r.aws(t, cli, a, append(put, "--checksum-algorithm", algorithm)...); !strings.Contains(out, "Checksum"+algorithm) {
			t.Errorf("put-object with %s: %s", algorithm, out)
		}
		out := r.aws(t, cli, b, append(append([]string{"s3api", "get-object", "--checksum-mode", "ENABLED"}, at("sum")...), down)...)
		if got := sumFile(t, down); got != want || !strings.Contains(out, "Checksum"+algorithm) {
			t.Errorf("get-object with %s: %s", algorithm, out)
		}
	}
	const ofNothing = "47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU="
	_, err := r.command(t, cli, append([]string{"--endpoint-url", a}, append(put, "--checksum-sha256", ofNothing)...)...)
	if err == nil || !strings.Contains(err.Error(), "BadDigest") {
		t.Errorf("put-object with the checksum of nothing: %v", err)
	}
	// In parts; a CLI that does not know the option yet says so.
	_, err = r.command(t, cli, "--endpoint-url", a, "s3", "cp", "--only-show-errors", "--checksum-algorithm", "SHA256", up, "s3://"+bucket+"/sum")
	if err == nil {
		r.aws(t, cli, b, "s3", "cp", "--only-show-errors", "--checksum-mode", "ENABLED", "s3://"+bucket+"/sum", down)
		if got := sumFile(t, down); got != want {
			t.Error("cp with a checksum: other bytes came back")
		}
	} else if !strings.Contains(err.Error(), "Unknown options") {
		t.Errorf("cp with a checksum: %v", err)
	}
	r.aws(t, cli, a, "s3", "rm", "--only-show-errors", "s3://"+bucket+"/sum")
}

// presign makes a URL. Version 1 of the CLI signs those of AWS's own regions by
// SigV2 unless told otherwise, and Bivalve speaks SigV4 only.
func (r *region) presign(t testing.TB, cli, endpoint, object string) string {
	t.Helper()
	config := filepath.Join(t.TempDir(), "config")
	if err := os.WriteFile(config, []byte("[default]\ns3 =\n  signature_version = s3v4\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	url, err := r.commandEnv(t, []string{"AWS_CONFIG_FILE=" + config}, cli,
		"--endpoint-url", endpoint, "s3", "presign", object, "--expires-in", "60")
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(url)
}

// get is what curl does.
func get(t testing.TB, url string) (int, string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(body)
}
