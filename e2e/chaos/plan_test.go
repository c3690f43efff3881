package chaos

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"net"
	"reflect"
	"testing"
	"time"
)

func sec(n int) time.Duration { return time.Duration(n) }

func TestPlan(t *testing.T) {
	var table []Kindred
	for i := range 7 {
		table = append(table, Kindred{fmt.Sprint("fault", i), time.Second, 3 * time.Second})
	}
	one := Plan(1, time.Minute, table)
	if again := Plan(1, time.Minute, table); !reflect.DeepEqual(one, again) {
		t.Error("the same seed gives another plan")
	}
	if other := Plan(2, time.Minute, table); reflect.DeepEqual(one, other) {
		t.Error("another seed gives the same plan")
	}
	longer := Plan(1, 2*time.Minute, table)
	if !reflect.DeepEqual(one, longer[:len(one)]) {
		t.Error("more time changes what comes first")
	}
	seen := map[string]int{}
	for _, s := range one[:7] {
		seen[s.Fault]++
	}
	if len(seen) != 7 {
		t.Errorf("the first seven are not all sorts: %v", seen)
	}
	if len(Plan(1, time.Minute, nil)) > 0 {
		t.Error("a plan of no faults")
	}
	if a, b := one[0].Rand().Uint64(), one[0].Rand().Uint64(); a != b {
		t.Error("a step does not draw the same again")
	}
}

func TestJudge(t *testing.T) {
	reset := &net.OpError{Op: "read", Err: errors.New("connection reset")}
	for _, c := range []struct {
		status int
		code   string
		err    error
		want   Outcome
	}{
		{200, "", nil, Done}, {204, "", nil, Done}, {412, "PreconditionFailed", nil, Unmet},
		{404, "NoSuchKey", nil, Missing}, {404, "", nil, Missing}, {404, "NoSuchBucket", nil, Absurd}, {404, "NoSuchUpload", nil, Absurd},
		{503, "SlowDown", nil, Nothing}, {507, "InsufficientStorage", nil, Nothing}, {500, "InternalError", nil, Unknown},
		{403, "SignatureDoesNotMatch", nil, Absurd}, {400, "BadDigest", nil, Absurd}, {501, "NotImplemented", nil, Absurd},
		{0, "", fmt.Errorf("get: %w", reset), Unknown},
		{200, "", reset, Unknown}, // it broke off
		{0, "", fmt.Errorf("get: %w", &net.OpError{Op: "dial", Err: errors.New("refused")}), Nothing},
	} {
		if got := Judge(c.status, c.code, c.err); got != c.want {
			t.Errorf("%d %s %v: %s, want %s", c.status, c.code, c.err, got, c.want)
		}
	}
}

func TestContents(t *testing.T) {
	c := NewContents()
	one, two := c.Make("one", 100), c.Make("two", 100)
	if sha256.Sum256(one) == sha256.Sum256(two) || len(one) != 100 {
		t.Fatal("two names have the same bytes")
	}
	if got := c.OfTag(Tag(one)); got != "one" || !c.Is(got, one) || c.Is(got, two) || c.Is(got, one[:99]) {
		t.Errorf("by its ETag the first is %q", got)
	}
	if got := c.OfTag(WholeTag(two)); got != "two*" || !c.Is(got, two) || c.TagOf("two*") != WholeTag(two) {
		t.Errorf("by its ETag as parts the second is %q", got)
	}
	if c.OfTag("x") != "" || c.TagOf("x") != "" || c.Is("", one[:5]) {
		t.Error("what nobody made is known")
	}
	if len(c.Make("a longer name", 0)) == 0 {
		t.Error("an empty body is not unique")
	}
}
