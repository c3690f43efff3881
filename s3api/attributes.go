package s3api

import (
	"strconv"
	"strings"
	"unicode/utf8"

	"bivalve/metadata"
)

// attributes reads what the client says about an object.
func (c *call) attributes() (metadata.Attributes, error) {
	a := metadata.Attributes{
		ContentType:        c.header("Content-Type"),
		CacheControl:       strings.Join(c.r.Header["Cache-Control"], ", "),
		ContentDisposition: c.header("Content-Disposition"),
		ContentEncoding:    withoutChunked(c.header("Content-Encoding")),
		ContentLanguage:    strings.Join(c.r.Header["Content-Language"], ", "),
		Expires:            c.header("Expires"),
		StorageClass:       keptClass(c.header("X-Amz-Storage-Class")),
	}
	for _, v := range []string{a.ContentType, a.CacheControl, a.ContentDisposition, a.ContentEncoding, a.ContentLanguage, a.Expires} {
		if !printable(v) {
			return a, argument("header", "", "Header values must be UTF-8 without control characters")
		}
	}
	size := 0
	for name, values := range c.r.Header {
		if !strings.HasPrefix(name, metaPrefix) {
			continue
		}
		key, value := strings.ToLower(name[len(metaPrefix):]), strings.Join(values, ",")
		if !token(key) || !printable(value) {
			return a, argument(strings.ToLower(name), "", "The name of metadata must be that of a header, its value UTF-8 without control characters")
		}
		if a.User == nil {
			a.User = make(map[string]string)
		}
		a.User[key] = value
		size += len(key) + len(value)
	}
	if size > c.api.MaxUserMetadata {
		return a, &apiError{code: "MetadataTooLarge", fields: map[string]string{"Size": strconv.Itoa(size), "MaxSizeAllowed": strconv.Itoa(c.api.MaxUserMetadata)}}
	}
	return a, nil
}

// withoutChunked drops aws-chunked from a Content-Encoding: it is framing, not a
// property of the object.
func withoutChunked(v string) string {
	if !strings.Contains(strings.ToLower(v), "aws-chunked") {
		return v
	}
	var keep []string
	for part := range strings.SplitSeq(v, ",") {
		if p := strings.TrimSpace(part); p != "" && !strings.EqualFold(p, "aws-chunked") {
			keep = append(keep, p)
		}
	}
	return strings.Join(keep, ",")
}

// printable tells whether a value may stand in a header.
func printable(v string) bool {
	for i := 0; i < len(v); i++ {
		if c := v[i]; c < ' ' && c != '\t' || c == 0x7f {
			return false
		}
	}
	return utf8.ValidString(v)
}

// token tells whether a name may be that of a header.
func token(name string) bool {
	for i := 0; i < len(name); i++ {
		if c := name[i]; c <= ' ' || c >= 0x7f || strings.IndexByte(`"(),/:;<=>?@[\]{}`, c) >= 0 {
			return false
		}
	}
	return name != ""
}

// condition reads If-Match and If-None-Match of a write.
func (c *call) condition() (metadata.Condition, error) {
	var out metadata.Condition
	match, none := c.r.Header["If-Match"], c.r.Header["If-None-Match"]
	switch {
	case len(match) > 0 && len(none) > 0:
		return out, notImplemented("If-Match with If-None-Match")
	case len(none) > 0:
		if strings.TrimSpace(none[0]) != "*" {
			return out, notImplemented("If-None-Match")
		}
		out.IfNoneMatchAny = true
	case len(match) > 0:
		var err error
		if out.IfMatch, err = matchOne(match[0]); err != nil {
			return out, err
		}
	}
	for _, name := range []string{"If-Modified-Since", "If-Unmodified-Since"} {
		if c.r.Header[name] != nil {
			return out, notImplemented(name)
		}
	}
	return out, nil
}

// writeCondition is condition for what makes an object: S3 takes If-Match with an ETag
// there, and with * at deletes only.
func (c *call) writeCondition() (metadata.Condition, error) {
	out, err := c.condition()
	if err == nil && out.IfMatch == "*" {
		err = notImplemented("If-Match")
	}
	return out, err
}

// matchOne reads the one ETag, or *, that a write may demand.
func matchOne(v string) (string, error) {
	etag := unquote(v)
	if etag == "" || strings.ContainsAny(etag, `", `) {
		return "", notImplemented("If-Match")
	}
	return etag, nil
}

// unquote strips the quotes of an ETag, if it has both.
func unquote(etag string) string {
	etag = strings.TrimSpace(etag)
	if len(etag) >= 2 && etag[0] == '"' && etag[len(etag)-1] == '"' {
		return etag[1 : len(etag)-1]
	}
	return etag
}
