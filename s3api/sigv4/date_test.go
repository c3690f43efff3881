package sigv4

import (
	"net/http"
	"testing"
	"time"
)

// The date of a request in every form that clients sign, and some that none does.
func TestHeaderDate(t *testing.T) {
	want := time.Date(2026, 11, 25, 19, 1, 13, 0, time.UTC)
	for _, c := range []struct {
		amz, date string
		ok        bool
	}{
		{"20261125T190113Z", "", true},
		{"20261125T190113Z", "yesterday", true},
		{"", "Wed, 25 Nov 2026 19:01:13 GMT", true},
		{"", "Wed, 25 Nov 2026 19:01:13 -0000", true}, // botocore
		{"", "Wed, 25 Nov 2026 21:01:13 +0200", true},
		{"", "Wed, 25 Nov 2026 19:01:13", false},
		{"", "Wed, 25 Nov 2026 19:01:13 CET", false},
		{"", "2026-11-25", false},
		{"", "", false},
		{"Wed, 25 Nov 2026 19:01:13 GMT", "Wed, 25 Nov 2026 19:01:13 GMT", false},
		{"20261125T190113", "", false},
	} {
		r := &http.Request{Header: http.Header{}}
		if c.amz != "" {
			r.Header.Set("X-Amz-Date", c.amz)
		}
		if c.date != "" {
			r.Header.Set("Date", c.date)
		}
		got, err := headerDate(r)
		if (err == nil) != c.ok || c.ok && !got.Equal(want) {
			t.Errorf("%q, %q: %v, %v", c.amz, c.date, got, err)
		}
	}
}
