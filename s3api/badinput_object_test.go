package s3api_test

import (
	"bytes"
	"compress/gzip"
	"net/url"
	"slices"
	"strings"
	"testing"
)

func TestBadInputObjects(t *testing.T) {
	p := openWatched(t)
	for _, c := range []struct {
		row, headers string
		status       int
		code         string
	}{
		{"89 malformed", "Content-MD5: !!!!", 400, "InvalidDigest"},
		{"89 short", "Content-MD5: YWJj", 400, "InvalidDigest"},
		{"89 wrong", "Content-MD5: " + md5of("other"), 400, "BadDigest"},
		{"12 invalid UTF-8", "X-Amz-Meta-A: \xff", 400, "InvalidArgument"},
		{"12 content type", "Content-Type: text/\xfe", 400, "InvalidArgument"},
		{"98 etag", `If-None-Match: "abc"`, 501, "NotImplemented"},
		{"98 both", "If-Match: *\nIf-None-Match: *", 501, "NotImplemented"},
		{"98 list", `If-Match: "a", "b"`, 501, "NotImplemented"},
		{"98 time", "If-Unmodified-Since: Tue, 01 Jan 2019 00:00:00 GMT", 501, "NotImplemented"},
		{"100 storage class", "X-Amz-Storage-Class: COLD", 400, "InvalidStorageClass"},
		{"100 storage class, empty", "X-Amz-Storage-Class: ", 400, "InvalidStorageClass"},
		{"100 acl", "X-Amz-Acl: everybody", 400, "InvalidArgument"},
		{"100 checksum", "X-Amz-Checksum-Algorithm: MD5\nX-Amz-Sdk-Checksum-Algorithm: MD5", 400, "InvalidRequest"},
		{"100 metadata of 3 KiB", "X-Amz-Meta-A: " + strings.Repeat("m", 3<<10), 400, "MetadataTooLarge"},
	} {
		p.refused(c.row, p.do("PUT", "/bad/x", "new", strings.Split(c.headers, "\n")...), c.status, c.code)
	}
	p.refused("98 absent key", p.do("PUT", "/bad/absent", "new", `If-Match: "a"`), 404, "NoSuchKey")
	p.refusedRaw("88 short body", p.raw(wire(p.signed("PUT", "/bad/x"), "ab", "Content-Length: 3")), "400", "IncompleteBody")
	p.refused("94 range and part", p.do("GET", "/bad/x?partNumber=1", "", "Range: bytes=0-1"), 400, "InvalidRequest")
	p.refused("93 range of 2^63", p.do("GET", "/bad/x", "", "Range: bytes=9223372036854775808-"), 416, "InvalidRange")
	p.refused("96 junk", p.do("GET", "/bad/x?versionId=..%2F..%2Fx", ""), 400, "InvalidArgument")
	p.refused("96 on DELETE", p.do("DELETE", "/bad/x?versionId=%00", ""), 400, "InvalidArgument")
}

// Row 90: what calls itself gzip is kept as it came.
func TestBadInputGzipBomb(t *testing.T) {
	h := open(t)
	h.bucket("bomb")
	var b bytes.Buffer
	w := gzip.NewWriter(&b)
	_, _ = w.Write(make([]byte, 32<<20))
	_ = w.Close()
	h.want(h.do("PUT", "/bomb/x", b.String(), "Content-Encoding: gzip"), 200, "")
	a := h.do("GET", "/bomb/x", "", "Accept-Encoding: gzip")
	if a.body != b.String() || a.Header.Get("Content-Encoding") != "gzip" {
		t.Errorf("%d bytes came back of %d, encoding %q", len(a.body), b.Len(), a.Header.Get("Content-Encoding"))
	}
}

func TestBadInputKeys(t *testing.T) {
	p := openWatched(t)
	// 76, 80, 81: the same on the source and the target of a copy.
	for key, code := range map[string]string{"..": "BadRequest", "../x": "BadRequest", "a/../../b": "BadRequest", "%2e%2e%2fx": "BadRequest",
		"a%00b": "InvalidArgument", "%ff": "InvalidURI", "..%c0%af": "InvalidURI"} {
		p.refused("76 copy to "+key, p.do("PUT", "/bad/"+key, "", "X-Amz-Copy-Source: bad/x"), 400, code)
		p.refused("76 copy from "+key, p.do("PUT", "/bad/y", "", "X-Amz-Copy-Source: bad/"+key), 400, code)
	}
}

// Rows 82, 84 and 85: distinct names stay distinct, in the order of their bytes.
func TestBadInputDistinctKeys(t *testing.T) {
	h := open(t)
	h.bucket("names")
	keys := []string{"obj", "obj/x", "obj//x", "/obj", ".sys", ".uploads", ".uploads/x", "a/../b", "a//b", "caf\u00e9", "cafe\u0301",
		"\u202edlrow", "\U0001f600", "\ufffe", "tab\t", "line\nfeed", "%2e%2e%2f", "back\\slash", "..."}
	for _, k := range keys {
		h.want(h.do("PUT", "/names/"+url.PathEscape(k), k), 200, "")
	}
	slices.Sort(keys)
	a := h.do("GET", "/names?encoding-type=url", "")
	var listed []string
	for rest := a.body; ; {
		_, after, ok := strings.Cut(rest, "<Key>")
		if !ok {
			break
		}
		name, tail, _ := strings.Cut(after, "</Key>")
		plain, err := url.QueryUnescape(name)
		if err != nil {
			t.Fatal(err)
		}
		listed, rest = append(listed, plain), tail
	}
	if !slices.Equal(listed, keys) {
		t.Errorf("listed %q\nwant   %q", listed, keys)
	}
	for _, k := range keys {
		if a := h.do("GET", "/names/"+url.PathEscape(k), ""); a.body != k {
			t.Errorf("%q holds %q", k, a.body)
		}
	}
}
