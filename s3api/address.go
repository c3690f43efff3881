package s3api

import (
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strconv"
	"strings"
	"unicode/utf8"

	"bivalve/metadata"
	"bivalve/s3api/sigv4"
)

// locate finds bucket and key in the host name and the path as sent.
func (c *call) locate() error {
	path := sigv4.RawPath(c.r)
	if !strings.HasPrefix(path, "/") {
		return fail("InvalidURI")
	}
	rest := path[1:]
	if bucket := c.api.hostBucket(c.r.Host); bucket != "" {
		c.bucket, c.virtual = bucket, true
	} else {
		var raw string
		raw, rest, _ = strings.Cut(rest, "/")
		var err error
		if c.bucket, err = url.PathUnescape(raw); err != nil {
			return fail("InvalidURI")
		}
		if c.bucket == "" && rest != "" {
			return fail("InvalidURI")
		}
	}
	if rest == "" {
		return nil
	}
	key, err := url.PathUnescape(rest)
	if err != nil {
		return fail("InvalidURI")
	}
	c.key = key
	return checkKey(key)
}

// hostBucket answers the bucket of a virtual-host request, "" for path style.
func (a *api) hostBucket(host string) string {
	if h, _, err := net.SplitHostPort(host); err == nil {
		host = h
	}
	if strings.HasSuffix(host, ".localhost") {
		return strings.TrimSuffix(host, ".localhost")
	}
	for _, d := range a.Domains {
		if n := len(host) - len(d) - 1; n > 0 && host[n] == '.' && strings.EqualFold(host[n+1:], d) {
			return host[:n]
		}
	}
	return ""
}

// checkKey is the one rule for keys, wherever they come from. Keys are opaque
// bytes; only what climbs to or above the bucket itself is refused, because
// clients and proxies would rewrite it into another address.
func checkKey(key string) error {
	switch {
	case key == "":
		return argument("Key", "", "A key must be specified")
	case len(key) > metadata.MaxKeyBytes:
		return &apiError{code: "KeyTooLongError", fields: map[string]string{"Size": strconv.Itoa(len(key)), "MaxSizeAllowed": strconv.Itoa(metadata.MaxKeyBytes)}}
	case !utf8.ValidString(key):
		return fail("InvalidURI")
	case strings.IndexByte(key, 0) >= 0:
		return argument("Key", "", "A key must not contain a NUL byte")
	case strings.Contains(key, "."):
		depth, dots := 0, false
		for seg := range strings.SplitSeq(key, "/") {
			switch seg {
			case "":
			case ".":
				dots = true
			case "..":
				dots = true
				if depth--; depth < 0 {
					return fail("BadRequest")
				}
			default:
				depth++
			}
		}
		if dots && depth == 0 {
			return fail("BadRequest")
		}
	}
	return nil
}

// validBucketName follows "Bucket naming rules" of the Amazon S3 user guide.
func validBucketName(name string) bool {
	if len(name) < 3 || len(name) > 63 {
		return false
	}
	for i := 0; i < len(name); i++ {
		c := name[i]
		alnum := 'a' <= c && c <= 'z' || '0' <= c && c <= '9'
		if alnum {
			continue
		}
		if c != '-' && c != '.' || i == 0 || i == len(name)-1 {
			return false
		}
		if c == '.' && (name[i-1] == '.' || name[i-1] == '-') || c == '-' && name[i-1] == '.' {
			return false
		}
	}
	if _, err := netip.ParseAddr(name); err == nil || fourNumbers(name) {
		return false
	}
	for _, p := range []string{"xn--", "sthree-", "amzn-s3-demo-"} {
		if strings.HasPrefix(name, p) {
			return false
		}
	}
	for _, s := range []string{"-s3alias", "--ol-s3", ".mrap", "--x-s3", "--table-s3"} {
		if strings.HasSuffix(name, s) {
			return false
		}
	}
	return true
}

// fourNumbers tells whether the name is written like an IPv4 address.
func fourNumbers(name string) bool {
	parts := strings.Split(name, ".")
	for _, p := range parts {
		if strings.Trim(p, "0123456789") != "" {
			return false
		}
	}
	return len(parts) == 4
}

// resource is the path for error documents.
func resource(r *http.Request) string {
	p := sigv4.RawPath(r)
	if s, err := url.PathUnescape(p); err == nil && utf8.ValidString(s) {
		return s
	}
	return p
}
