//go:build e2e

package e2e

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"testing"
)

// descriptor names a blob of an OCI image.
type descriptor struct {
	MediaType   string            `json:"mediaType"`
	Digest      string            `json:"digest"`
	Size        int64             `json:"size"`
	Annotations map[string]string `json:"annotations,omitempty"`
}

// writeImage makes an OCI layout with one image, tagged latest, of one layer of
// noise for each size. It returns the digest of its manifest.
func writeImage(t testing.TB, dir string, seed uint64, sizes ...int64) string {
	t.Helper()
	blobs := filepath.Join(dir, "blobs", "sha256")
	if err := os.MkdirAll(blobs, 0o755); err != nil {
		t.Fatal(err)
	}
	var layers []descriptor
	var diffs []string
	for i, size := range sizes {
		layer, diff := writeLayer(t, blobs, fmt.Sprintf("file-%d", i), seed+uint64(i), size)
		layers, diffs = append(layers, layer), append(diffs, diff)
	}
	config := writeJSON(t, blobs, "application/vnd.oci.image.config.v1+json", map[string]any{
		"architecture": "amd64", "os": "linux", "config": map[string]any{},
		"rootfs": map[string]any{"type": "layers", "diff_ids": diffs},
	})
	manifest := writeJSON(t, blobs, "application/vnd.oci.image.manifest.v1+json", map[string]any{
		"schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json", "config": config, "layers": layers,
	})
	manifest.Annotations = map[string]string{"org.opencontainers.image.ref.name": "latest"}
	for name, v := range map[string]any{
		"oci-layout": map[string]any{"imageLayoutVersion": "1.0.0"},
		"index.json": map[string]any{"schemaVersion": 2, "manifests": []descriptor{manifest}},
	} {
		raw, err := json.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, name), raw, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return manifest.Digest
}

func writeJSON(t testing.TB, blobs, mediaType string, v any) descriptor {
	t.Helper()
	raw, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	sum := sumBytes(raw)
	if err := os.WriteFile(filepath.Join(blobs, sum), raw, 0o600); err != nil {
		t.Fatal(err)
	}
	return descriptor{MediaType: mediaType, Digest: "sha256:" + sum, Size: int64(len(raw))}
}

// writeLayer streams a compressed tar of one file; noise does not shrink. It
// returns the blob and the digest of the bare tar.
func writeLayer(t testing.TB, blobs, name string, seed uint64, size int64) (descriptor, string) {
	t.Helper()
	tmp := filepath.Join(blobs, "new")
	f, err := os.Create(tmp)
	if err != nil {
		t.Fatal(err)
	}
	packed, bare := sha256.New(), sha256.New()
	z, err := gzip.NewWriterLevel(io.MultiWriter(f, packed), gzip.HuffmanOnly)
	if err != nil {
		t.Fatal(err)
	}
	w := tar.NewWriter(io.MultiWriter(z, bare))
	err = w.WriteHeader(&tar.Header{Name: name, Mode: 0o644, Size: size, Typeflag: tar.TypeReg})
	if err == nil {
		_, err = io.Copy(w, noise(seed, size))
	}
	for _, c := range []io.Closer{w, z, f} {
		if err == nil {
			err = c.Close()
		}
	}
	if err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(tmp)
	if err != nil {
		t.Fatal(err)
	}
	sum := hex.EncodeToString(packed.Sum(nil))
	if err := os.Rename(tmp, filepath.Join(blobs, sum)); err != nil {
		t.Fatal(err)
	}
	return descriptor{MediaType: "application/vnd.oci.image.layer.v1.tar+gzip", Digest: "sha256:" + sum, Size: info.Size()},
		"sha256:" + hex.EncodeToString(bare.Sum(nil))
}

// readImage checks every blob of a layout against its name, and returns the
// digest of the manifest and how many blobs there are.
func readImage(t testing.TB, dir string) (digest string, blobs int) {
	t.Helper()
	raw, err := os.ReadFile(filepath.Join(dir, "index.json"))
	if err != nil {
		t.Fatal(err)
	}
	var index struct{ Manifests []descriptor }
	if err := json.NewDecoder(bytes.NewReader(raw)).Decode(&index); err != nil || len(index.Manifests) != 1 {
		t.Fatalf("index.json: %v: %s", err, raw)
	}
	for name, sum := range sumTree(t, filepath.Join(dir, "blobs", "sha256")) {
		if name != sum {
			t.Errorf("blob %s holds %s", name, sum)
		}
		blobs++
	}
	return index.Manifests[0].Digest, blobs
}
