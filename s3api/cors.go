package s3api

import (
	"errors"
	"net/http"
	"slices"
	"strconv"
	"strings"

	"bivalve/metadata"
)

// corsRule is one rule of a bucket, as it is kept (metadata.FieldCORS).
type corsRule struct {
	ID      string   `cbor:"1,keyasint,omitempty"`
	Origins []string `cbor:"2,keyasint"`
	Methods []string `cbor:"3,keyasint"`
	Headers []string `cbor:"4,keyasint,omitempty"`
	Expose  []string `cbor:"5,keyasint,omitempty"`
	MaxAge  *int     `cbor:"6,keyasint,omitempty"` // seconds
}

// corsRules reads the rules of a bucket, nil if it has none.
func corsRules(b metadata.Bucket) (rules []corsRule, err error) {
	raw := b.Settings[metadata.FieldCORS]
	if len(raw) == 0 {
		return nil, nil
	}
	return rules, metadata.DecodeBody(raw, &rules)
}

// matchOrigin finds the origin pattern of the first rule that allows the request.
// asked are the headers that a preflight asks for.
func matchOrigin(rules []corsRule, origin, method string, asked []string) (*corsRule, string) {
	for i := range rules {
		r := &rules[i]
		if !slices.Contains(r.Methods, method) {
			continue
		}
		at := slices.IndexFunc(r.Origins, func(p string) bool { return wildcard(p, origin) })
		if at < 0 {
			continue
		}
		allowed := func(name string) bool {
			return slices.ContainsFunc(r.Headers, func(p string) bool { return wildcard(strings.ToLower(p), name) })
		}
		if !slices.ContainsFunc(asked, func(name string) bool { return !allowed(name) }) {
			return r, r.Origins[at]
		}
	}
	return nil, ""
}

// wildcard matches a pattern with at most one *.
func wildcard(pattern, s string) bool {
	before, after, star := strings.Cut(pattern, "*")
	if !star {
		return pattern == s
	}
	return len(s) >= len(before)+len(after) && strings.HasPrefix(s, before) && strings.HasSuffix(s, after)
}

// preflight answers OPTIONS, which nobody signs.
func (c *call) preflight() error {
	c.op = "Preflight"
	bad := func(text string) error { return failf("BadRequest", "%s", text) }
	origin, method := c.header("Origin"), c.header("Access-Control-Request-Method")
	switch {
	case c.bucket == "" || !validBucketName(c.bucket):
		return methodNotAllowed(c.r.Method, c.level().String())
	case origin == "" || !printable(origin):
		return bad("Insufficient information. Origin request header needed.")
	}
	forbidden := func(text string) error {
		if method == "" {
			method = c.r.Method
		}
		return &apiError{code: "AccessForbidden", message: "CORSResponse: " + text,
			fields: map[string]string{"Method": method, "ResourceType": c.level().String()}}
	}
	var asked []string
	for name := range strings.SplitSeq(c.header("Access-Control-Request-Headers"), ",") {
		if name = strings.ToLower(strings.TrimSpace(name)); name != "" {
			if !printable(name) {
				return bad("Invalid Access-Control-Request-Headers")
			}
			asked = append(asked, name)
		}
	}
	b, err := c.findBucket()
	if errors.Is(err, metadata.ErrNoSuchBucket) {
		return forbidden("Bucket not found")
	}
	if err != nil {
		return err
	}
	rules, err := corsRules(b)
	if err != nil {
		return err
	}
	if rules == nil {
		return forbidden("CORS is not enabled for this bucket.")
	}
	if !slices.Contains(corsMethods, method) {
		return bad("Invalid Access-Control-Request-Method: " + method)
	}
	rule, pattern := matchOrigin(rules, origin, method, asked)
	if rule == nil {
		return forbidden("This CORS request is not allowed. This is usually because the evalution of Origin, request method / Access-Control-Request-Method or Access-Control-Request-Headers are not whitelisted by the resource's CORS spec.")
	}
	c.allowOrigin(rule, pattern, origin)
	if len(asked) > 0 {
		c.w.Header()["Access-Control-Allow-Headers"] = []string{strings.Join(asked, ", ")}
	}
	c.done()
	return nil
}

// crossOrigin tells the browser whether the page may read the answer, whatever it
// turns out to be. A bucket that cannot be looked up allows nothing.
func (c *call) crossOrigin() {
	origin := c.header("Origin")
	if origin == "" || !printable(origin) || c.bucket == "" || !validBucketName(c.bucket) {
		return
	}
	b, err := c.findBucket()
	if err != nil {
		return // the request itself meets the same trouble, and answers it
	}
	rules, err := corsRules(b)
	if err != nil {
		c.api.Logger.Error("the CORS rules of a bucket cannot be read", "bucket", c.bucket, "err", err)
		return
	}
	if rule, pattern := matchOrigin(rules, origin, c.r.Method, nil); rule != nil {
		c.allowOrigin(rule, pattern, origin)
	}
}

// allowOrigin writes what a rule allows. A rule for all origins names none, and
// then credentials are out of the question.
func (c *call) allowOrigin(r *corsRule, pattern, origin string) {
	h := c.w.Header()
	if pattern == "*" {
		h["Access-Control-Allow-Origin"] = []string{"*"}
	} else {
		h["Access-Control-Allow-Origin"] = []string{origin}
		h["Access-Control-Allow-Credentials"] = []string{"true"}
	}
	h["Access-Control-Allow-Methods"] = []string{strings.Join(r.Methods, ", ")}
	if len(r.Expose) > 0 {
		h["Access-Control-Expose-Headers"] = []string{strings.Join(r.Expose, ", ")}
	}
	if r.MaxAge != nil {
		h["Access-Control-Max-Age"] = []string{strconv.Itoa(*r.MaxAge)}
	}
	h["Vary"] = []string{"Origin, Access-Control-Request-Headers, Access-Control-Request-Method"}
}

var corsMethods = []string{http.MethodGet, http.MethodPut, http.MethodPost, http.MethodDelete, http.MethodHead}
