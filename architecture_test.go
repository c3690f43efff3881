// Package bivalve_test guards the shape of the house: which package may import
// which. The rule is in README.md and docs/design.md.
package bivalve_test

import (
	"go/parser"
	"go/token"
	"io/fs"
	"path"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

const module = "bivalve/"

// leaves are the roots that know nothing of each other.
var leaves = []string{"erasure", "metadata", "cluster"}

// allowed tells whether a package (path below the module) may import another.
func allowed(from, to string) bool {
	top := func(p string) string { return strings.SplitN(p, "/", 2)[0] }
	switch {
	case from == "erasure" || from == "metadata" || from == "cluster":
		return false // nouns import nothing
	case top(from) == "erasure" || top(from) == "metadata" || top(from) == "cluster":
		return top(to) == top(from) // their own root and siblings
	case top(from) == "s3api":
		return to == "metadata" || top(to) == "s3api"
	case from == "server/object" || from == "server/upkeep" || from == "server/vault":
		for _, l := range leaves {
			if top(to) == l {
				return true
			}
		}
		return strings.HasPrefix(to, from+"/") // their own rooms
	case from == "server/object/seal":
		return false
	case top(from) == "cmd":
		return top(to) == "server" || to == "cluster" // cluster: the nouns of flags
	case top(from) == "server" || top(from) == "e2e" || from == ".":
		return true
	}
	return false
}

func TestImportRule(t *testing.T) {
	seen := 0
	err := filepath.WalkDir(".", func(p string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() {
			if name := d.Name(); p != "." && (strings.HasPrefix(name, ".") || name == "testdata" || name == "bin") {
				return filepath.SkipDir
			}
			return nil
		}
		if !strings.HasSuffix(p, ".go") || strings.HasSuffix(p, "_test.go") {
			return nil
		}
		f, err := parser.ParseFile(token.NewFileSet(), p, nil, parser.ImportsOnly)
		if err != nil {
			return err
		}
		for _, spec := range f.Imports {
			to, err := strconv.Unquote(spec.Path.Value)
			if err != nil {
				return err
			}
			if rest, ours := strings.CutPrefix(to, module); ours {
				seen++
				if from := path.Dir(filepath.ToSlash(p)); !allowed(from, rest) {
					t.Errorf("%s: package %s must not import %s", p, from, rest)
				}
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if seen < 30 {
		t.Fatalf("only %d imports were looked at: the walk is broken", seen)
	}
}

// TestImportRuleBites makes sure that the rule refuses what it must.
func TestImportRuleBites(t *testing.T) {
	for _, c := range [][2]string{
		{"erasure", "cluster"}, {"metadata/index", "cluster"}, {"cluster/disk", "erasure"},
		{"s3api", "server/object"}, {"s3api", "metadata/index"}, {"server/object", "s3api"},
		{"server/upkeep", "server"}, {"cmd/bivalve", "s3api"}, {"metadata", "metadata/index"}, {"util", "metadata"}, {"server/object", "server/keyring"}, {"server/object/seal", "metadata"},
	} {
		if allowed(c[0], c[1]) {
			t.Errorf("%s may import %s", c[0], c[1])
		}
	}
}
