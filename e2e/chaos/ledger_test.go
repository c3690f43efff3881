package chaos

import (
	"strings"
	"testing"
)

// written is a ledger with one key in each state; times are plain numbers.
func written() *Ledger {
	l := NewLedger()
	for _, k := range []string{"acked", "deleted", "deleting", "doubtful", "refused", "half deleted", "kept"} {
		l.Putting(k, "sum of "+k, 10)
		switch k {
		case "doubtful":
			l.Put(k, Unknown, 20)
		case "refused":
			l.Put(k, Nothing, 20)
		default:
			l.Put(k, Done, 20)
		}
	}
	for k, o := range map[string]Outcome{"deleted": Done, "half deleted": Unknown, "kept": Nothing} {
		l.Removing(k, 30)
		l.Removed(k, o, 40)
	}
	l.Removing("deleting", 30)
	l.Putting("putting", "sum of putting", 30)
	return l
}

func TestLedger(t *testing.T) {
	const late = 1000
	for _, c := range []struct {
		key      string
		from, to int
		there    bool
		ok       bool
	}{
		{"acked", 20, 21, true, true}, {"acked", 20, 21, false, false},
		{"acked", 15, 21, false, true}, // it began before the acknowledgement
		{"acked", 0, 9, false, true}, {"acked", 0, 9, true, false},
		{"deleted", 25, 29, false, false}, {"deleted", 25, 35, false, true}, {"deleted", 25, 35, true, true},
		{"deleted", 40, 41, true, false}, {"deleted", late, late, false, true},
		{"deleting", late, late, true, true}, {"deleting", late, late, false, true},
		{"doubtful", late, late, true, true}, {"doubtful", late, late, false, true},
		{"refused", late, late, false, true}, {"refused", late, late, true, false},
		{"half deleted", late, late, true, true}, {"half deleted", late, late, false, true},
		{"kept", late, late, true, true}, {"kept", late, late, false, false},
		{"putting", 31, 32, true, true}, {"putting", 31, 32, false, true},
		{"never", 0, late, true, false}, {"never", 0, late, false, true},
	} {
		sum := "sum of " + c.key
		if err := written().Judge(c.key, c.there, sum, sec(c.from), sec(c.to)); (err == nil) != c.ok {
			t.Errorf("%s there %t in %d..%d: %v, want ok %t", c.key, c.there, c.from, c.to, err, c.ok)
		}
	}
	if written().Judge("acked", true, "another sum", late, late) == nil {
		t.Error("wrong bytes pass")
	}
}

func TestSettled(t *testing.T) {
	l := written()
	for i, there := range []bool{true, true} {
		if err := l.Settle("doubtful", there, "sum of doubtful", 1000); err != nil {
			t.Error(i, err)
		}
	}
	if l.Settle("doubtful", false, "", 1000) == nil {
		t.Error("an unknown outcome may flip after everything is over")
	}
	put, removed, unknown := l.Count()
	if put != 5 || removed != 1 || unknown != 2 {
		t.Errorf("counted %d %d %d", put, removed, unknown)
	}
}

func TestListed(t *testing.T) {
	for name, c := range map[string]struct {
		pages [][]string
		wrong string // "" = nothing is
	}{
		"right":              {[][]string{{"acked", "deleting"}, {"doubtful", "half deleted", "kept"}}, ""},
		"less of the doubts": {[][]string{{"acked", "kept"}}, ""},
		"a gap":              {[][]string{{"acked"}}, "kept is not listed"},
		"twice":              {[][]string{{"acked"}, {"acked", "kept"}}, `"acked" again`},
		"out of order":       {[][]string{{"kept"}, {"acked"}}, `"acked" after "kept"`},
		"resurrected":        {[][]string{{"acked", "deleted", "kept"}}, "deleted is listed"},
		"refused":            {[][]string{{"acked", "kept", "refused"}}, "refused is listed"},
		"never put":          {[][]string{{"acked", "kept", "zebra"}}, "zebra is listed"},
	} {
		got := strings.Join(written().Listed(Walk{From: 100, To: 200, Pages: c.pages}), "\n")
		if c.wrong == "" && got != "" || !strings.Contains(got, c.wrong) {
			t.Errorf("%s: %q, want %q", name, got, c.wrong)
		}
	}
	if got := written().Listed(Walk{Prefix: "k", From: 100, To: 200, Pages: [][]string{{"kept"}}}); len(got) > 0 {
		t.Error(got)
	}
	if got := written().Listed(Walk{Prefix: "k", From: 100, To: 200, Pages: [][]string{{"acked", "kept"}}}); len(got) != 1 {
		t.Errorf("a key beyond the prefix passes: %v", got)
	}
}
