package s3api

import (
	"bytes"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// operation is one line of testdata/operations.txt.
type operation struct{ name, method, address string }

func operations(t *testing.T) (list []operation) {
	t.Helper()
	raw, err := os.ReadFile("testdata/operations.txt")
	if err != nil {
		t.Fatal(err)
	}
	for l := range strings.Lines(string(raw)) {
		if f := strings.Fields(l); !strings.HasPrefix(l, "#") {
			list = append(list, operation{f[0], f[1], f[2]})
		}
	}
	if len(list) < 100 {
		t.Fatalf("only %d operations", len(list))
	}
	return list
}

// compatRows reads the table of docs/s3-compatibility.md: state and tests by
// operation.
func compatRows(t *testing.T) map[string][2]string {
	t.Helper()
	doc, err := os.ReadFile("../docs/s3-compatibility.md")
	if err != nil {
		t.Fatal(err)
	}
	rows := map[string][2]string{}
	for _, m := range regexp.MustCompile(`(?m)^\| ([A-Z][A-Za-z0-9]+) \| (.*) \| (.*) \|$`).FindAllSubmatch(doc, -1) {
		name := string(m[1])
		if _, twice := rows[name]; twice {
			t.Errorf("%s has two rows", name)
		}
		rows[name] = [2]string{string(m[2]), string(m[3])}
	}
	return rows
}

// TestCompatibilityTable keeps docs/s3-compatibility.md, the routes, the operations
// of S3 and the tests alike.
func TestCompatibilityTable(t *testing.T) {
	rows, ops := compatRows(t), operations(t)
	routed, addresses := map[string]bool{"PostObject": true}, map[string]bool{}
	for _, r := range routes {
		routed[r.name] = true
	}
	known := map[string]bool{"PostObject": true} // a form, which the model of S3 does not have
	for _, o := range ops {
		known[o.name] = true
		if routed[o.name] {
			addresses[o.method+o.address] = true
		}
	}
	for _, r := range routes {
		if !known[r.name] {
			t.Errorf("%s is no operation of S3", r.name)
		}
	}
	for _, o := range append(ops, operation{name: "PostObject"}) {
		row, there := rows[o.name]
		no := strings.HasPrefix(row[0], "no")
		// Two names of one request, of which the older one has no route of its own.
		alias := strings.Contains(row[0], ", as ") && addresses[o.method+o.address]
		switch {
		case !there:
			t.Errorf("%s has no row", o.name)
		case (routed[o.name] || alias) == no:
			t.Errorf("%s is %q and has a route: %v", o.name, row[0], routed[o.name])
		case !no && !strings.HasPrefix(row[0], "yes") && !strings.HasPrefix(row[0], "partly: "):
			t.Errorf("%s is %q: want yes, partly or no", o.name, row[0])
		case !strings.Contains(row[1], "Test"):
			t.Errorf("%s names no test", o.name)
		}
		delete(rows, o.name)
	}
	for name := range rows {
		t.Errorf("%s has a row and is no operation", name)
	}
}

// TestCompatibilityTests finds the tests that the page names.
func TestCompatibilityTests(t *testing.T) {
	doc, err := os.ReadFile("../docs/s3-compatibility.md")
	if err != nil {
		t.Fatal(err)
	}
	var source bytes.Buffer
	for _, pattern := range []string{"*_test.go", "../server/*_test.go", "../server/object/*_test.go", "../e2e/*_test.go"} {
		files, err := filepath.Glob(pattern)
		if err != nil || len(files) == 0 {
			t.Fatalf("%s: %v", pattern, err)
		}
		for _, f := range files {
			raw, err := os.ReadFile(f)
			if err != nil {
				t.Fatal(err)
			}
			source.Write(raw)
		}
	}
	for _, name := range regexp.MustCompile(`Test[A-Z]\w+`).FindAll(doc, -1) {
		if !bytes.Contains(source.Bytes(), []byte("func "+string(name)+"(")) {
			t.Errorf("the table names %s, which is no test", name)
		}
	}
}
