package s3api_test

import (
	"os"
	"regexp"
	"strings"
	"testing"
)

// TestCompatibilityNo sends every operation that the table calls "no": the answer
// is 501, and nothing has happened.
func TestCompatibilityNo(t *testing.T) {
	p := openWatched(t)
	doc, err := os.ReadFile("../docs/s3-compatibility.md")
	if err != nil {
		t.Fatal(err)
	}
	ops, err := os.ReadFile("testdata/operations.txt")
	if err != nil {
		t.Fatal(err)
	}
	sent := 0
	for l := range strings.Lines(string(ops)) {
		f := strings.Fields(l)
		if !regexp.MustCompile(`(?m)^\| ` + f[0] + ` \| no`).Match(doc) {
			continue
		}
		sent++
		target := strings.NewReplacer("{Bucket}", "bad", "{Key+}", "x").Replace(f[2])
		if f[0] == "WriteGetObjectResponse" { // an address of another service
			p.refused(f[0], p.do(f[1], target, ""), 400, "InvalidBucketName")
			continue
		}
		if target == "/" {
			target = "/?x-id=" + f[0] // how clients tell it from ListBuckets
		}
		for _, body := range []string{"", "<X/>"} {
			p.refused(f[0], p.do(f[1], target, body), 501, "NotImplemented")
		}
	}
	if sent < 30 {
		t.Errorf("only %d operations were sent: the search is broken", sent)
	}
}
