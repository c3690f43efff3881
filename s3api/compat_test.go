package s3api

import (
	"os"
	"regexp"
	"testing"
)

// TestCompatibilityTable keeps docs/s3-compatibility.md and the routes alike.
func TestCompatibilityTable(t *testing.T) {
	doc, err := os.ReadFile("../docs/s3-compatibility.md")
	if err != nil {
		t.Fatal(err)
	}
	listed := map[string]bool{}
	for _, m := range regexp.MustCompile(`(?m)^\| ([A-Z][A-Za-z0-9]+) \|`).FindAllSubmatch(doc, -1) {
		listed[string(m[1])] = true
	}
	for _, r := range routes {
		if !listed[r.name] {
			t.Errorf("%s has a route and no row", r.name)
		}
		delete(listed, r.name)
	}
	for name := range listed {
		t.Errorf("%s has a row and no route", name)
	}
	all := regexp.MustCompile(`func (Test\w+)\(`)
	tests := map[string]bool{}
	files, err := os.ReadDir(".")
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		if !regexp.MustCompile(`_test\.go$`).MatchString(f.Name()) {
			continue
		}
		src, err := os.ReadFile(f.Name())
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range all.FindAllSubmatch(src, -1) {
			tests[string(m[1])] = true
		}
	}
	for _, m := range regexp.MustCompile(`Test[A-Z]\w+`).FindAll(doc, -1) {
		if !tests[string(m)] {
			t.Errorf("the table names %s, which is no test", m)
		}
	}
}
