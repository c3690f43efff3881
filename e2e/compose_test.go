//go:build e2e

package e2e

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"
)

// compose runs the repository's compose file under a name and ports of its own.
type compose struct {
	t    *testing.T
	tool []string
	env  []string
}

func (c compose) run(args ...string) (string, error) {
	all := append(append([]string(nil), c.tool...), args...)
	cmd := exec.Command(all[0], all[1:]...)
	cmd.Env = append(os.Environ(), c.env...)
	out, err := cmd.CombinedOutput()
	if err != nil {
		err = fmt.Errorf("%s: %w\n%s", strings.Join(args, " "), err, tail(string(out), 4000))
	}
	return string(out), err
}

func (c compose) must(args ...string) string {
	c.t.Helper()
	out, err := c.run(args...)
	if err != nil {
		c.t.Fatal(err)
	}
	return out
}

// TestCompose: the containers pass the same round trip as the demo, and zone a may
// be killed. It needs a Docker engine and is skipped where none runs.
func TestCompose(t *testing.T) {
	if out, err := exec.Command("docker", "info", "--format", "{{.ServerVersion}}").Output(); err != nil || len(bytes.TrimSpace(out)) == 0 {
		t.Skip("no Docker engine runs here")
	}
	tool := []string{"docker-compose"}
	if _, err := exec.LookPath(tool[0]); err != nil {
		if tool = []string{"docker", "compose"}; exec.Command("docker", "compose", "version").Run() != nil {
			t.Skip("no compose tool is here")
		}
	}
	name := fmt.Sprintf("bivalve-e2e-%d", os.Getpid())
	context := t.TempDir()
	for from, to := range map[string]string{"../Dockerfile": "Dockerfile", binary: "bin/bivalve"} {
		raw, err := os.ReadFile(from)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.MkdirAll(filepath.Dir(filepath.Join(context, to)), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(context, to), raw, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if out, err := exec.Command("docker", "build", "-t", name, context).CombinedOutput(); err != nil {
		t.Fatalf("docker build: %v\n%s", err, out)
	}
	c := compose{t: t, tool: append(tool, "-p", name, "-f", "../docker-compose.yml"), env: []string{"BIVALVE_IMAGE=" + name}}
	base, err := freePorts()
	if err != nil {
		t.Fatal(err)
	}
	ports := map[string]int{}
	for i, node := range []string{"A1", "A2", "A3", "B1", "B2", "B3"} {
		ports[node] = base + i
		c.env = append(c.env, fmt.Sprintf("BIVALVE_%s_PORT=%d", node, ports[node]))
	}
	t.Cleanup(func() {
		if _, err := c.run("down", "-v"); err != nil {
			t.Error(err)
		}
		if out, err := exec.Command("docker", "rmi", "-f", name).CombinedOutput(); err != nil {
			t.Errorf("docker rmi: %v\n%s", err, out)
		}
	})
	c.must("up", "-d")
	keys := regexp.MustCompile(`Root (?:access|secret) key: (\S+)`).FindAllStringSubmatch(c.must("logs", "--no-color", "init"), -1)
	if len(keys) != 2 {
		t.Fatal("init printed no keys")
	}
	env := append(os.Environ(), "AWS_ACCESS_KEY_ID="+keys[0][1], "AWS_SECRET_ACCESS_KEY="+keys[1][1], "AWS_DEFAULT_REGION=us-east-1")
	aws := func(node string, args ...string) error {
		cmd := exec.Command(program(t, "aws"), append([]string{"--endpoint-url", fmt.Sprintf("http://127.0.0.1:%d", ports[node])}, args...)...)
		cmd.Env = env
		if out, err := cmd.CombinedOutput(); err != nil {
			return fmt.Errorf("aws %s: %w\n%s", strings.Join(args, " "), err, out)
		}
		return nil
	}
	within := func(what string, f func() error) {
		t.Helper()
		var err error
		for deadline := time.Now().Add(time.Minute); time.Now().Before(deadline); time.Sleep(200 * time.Millisecond) {
			if err = f(); err == nil {
				return
			}
		}
		t.Fatalf("%s: %v\n%s", what, err, c.must("logs", "--no-color", "--tail", "20"))
	}
	within("make a bucket", func() error { return aws("A1", "s3", "mb", "s3://round-trip") })
	if err := aws("A2", "s3", "cp", binary, "s3://round-trip/up"); err != nil {
		t.Fatal(err)
	}
	c.must("kill", "a1", "a2", "a3")
	down := filepath.Join(t.TempDir(), "down")
	within("read through zone b", func() error { return aws("B1", "s3", "cp", "s3://round-trip/up", down) })
	if err := exec.Command("cmp", binary, down).Run(); err != nil {
		t.Fatalf("what came back is not what went up: %v", err)
	}
	within("write through zone b", func() error { return aws("B2", "s3", "cp", binary, "s3://round-trip/again") })
}
