package server_test

import (
	"bytes"
	"crypto/md5"
	"encoding/base64"
	"io"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"bivalve/server/servertest"
)

// TestNoPlainTextAtRest looks for a canary in every file of a region: shards,
// records, raft logs. One that was stored in plain proves that the search works.
func TestNoPlainTextAtRest(t *testing.T) {
	r := servertest.Start(t, servertest.Options{NodesPerZone: 1})
	key := []byte("0123456789abcdef0123456789abcdef")
	sum := md5.Sum(key)
	client := http.Header{}
	for name, v := range map[string]string{"Algorithm": "AES256", "Key": base64.StdEncoding.EncodeToString(key), "Key-Md5": base64.StdEncoding.EncodeToString(sum[:])} {
		client.Set("X-Amz-Server-Side-Encryption-Customer-"+name, v)
	}
	region := http.Header{"X-Amz-Server-Side-Encryption": {"AES256"}}
	ask := func(method, path, body string, h http.Header) string {
		t.Helper()
		resp, err := r.Do(t.Context(), "a1", method, path, strings.NewReader(body), h)
		fatal(t, err)
		defer resp.Body.Close()
		got, err := io.ReadAll(resp.Body)
		fatal(t, err)
		if resp.StatusCode != http.StatusOK {
			t.Fatalf("%s %s: %s %s", method, path, resp.Status, got)
		}
		return string(got)
	}
	ask("PUT", "/vaulted", "", nil)
	secret, open := "canary of the sealed kind ", "canary of the open kind "
	for name, n := range map[string]int{"small": 1000, "large": 300_000} {
		body := strings.Repeat(secret, n/len(secret))
		ask("PUT", "/vaulted/region-"+name, body, region)
		ask("PUT", "/vaulted/client-"+name, body, client)
		ask("PUT", "/vaulted/plain-"+name, strings.Repeat(open, n/len(open)), nil)
		if got := ask("GET", "/vaulted/region-"+name, "", nil); got != body {
			t.Errorf("%s: %d bytes of %d", name, len(got), len(body))
		}
		if got := ask("GET", "/vaulted/client-"+name, "", client); got != body {
			t.Errorf("%s with a key: %d bytes of %d", name, len(got), len(body))
		}
	}
	nodes := r.Nodes()
	r.Stop(nodes...)
	sealed, plain := 0, 0
	for _, id := range nodes {
		err := filepath.WalkDir(filepath.Dir(r.Data(id)), func(path string, d fs.DirEntry, err error) error {
			if err != nil || !d.Type().IsRegular() {
				return err
			}
			raw, err := os.ReadFile(path)
			if bytes.Contains(raw, []byte(secret)) {
				sealed++
				t.Errorf("%s holds plain text", path)
			}
			if bytes.Contains(raw, key) || bytes.Contains(raw, []byte(base64.StdEncoding.EncodeToString(key))) {
				t.Errorf("%s holds the client's key", path)
			}
			if bytes.Contains(raw, []byte(open)) {
				plain++
			}
			return err
		})
		fatal(t, err)
	}
	if plain == 0 {
		t.Error("what was stored in plain is not found: the search is broken")
	}
	// And it all opens again after a restart.
	r.Start(nodes...)
	r.WaitReady(nodes...)
	if got := ask("GET", "/vaulted/region-large", "", nil); !strings.HasPrefix(got, secret) {
		t.Errorf("after a restart: %d bytes", len(got))
	}
}
