//go:build e2e

package e2e

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// noise is size pseudo-random bytes of a seed, as a stream.
func noise(seed uint64, size int64) io.Reader {
	var key [32]byte
	for i := range 8 {
		key[i] = byte(seed >> (8 * i))
	}
	return io.LimitReader(rand.NewChaCha8(key), size)
}

// noiseBytes is noise in memory.
func noiseBytes(seed uint64, size int) []byte {
	b := make([]byte, size)
	if _, err := io.ReadFull(noise(seed, int64(size)), b); err != nil {
		panic(err)
	}
	return b
}

// noiseFile writes noise into a file and returns its SHA-256.
func noiseFile(t testing.TB, path string, seed uint64, size int64) string {
	t.Helper()
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	h := sha256.New()
	if _, err := io.Copy(io.MultiWriter(f, h), noise(seed, size)); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	return hex.EncodeToString(h.Sum(nil))
}

func sumReader(t testing.TB, r io.Reader) string {
	t.Helper()
	h := sha256.New()
	if _, err := io.Copy(h, r); err != nil {
		t.Fatal(err)
	}
	return hex.EncodeToString(h.Sum(nil))
}

func sumFile(t testing.TB, path string) string {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	return sumReader(t, f)
}

func sumBytes(b []byte) string {
	s := sha256.Sum256(b)
	return hex.EncodeToString(s[:])
}

// sumTree is the SHA-256 of every file below a folder, by slash path.
func sumTree(t testing.TB, root string) map[string]string {
	t.Helper()
	out := map[string]string{}
	err := filepath.WalkDir(root, func(p string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		rel, err := filepath.Rel(root, p)
		if err == nil {
			out[filepath.ToSlash(rel)] = sumFile(t, p)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// sameSums fails with the first few differences.
func sameSums(t testing.TB, want, got map[string]string) {
	t.Helper()
	var bad []string
	for name, sum := range want {
		switch {
		case got[name] == "":
			bad = append(bad, name+" is missing")
		case got[name] != sum:
			bad = append(bad, name+" differs")
		}
	}
	for name := range got {
		if want[name] == "" {
			bad = append(bad, name+" is more than there should be")
		}
	}
	if len(bad) > 0 {
		t.Fatalf("%d of %d files are wrong: %s", len(bad), len(want), strings.Join(bad[:min(5, len(bad))], "; "))
	}
}

// goRoot is where the source of Go itself lies.
func goRoot(t testing.TB) string {
	t.Helper()
	out, err := exec.Command("go", "env", "GOROOT").Output()
	if err != nil {
		t.Fatal(err)
	}
	return filepath.Join(strings.TrimSpace(string(out)), "src")
}

// goSource is thousands of small files that every machine with the tests has:
// Go's own source, or with -short a part of it.
func goSource(t testing.TB) string {
	t.Helper()
	root := goRoot(t)
	if testing.Short() {
		root = filepath.Join(root, "crypto")
	}
	root, err := filepath.EvalSymlinks(root)
	if err != nil {
		t.Fatal(err)
	}
	return root
}

// sizes for -short.
func sized(full, short int64) int64 {
	if testing.Short() {
		return short
	}
	return full
}

func mib(n int64) string { return fmt.Sprintf("%.1f MiB", float64(n)/(1<<20)) }
