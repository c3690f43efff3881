package sigv4

import (
	"fmt"
	"strings"
	"testing"
)

// Nobody has proved anything yet where SignedHeaders is read: its length is looked at
// before its names are, which are compared each with each.
func TestSignedHeadersAreCountedFirst(t *testing.T) {
	names := make([]string, maxSigned)
	for i := range names {
		names[i] = fmt.Sprintf("h%d", i)
	}
	var c claim
	if err := setSigned(&c, strings.Join(names, ";")); err != nil {
		t.Errorf("%d names: %v", len(names), err)
	}
	for name, last := range map[string]string{"one more": "host", "one twice": "h0", "one malformed": "Host"} {
		if err := setSigned(&c, strings.Join(append(names, last), ";")); err == nil || !strings.Contains(err.Error(), "too long") {
			t.Errorf("%s: %v", name, err)
		}
	}
}
