//go:build e2e

package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/service/s3"
)

// smallTree is some files of all kinds in a folder, and their sums.
func smallTree(t *testing.T) (dir string, sums map[string]string) {
	t.Helper()
	dir = t.TempDir()
	for i, name := range []string{"empty", "words.txt", "a/b/c/deep", "with space & plus+é", "big"} {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		noiseFile(t, path, uint64(i), []int64{0, 100, 20_000, 300_000, 17 << 20}[i])
	}
	for i := range 40 {
		noiseFile(t, filepath.Join(dir, fmt.Sprintf("many-%02d", i)), uint64(i), 5000)
	}
	return dir, sumTree(t, dir)
}

// TestRestic backs up a folder, changes it, backs it up again through the other
// zone, checks every byte in the repository, and restores both.
func TestRestic(t *testing.T) {
	restic := program(t, "restic")
	r := sharedRegion(t)
	dir, first := smallTree(t)
	run := func(zone string, args ...string) string {
		t.Helper()
		out, err := r.commandEnv(t, []string{"RESTIC_PASSWORD=p", "RESTIC_REPOSITORY=s3:" + r.endpoint(t, zone) + "/restic", "RESTIC_CACHE_DIR=" + t.TempDir()},
			restic, append([]string{"-o", "s3.bucket-lookup=path", "--quiet"}, args...)...)
		if err != nil {
			t.Fatalf("restic %s: %v", strings.Join(args, " "), err)
		}
		return out
	}
	run("a", "init") // makes the bucket too
	run("a", "backup", dir)
	noiseFile(t, filepath.Join(dir, "big"), 77, 9<<20)
	if err := os.Remove(filepath.Join(dir, "empty")); err != nil {
		t.Fatal(err)
	}
	second := sumTree(t, dir)
	run("b", "backup", dir)
	run("b", "check", "--read-data")
	target := t.TempDir()
	run("b", "restore", "latest", "--target", target)
	sameSums(t, second, sumTree(t, filepath.Join(target, dir)))
	run("a", "forget", "--keep-last", "1", "--prune")
	run("a", "check", "--read-data")
	target = t.TempDir()
	run("a", "restore", "latest", "--target", target)
	sameSums(t, second, sumTree(t, filepath.Join(target, dir)))
	if len(first) != len(second)+1 {
		t.Errorf("%d files, then %d", len(first), len(second))
	}
	r.emptyBucket(t, "restic")
}

// TestRclone syncs a folder up and down, has rclone compare it by its sums, and moves
// it within the region.
func TestRclone(t *testing.T) {
	rclone := program(t, "rclone")
	r := sharedRegion(t)
	r.makeBucket(t, "rclone")
	dir, want := smallTree(t)
	run := func(zone string, args ...string) string {
		t.Helper()
		out, err := r.commandEnv(t, []string{"RCLONE_CONFIG=/dev/null", "RCLONE_CONFIG_R_TYPE=s3", "RCLONE_CONFIG_R_PROVIDER=Other", "RCLONE_CONFIG_R_ENV_AUTH=true",
			"RCLONE_CONFIG_R_ENDPOINT=" + r.endpoint(t, zone), "RCLONE_CONFIG_R_CHUNK_SIZE=5Mi", "RCLONE_CONFIG_R_UPLOAD_CUTOFF=6Mi"},
			rclone, append(args, "--retries", "1", "--low-level-retries", "1")...)
		if err != nil {
			t.Fatalf("rclone %s: %v", strings.Join(args, " "), err)
		}
		return out
	}
	run("a", "sync", dir, "r:rclone/tree")
	run("b", "check", dir, "r:rclone/tree")
	run("b", "check", "--download", dir, "r:rclone/tree")
	if n := strings.Count(run("b", "lsf", "-R", "--files-only", "r:rclone/tree"), "\n"); n != len(want) {
		t.Errorf("%d files are listed of %d", n, len(want))
	}
	run("a", "move", "r:rclone/tree", "r:rclone/moved") // copies on the server's side
	back := t.TempDir()
	run("b", "sync", "r:rclone/moved", back)
	sameSums(t, want, sumTree(t, back))
	run("a", "purge", "r:rclone/moved")
	if out := run("b", "lsf", "-R", "r:rclone"); out != "" {
		t.Errorf("after purge: %q", out)
	}
	r.emptyBucket(t, "rclone")
}

// TestS3cmd puts, lists, gets, copies and signs with s3cmd.
func TestS3cmd(t *testing.T) {
	s3cmd := program(t, "s3cmd")
	r := sharedRegion(t)
	dir, want := smallTree(t)
	info := r.info(t)
	run := func(zone string, args ...string) string {
		t.Helper()
		host := strings.TrimPrefix(r.endpoint(t, zone), "http://")
		out, err := r.command(t, s3cmd, append([]string{"--config=/dev/null", "--no-ssl", "--host=" + host, "--host-bucket=" + host, "--region=" + info.Region,
			"--access_key=" + info.AccessKey, "--secret_key=" + info.SecretKey, "--multipart-chunk-size-mb=5", "--no-progress"}, args...)...)
		if err != nil {
			t.Fatalf("s3cmd %s: %v", strings.Join(args, " "), err)
		}
		return out
	}
	run("a", "mb", "s3://s3cmd")
	run("a", "sync", dir+"/", "s3://s3cmd/tree/")
	if n := strings.Count(run("b", "ls", "--recursive", "s3://s3cmd/tree/"), "\n"); n != len(want) {
		t.Errorf("%d files are listed of %d", n, len(want))
	}
	run("b", "cp", "s3://s3cmd/tree/big", "s3://s3cmd/tree/copy")
	run("b", "del", "s3://s3cmd/tree/copy")
	back := t.TempDir()
	run("b", "sync", "s3://s3cmd/tree/", back+"/")
	sameSums(t, want, sumTree(t, back))
	run("a", "del", "--recursive", "--force", "s3://s3cmd/tree/")
	run("a", "rb", "s3://s3cmd")
}

// emptyBucket removes a bucket with all that is in it.
func (r *region) emptyBucket(t *testing.T, bucket string) {
	t.Helper()
	c := r.client(t, r.endpoint(t, "a"))
	for key := range listAll(t, c, bucket, "") {
		if _, err := c.DeleteObject(t.Context(), &s3.DeleteObjectInput{Bucket: &bucket, Key: &key}); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := c.DeleteBucket(t.Context(), &s3.DeleteBucketInput{Bucket: &bucket}); err != nil {
		t.Fatal(err)
	}
}
