//go:build e2e

package e2e

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// TestRegistry keeps container images in a region: they are pushed through one
// zone, the zone is killed, and they are pulled, and more are pushed, through the
// other. Then one is deleted, and its layers are collected.
func TestRegistry(t *testing.T) {
	skopeo := program(t, "skopeo")
	registry := program(t, "docker-registry", "registry")
	r := startDemo(t, options{})
	r.makeBucket(t, "images")
	dir := t.TempDir()

	digest := writeImage(t, filepath.Join(dir, "one"), 1, 1000, 3<<20, 70<<20, 20<<20)
	reg := r.startRegistry(t, registry, r.endpoint(t, "a"))
	begun := time.Now()
	r.copyImage(t, skopeo, "oci:"+filepath.Join(dir, "one")+":latest", reg.image("one"))
	t.Logf("pushed four layers, one of 70 MiB, in %.1f s", time.Since(begun).Seconds())

	r.stopZone(t, "a")
	reg.stop(t)
	reg = r.startRegistry(t, registry, r.endpoint(t, "b"))
	begun = time.Now()
	r.copyImage(t, skopeo, reg.image("one"), "oci:"+filepath.Join(dir, "back")+":latest")
	got, blobs := readImage(t, filepath.Join(dir, "back"))
	if got != digest || blobs != 6 {
		t.Errorf("%s was pushed, %s with %d blobs came back", digest, got, blobs)
	}
	t.Logf("pulled from the other zone with the first dark in %.1f s, digests equal", time.Since(begun).Seconds())

	digest = writeImage(t, filepath.Join(dir, "two"), 10, 5000, 33<<20)
	r.copyImage(t, skopeo, "oci:"+filepath.Join(dir, "two")+":latest", reg.image("two"))
	reg.stop(t)
	r.startZone(t, "a")
	r.allUp(t)
	reg = r.startRegistry(t, registry, r.endpoint(t, "a"))
	r.copyImage(t, skopeo, reg.image("two"), "oci:"+filepath.Join(dir, "two-back")+":latest")
	if got, _ := readImage(t, filepath.Join(dir, "two-back")); got != digest {
		t.Errorf("%s was pushed with a zone dark, %s came back through that zone", digest, got)
	}

	// What nothing refers to any more is collected, and nothing else.
	before := r.registryBlobs(t)
	if out, err := r.command(t, skopeo, "delete", "--tls-verify=false", reg.image("one")); err != nil {
		t.Fatalf("skopeo delete: %v\n%s", err, out)
	}
	reg.stop(t) // nobody may push meanwhile
	if out, err := r.command(t, registry, "garbage-collect", "--delete-untagged", reg.config); err != nil {
		t.Fatalf("garbage-collect: %v\n%s", err, out)
	}
	after := r.registryBlobs(t)
	if freed := before - after; freed < 93<<20 || after < 33<<20 {
		t.Errorf("layers took %s, and %s after the first image was deleted and collected", mib(before), mib(after))
	}
	reg = r.startRegistry(t, registry, r.endpoint(t, "b"))
	r.copyImage(t, skopeo, reg.image("two"), "oci:"+filepath.Join(dir, "two-again")+":latest")
	if got, _ := readImage(t, filepath.Join(dir, "two-again")); got != digest {
		t.Errorf("%s was pushed, %s came back after the collection", digest, got)
	}
	if out, err := r.command(t, skopeo, "inspect", "--tls-verify=false", reg.image("one")); err == nil {
		t.Errorf("a deleted image is there: %s", out)
	}
	reg.stop(t)
	t.Logf("deleted and collected: layers took %s, now %s", mib(before), mib(after))
}

// registryBlobs is what the layers of all images take.
func (r *region) registryBlobs(t testing.TB) (sum int64) {
	t.Helper()
	for _, size := range listAll(t, r.client(t, r.endpoint(t, "b")), "images", "docker/registry/v2/blobs/") {
		sum += size
	}
	return sum
}

func (r *region) copyImage(t testing.TB, skopeo, from, to string) {
	t.Helper()
	out, err := r.command(t, skopeo, "--insecure-policy", "copy", "--quiet", "--retry-times", "3",
		"--src-tls-verify=false", "--dest-tls-verify=false", from, to)
	if err != nil {
		t.Fatalf("skopeo copy %s %s: %v\n%s", from, to, err, out)
	}
}

// dockerRegistry is one process of Debian's registry.
type dockerRegistry struct {
	addr   string
	config string // path
	cmd    *exec.Cmd
	log    *bytes.Buffer
	ended  chan error
}

func (d *dockerRegistry) image(name string) string {
	return "docker://" + d.addr + "/" + name + ":latest"
}

func (r *region) startRegistry(t testing.TB, program, endpoint string) *dockerRegistry {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	d := &dockerRegistry{addr: l.Addr().String(), log: &bytes.Buffer{}, ended: make(chan error, 1)}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	info := r.info(t)
	d.config = filepath.Join(t.TempDir(), "registry.yml")
	err = os.WriteFile(d.config, fmt.Appendf(nil, `version: 0.1
log: {level: warn, accesslog: {disabled: true}}
storage:
  delete: {enabled: true}
  s3:
    accesskey: %s
    secretkey: %s
    region: %s
    regionendpoint: %s
    bucket: images
    secure: false
    v4auth: true
http:
  addr: %s
  secret: not-a-secret
`, info.AccessKey, info.SecretKey, info.Region, endpoint, d.addr), 0o600)
	if err != nil {
		t.Fatal(err)
	}
	d.cmd = exec.Command(program, "serve", d.config)
	d.cmd.Stdout, d.cmd.Stderr = d.log, d.log
	d.cmd.Env = append(os.Environ(), "OTEL_TRACES_EXPORTER=none")
	d.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := d.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() { d.ended <- d.cmd.Wait() }()
	t.Cleanup(func() {
		d.stop(t)
		if t.Failed() {
			t.Logf("the registry said:\n%s", tail(d.log.String(), 3000))
		}
	})
	eventually(t, 30*time.Second, "the registry answers", func() error {
		resp, err := http.Get("http://" + d.addr + "/v2/")
		if err != nil {
			return err
		}
		defer resp.Body.Close()
		if resp.StatusCode != http.StatusOK {
			return errors.New(resp.Status)
		}
		return nil
	})
	return d
}

// stop ends it; a second stop does nothing.
func (d *dockerRegistry) stop(t testing.TB) {
	if d.cmd == nil {
		return
	}
	if err := d.cmd.Process.Kill(); err != nil && !errors.Is(err, os.ErrProcessDone) {
		t.Error(err)
	}
	if err := <-d.ended; err != nil && !strings.Contains(err.Error(), "killed") {
		t.Errorf("the registry ended by itself: %v", err)
	}
	d.cmd = nil
}
