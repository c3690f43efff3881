package index

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// Files of earlier formats open, hold the same, and are of this format from then
// on. The dumps are of what their versions kept; the tables that they did not have
// must follow from it (audit).
func TestEarlierFormatsAreRewritten(t *testing.T) {
	for _, format := range []string{"v1", "v2", "v3", "v4", "v5", "v6", "v7"} {
		t.Run(format, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "index.db")
			if err := os.WriteFile(path, unzip(t, "testdata/"+format+"/index.db.gz"), 0o600); err != nil {
				t.Fatal(err)
			}
			want := string(unzip(t, "testdata/"+format+"/dump.txt.gz"))
			for range 2 { // as it is, then as a file of this format
				ix, err := Open(path)
				if err != nil {
					t.Fatal(err)
				}
				audit(t, ix)
				if got := dump(t, ix); kept(got) != kept(want) || (format >= "v3" && withoutLater(format, got) != want) {
					t.Fatalf("got\n%s\nwant\n%s", got, want)
				}
				if a := ix.Applied(); a.Index == 0 || !bytes.Equal(a.ConfState, []byte{8, 1}) {
					t.Fatalf("%+v", a)
				}
				if err := ix.Close(); err != nil {
					t.Fatal(err)
				}
				if place, err := checkFile(path); err != nil || !place {
					t.Fatal(place, err)
				}
			}
		})
	}
}

// kept is the part of a dump that every format has and none changes.
func kept(dump string) string {
	var out strings.Builder
	for line := range strings.Lines(dump) {
		table, rest, _ := strings.Cut(line, " ")
		switch {
		case table == "blobs", table == "under", table == "since", table == "slots", table == "usage", table == "named":
		case table == "meta" && strings.HasPrefix(rest, "7374617473"): // stats
		default:
			out.WriteString(line)
		}
	}
	return out.String()
}

// withoutLater leaves out what files before formats 6 and 7 did not have.
func withoutLater(format, dump string) string {
	var out strings.Builder
	for line := range strings.Lines(dump) {
		switch table, _, _ := strings.Cut(line, " "); {
		case table == "usage" && format < "v6", table == "named" && format < "v7":
		default:
			out.WriteString(line)
		}
	}
	return out.String()
}
