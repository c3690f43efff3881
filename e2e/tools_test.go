//go:build e2e

package e2e

import (
	"bytes"
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// strict says that a missing program is a failure.
func strict() bool { return os.Getenv("BIVALVE_E2E_STRICT") == "1" }

// missing ends a test for want of a program.
func missing(t *testing.T, what string) {
	t.Helper()
	if strict() {
		t.Fatalf("%s is not here; e2e/install.sh installs it", what)
	}
	t.Skipf("%s is not here; e2e/install.sh installs it", what)
}

// program finds the first of the names.
func program(t *testing.T, names ...string) string {
	t.Helper()
	for _, n := range names {
		if p, err := exec.LookPath(n); err == nil {
			return p
		}
	}
	missing(t, strings.Join(names, " or "))
	return ""
}

// programs are all of that name on PATH, each once.
func programs(t *testing.T, name string) []string {
	t.Helper()
	var out []string
	var seen []os.FileInfo
next:
	for _, dir := range filepath.SplitList(os.Getenv("PATH")) {
		p := filepath.Join(dir, name)
		info, err := os.Stat(p)
		if err != nil || info.IsDir() || info.Mode()&0o111 == 0 {
			continue
		}
		for _, s := range seen {
			if os.SameFile(s, info) {
				continue next
			}
		}
		seen = append(seen, info)
		out = append(out, p)
	}
	if len(out) == 0 {
		missing(t, name)
	}
	return out
}

// keysOf is the environment of a client of the region.
func (r *region) keysOf(t testing.TB) []string {
	info := r.info(t)
	return append(os.Environ(), "AWS_ACCESS_KEY_ID="+info.AccessKey, "AWS_SECRET_ACCESS_KEY="+info.SecretKey,
		"AWS_DEFAULT_REGION="+info.Region)
}

// command runs a client to its end.
func (r *region) command(t testing.TB, name string, args ...string) (string, error) {
	return r.commandEnv(t, nil, name, args...)
}

// commandEnv is command with more variables.
func (r *region) commandEnv(t testing.TB, env []string, name string, args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 8*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Env = append(r.keysOf(t), env...)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil {
		return stdout.String(), errors.Join(err, errors.New(tail(stderr.String()+stdout.String(), 4000)))
	}
	return stdout.String(), nil
}

func tail(s string, n int) string {
	if len(s) > n {
		return "..." + s[len(s)-n:]
	}
	return s
}
