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
}

func (c *call) preconditions(prefix string) preconditions {
	h := c.r.Header
	return preconditions{
		match: strings.Join(h[prefix+"If-Match"], ","), hasMatch: h[prefix+"If-Match"] != nil,
		noneMatch: strings.Join(h[prefix+"If-None-Match"], ","), hasNone: h[prefix+"If-None-Match"] != nil,
		modified: c.header(prefix + "If-Modified-Since"), unmodified: c.header(prefix + "If-Unmodified-Since"),
	}
}

// check follows the precedence of GetObject: a true If-Match outweighs
// If-Unmodified-Since, a false If-None-Match outweighs If-Modified-Since. It
// answers the status: 200, 304 or 412.
func (p preconditions) check(v *metadata.Version) int {
	modified := time.Unix(0, v.Modified).Truncate(time.Second)
	if p.hasMatch {
		if !listHas(p.match, v.ETag) {
			return http.StatusPreconditionFailed
		}
	} else if t, err := http.ParseTime(p.unmodified); err == nil && modified.After(t) {
		return http.StatusPreconditionFailed
	}
	if p.hasNone {
		if listHas(p.noneMatch, v.ETag) {
			return http.StatusNotModified
		}
	} else if t, err := http.ParseTime(p.modified); err == nil && !modified.After(t) {
		return http.StatusNotModified
	}
	return http.StatusOK
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
