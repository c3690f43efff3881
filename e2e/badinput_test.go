//go:build e2e

package e2e

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// badInput are the tests of the catalogue of bad input, in s3api, but for those that make
// a door of their own: their rows are of time-outs, or of stores that fail.
const (
	badInput = "BadInput|TestKeys|TestPostForm|TestXMLInput|TestRawInput|TestExpectContinueWithBadAuth|TestHeaderAuth|TestBodyClaims|" +
		"TestFramesBad|TestLearned|TestUnsupported|TestConditionalWrites|TestMultipartInput|TestBucketNames|TestCORS"
	ownDoor = "TestBadInputDeniedKey|TestBadInputSlowHeader|TestBadInputXMLMemory|TestLearned(01|09|15|21)|TestPostFormFailsMidway"
)

// TestBadInput: every row of the catalogue against a region that runs: the exact code, a
// whole document, nothing changed; no node panics, and none takes more memory for it than
// its budget.
func TestBadInput(t *testing.T) {
	r := startDemo(t, options{NodesPerZone: 2, DisksPerNode: 1})
	if err := r.stop(); err != nil {
		t.Fatal(err)
	}
	r.appendConfig(t, "s3: {domains: [s3.example.com]}\n")
	if err := r.start(); err != nil {
		t.Fatal(err)
	}
	idle := map[string]int64{}
	for _, n := range r.info(t).Nodes {
		resetPeak(t, n.PID)
		idle[n.ID] = procBytes(t, n.PID, "VmRSS")
	}
	out, err := r.commandEnv(t, []string{"BIVALVE_TEST_REGION_TO_EMPTY=" + r.endpoint(t, "b")},
		"go", "test", "-count", "1", "-v", "-run", badInput, "-skip", ownDoor, "../s3api")
	if err != nil {
		t.Errorf("%v\n%s", err, out)
	}
	passed := len(regexp.MustCompile(`(?m)^--- PASS`).FindAllString(out, -1))
	if skipped := regexp.MustCompile(`(?m)^--- SKIP.*`).FindAllString(out, -1); len(skipped) > 0 || passed < 40 {
		t.Errorf("%d tests passed, skipped were %q", passed, skipped)
	}
	for _, n := range r.info(t).Nodes {
		if more := procBytes(t, n.PID, "VmHWM") - idle[n.ID]; more > 2*memoryLimit {
			t.Errorf("%s has taken %s more", n.ID, mib(more))
		}
		log, err := os.ReadFile(filepath.Join(r.dir, n.ID, "server.log"))
		if err != nil {
			t.Fatal(err)
		}
		if strings.Contains(string(log), "msg=panic") || strings.Contains(string(log), "goroutine ") {
			t.Errorf("%s has panicked:\n%.2000s", n.ID, log[max(0, strings.Index(string(log), "panic")):])
		}
	}
}
