package s3api

import (
	"net/http"
	"strings"
	"time"

	"bivalve/metadata"
)

// preconditions are the four conditional headers, of a read or of a copy source.
type preconditions struct {
	match, noneMatch, modified, unmodified string
	hasMatch, hasNone                      bool
	now                                    time.Time
}

func (c *call) preconditions(prefix string) preconditions {
	h := c.r.Header
	return preconditions{
		match: strings.Join(h[prefix+"If-Match"], ","), hasMatch: h[prefix+"If-Match"] != nil,
		noneMatch: strings.Join(h[prefix+"If-None-Match"], ","), hasNone: h[prefix+"If-None-Match"] != nil,
		modified: c.header(prefix + "If-Modified-Since"), unmodified: c.header(prefix + "If-Unmodified-Since"), now: c.api.Clock(),
	}
}

// check follows the precedence of GetObject: a true If-Match outweighs
// If-Unmodified-Since, a false If-None-Match outweighs If-Modified-Since. It
// answers the status, 200, 304 or 412, and the header that it is due to.
func (p preconditions) check(v *metadata.Version) (status int, header string) {
	modified := time.Unix(0, v.Modified).Truncate(time.Second)
	if p.hasMatch {
		if !listHas(p.match, v.ETag) {
			return http.StatusPreconditionFailed, "If-Match"
		}
	} else if t, err := http.ParseTime(p.unmodified); err == nil && modified.After(t) {
		return http.StatusPreconditionFailed, "If-Unmodified-Since"
	}
	if p.hasNone {
		if listHas(p.noneMatch, v.ETag) {
			return http.StatusNotModified, "If-None-Match"
		}
	} else if t, err := http.ParseTime(p.modified); err == nil && !modified.After(t) && !p.yetToCome(t, modified) {
		return http.StatusNotModified, "If-Modified-Since"
	}
	return http.StatusOK, ""
}

// yetToCome tells a date that If-Modified-Since cannot mean. That of the version itself is
// none, though our clock may be behind the one that it is from.
func (p preconditions) yetToCome(t, modified time.Time) bool {
	return t.After(p.now) && t.After(modified)
}

// preconditionFailed is the error of a condition that does not hold.
func preconditionFailed(header string) error {
	return &apiError{code: "PreconditionFailed", fields: map[string]string{"Condition": header}}
}

// listHas tells whether a list of ETags, or *, names this one. A weak tag
// compares like a strong one, bare ones are accepted.
func listHas(list, etag string) bool {
	for part := range strings.SplitSeq(list, ",") {
		part = strings.TrimPrefix(strings.TrimSpace(part), "W/")
		if part == "*" || unquote(part) == etag {
			return true
		}
	}
	return false
}
