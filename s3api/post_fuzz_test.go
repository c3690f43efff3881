package s3api

import (
	"encoding/base64"
	"strings"
	"testing"
	"time"
)

// A policy that parses has an expiration and conditions, and allows no field that
// it does not name.
func FuzzPostPolicy(f *testing.F) {
	for _, s := range []string{`{"expiration":"2030-01-01T00:00:00Z","conditions":[{"bucket":"b"},["starts-with","$key",""],["content-length-range",1,"2"]]}`,
		`{"expiration":"2030-01-01T00:00:00.000Z","conditions":[null]}`, `{}`, `[`, `{"conditions":[{}]}`} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, doc string) {
		p, err := parsePolicy(base64.StdEncoding.EncodeToString([]byte(doc)))
		if err != nil {
			return
		}
		if p.min < 0 || p.max < 0 {
			t.Errorf("a file of %d to %d bytes", p.min, p.max)
		}
		fields := map[string]string{"surely not named": "x"}
		for _, c := range p.conditions {
			if strings.EqualFold(c.field, "surely not named") {
				t.Skip()
			}
			fields[c.field] = c.value
		}
		if p.check(fields, time.Unix(0, 0)) == nil {
			t.Errorf("%q allows a field that it does not name", doc)
		}
	})
}
