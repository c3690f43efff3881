package s3api_test

import (
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"bivalve/s3api"
)

func TestHeaderAuth(t *testing.T) {
	h := open(t)
	h.bucket("auth")
	h.want(h.do("PUT", "/auth/x", "data"), 200, "")
	edit := func(f func(r *http.Request)) answer {
		r := h.request("GET", "/auth/x", "")
		h.signer.Sign(r)
		f(r)
		return h.send(r)
	}
	auth := func(old, new string) func(*http.Request) {
		return func(r *http.Request) {
			was := r.Header.Get("Authorization")
			now := strings.Replace(was, old, new, 1)
			if now == was {
				t.Fatalf("%q is not in %q", old, was)
			}
			r.Header.Set("Authorization", now)
		}
	}
	sig := func(f func(string) string) func(*http.Request) {
		return func(r *http.Request) {
			a := r.Header.Get("Authorization")
			i := strings.Index(a, "Signature=") + len("Signature=")
			r.Header.Set("Authorization", a[:i]+f(a[i:]))
		}
	}
	day := h.signer.Time.UTC().Format("20060102")
	for name, c := range map[string]struct {
		edit   func(*http.Request)
		status int
		code   string
	}{
		"good":           {func(*http.Request) {}, 200, ""},
		"none":           {func(r *http.Request) { r.Header.Del("Authorization") }, 403, "AccessDenied"},
		"unknown scheme": {auth("AWS4-HMAC-SHA256", "AWS2-HMAC-SHA1"), 400, "InvalidArgument"},
		"ecdsa":          {auth("AWS4-HMAC-SHA256", "AWS4-ECDSA-P256-SHA256"), 400, "InvalidArgument"},
		"sigv2":          {func(r *http.Request) { r.Header.Set("Authorization", "AWS AKID:abc=") }, 400, "InvalidRequest"},
		"sigv2 query": {func(r *http.Request) {
			r.Header.Del("Authorization")
			r.URL.RawQuery = "AWSAccessKeyId=a&Signature=b&Expires=1"
		}, 400, "InvalidRequest"},
		"no credential":     {auth("Credential=", "Credentia="), 400, "AuthorizationHeaderMalformed"},
		"no signed headers": {auth("SignedHeaders=", "Signed="), 400, "AuthorizationHeaderMalformed"},
		"no signature":      {auth("Signature=", "Sig="), 400, "AuthorizationHeaderMalformed"},
		"credential twice":  {auth("Signature=", "Credential=a/b/c/d/e, Signature="), 400, "AuthorizationHeaderMalformed"},
		"short credential":  {auth("/us-east-1/s3/aws4_request", ""), 400, "AuthorizationHeaderMalformed"},
		"other region":      {auth("us-east-1", "us-west-2"), 400, "AuthorizationHeaderMalformed"},
		"other service":     {auth("/s3/", "/ec2/"), 400, "AuthorizationHeaderMalformed"},
		"other day":         {auth(day, "20010101"), 400, "AuthorizationHeaderMalformed"},
		"unknown key":       {auth(h.signer.AccessKey, "AKIDOTHER"), 403, "InvalidAccessKeyId"},
		"upper case":        {sig(strings.ToUpper), 403, "SignatureDoesNotMatch"},
		"truncated":         {sig(func(s string) string { return s[:63] }), 403, "SignatureDoesNotMatch"},
		"one digit":         {sig(func(s string) string { return s[:63] + string('0'+(s[63]+1)%10) }), 403, "SignatureDoesNotMatch"},
		"junk date":         {func(r *http.Request) { r.Header.Set("X-Amz-Date", "yesterday") }, 403, "AccessDenied"},
		"no date":           {func(r *http.Request) { r.Header.Del("X-Amz-Date") }, 403, "AccessDenied"},
		"unsigned x-amz":    {func(r *http.Request) { r.Header.Set("X-Amz-Acl", "private") }, 403, "AccessDenied"},
		"absent signed":     {auth("SignedHeaders=host", "SignedHeaders=aaaa;host"), 403, "SignatureDoesNotMatch"},
		"host unsigned":     {auth("SignedHeaders=host;", "SignedHeaders="), 403, "AccessDenied"},
		"header and query":  {func(r *http.Request) { r.URL.RawQuery = "X-Amz-Signature=abc" }, 400, "InvalidArgument"},
		"no content hash":   {func(r *http.Request) { r.Header.Del("X-Amz-Content-Sha256") }, 400, "InvalidRequest"},
		"junk content hash": {func(r *http.Request) { r.Header.Set("X-Amz-Content-Sha256", "abc") }, 400, "InvalidArgument"},
		"ecdsa payload": {func(r *http.Request) {
			r.Header.Set("X-Amz-Content-Sha256", "STREAMING-AWS4-ECDSA-P256-SHA256-PAYLOAD")
		}, 501, "NotImplemented"},
		"token":           {func(r *http.Request) { r.Header.Set("X-Amz-Security-Token", "t") }, 400, "InvalidToken"},
		"other method":    {func(r *http.Request) { r.Method = "DELETE" }, 403, "SignatureDoesNotMatch"},
		"other path":      {func(r *http.Request) { r.URL.Path = "/auth/y" }, 403, "SignatureDoesNotMatch"},
		"slash as %2F":    {func(r *http.Request) { r.URL.Path, r.URL.RawPath = "/auth/x", "/auth%2Fx" }, 403, "SignatureDoesNotMatch"},
		"extra parameter": {func(r *http.Request) { r.URL.RawQuery = "versionId=null" }, 403, "SignatureDoesNotMatch"},
		"other host":      {func(r *http.Request) { r.Host = "auth.localhost" }, 403, "SignatureDoesNotMatch"},
	} {
		a := edit(c.edit)
		if a.StatusCode != c.status || a.code() != c.code {
			t.Errorf("%s: %d %s, want %d %s\n%s", name, a.StatusCode, a.code(), c.status, c.code, a.body)
		}
	}
	h.signer.SecretKey += "x"
	h.want(h.do("GET", "/auth/x", ""), 403, "SignatureDoesNotMatch")
}

func TestClockSkew(t *testing.T) {
	shift := time.Duration(0)
	h := open(t, func(c *s3api.Config) { c.Clock = func() time.Time { return time.Now().Add(shift) } })
	for _, s := range []time.Duration{14 * time.Minute, -14 * time.Minute} {
		shift = s
		h.want(h.do("GET", "/", ""), 200, "")
	}
	for _, s := range []time.Duration{16 * time.Minute, -16 * time.Minute} {
		shift = s
		h.want(h.do("GET", "/", ""), 403, "RequestTimeTooSkewed")
	}
}

// TestLearned21: response-* parameters count when they are signed, and only then.
func TestLearned21Presigned(t *testing.T) {
	shift := time.Duration(0)
	h := open(t, func(c *s3api.Config) { c.Clock = func() time.Time { return time.Now().Add(shift) } })
	h.bucket("auth")
	h.want(h.do("PUT", "/auth/x", "data"), 200, "")
	get := func(target string, edit func(r *http.Request)) answer {
		r := h.request("GET", target, "")
		h.signer.Presign(r, time.Minute)
		edit(r)
		return h.send(r)
	}
	query := func(f func(url.Values)) func(*http.Request) {
		return func(r *http.Request) {
			q := r.URL.Query()
			f(q)
			r.URL.RawQuery = q.Encode()
		}
	}
	set := func(name, value string) func(*http.Request) { return query(func(q url.Values) { q.Set(name, value) }) }
	const bad = "AuthorizationQueryParametersError"
	h.want(get("/auth/x", func(*http.Request) {}), 200, "")
	if a := get("/auth/x?response-content-type=text%2Fz", func(*http.Request) {}); a.Header.Get("Content-Type") != "text/z" {
		t.Error(a.Header)
	}
	h.want(get("/auth/x?response-content-type=a%0d%0ab", func(*http.Request) {}), 400, "InvalidArgument")
	for _, n := range []string{"Algorithm", "Credential", "Date", "Expires", "SignedHeaders", "Signature"} {
		h.want(get("/auth/x", query(func(q url.Values) { q.Del("X-Amz-" + n) })), 400, bad)
		h.want(get("/auth/x", query(func(q url.Values) { q.Add("X-Amz-"+n, "1") })), 400, bad)
	}
	for v, code := range map[string]string{"-1": bad, "abc": bad, "604801": bad, "": bad, "1e3": bad, "0": "AccessDenied", "61": "SignatureDoesNotMatch"} {
		if a := get("/auth/x", set("X-Amz-Expires", v)); a.code() != code {
			t.Errorf("expires %q: %s, want %s", v, a.code(), code)
		}
	}
	h.want(get("/auth/x", set("X-Amz-Algorithm", "AWS4-HMAC-SHA1")), 400, bad)
	h.want(get("/auth/x", set("versionId", "null")), 403, "SignatureDoesNotMatch")
	h.want(get("/auth/x", set("response-content-type", "text/html")), 403, "SignatureDoesNotMatch")
	h.want(get("/auth/x", set("X-Amz-Security-Token", "t")), 400, "InvalidToken")
	h.want(get("/auth/x", func(r *http.Request) { r.Method = "PUT" }), 403, "SignatureDoesNotMatch")
	h.want(get("/auth/x", func(r *http.Request) { r.URL.Path = "/auth/y" }), 403, "SignatureDoesNotMatch")
	h.want(get("/auth/x", func(r *http.Request) { r.Header.Set("Authorization", "AWS4-HMAC-SHA256 x") }), 400, "InvalidArgument")
	h.want(get("/auth/x", func(r *http.Request) { r.Header.Set("X-Amz-Acl", "private") }), 403, "AccessDenied")
	shift = 2 * time.Minute
	h.want(get("/auth/x", func(*http.Request) {}), 403, "AccessDenied")
	shift = -20 * time.Minute
	h.want(get("/auth/x", func(*http.Request) {}), 403, "AccessDenied")
}

// TestLearned25PresignedChecksum: clients presign the checksum of a body that they do not
// have yet.
func TestLearned25PresignedChecksum(t *testing.T) {
	h := open(t)
	h.bucket("auth")
	const empty = "?x-amz-checksum-crc32=AAAAAA%3D%3D&x-amz-sdk-checksum-algorithm=CRC32&x-id=PutObject"
	put := func(query, body string, headers ...string) answer {
		r := h.request("PUT", "/auth/x"+query, body, headers...)
		h.signer.Presign(r, time.Minute)
		return h.send(r)
	}
	h.want(put(empty, "data"), 200, "")
	if a := h.do("GET", "/auth/x", "", "X-Amz-Checksum-Mode: ENABLED"); a.body != "data" || a.Header.Get("X-Amz-Checksum-Crc32") != "" {
		t.Errorf("%q %v", a.body, a.Header)
	}
	h.want(put(empty, "data", "X-Amz-Checksum-Crc32: "+crc([]byte("data"))), 200, "")
	h.want(put(empty, "data", "X-Amz-Checksum-Crc32: AAAAAA=="), 400, "BadDigest")
	id := h.do("POST", "/auth/y?uploads", "").element("UploadId")
	r := h.request("PUT", "/auth/y"+strings.Replace(empty, "PutObject", "UploadPart", 1)+"&partNumber=1&uploadId="+id, "part")
	h.signer.Presign(r, time.Minute)
	h.want(h.send(r), 200, "")
	// What else stands in the query still counts.
	h.want(put("?x-amz-meta-a=1&x-amz-storage-class=ICE", "data"), 400, "InvalidStorageClass")
	for _, name := range []string{"x-amz-meta-my%20note", "X-Amz-Meta-a%3A%20b", "x-amz-acl%00"} { // no names of headers
		h.want(put("?"+name+"=1", "data"), 400, "InvalidArgument")
	}
}

// Every route refuses every request that is not well signed, and the house is
// not reached. A new route is in the table of routes and so is tested here.
func TestRoutesNeedAuth(t *testing.T) {
	h := open(t)
	h.bucket("auth")
	h.memory.Hook = func(op, _, _ string) error { t.Errorf("%s was reached", op); return nil }
	for _, target := range []string{"/", "/auth", "/auth?location", "/auth?versioning", "/auth?acl", "/auth?uploads", "/auth?list-type=2", "/auth?delete",
		"/auth/x", "/auth/x?attributes", "/auth/x?acl", "/auth/x?uploads", "/auth/x?uploadId=1", "/auth/x?uploadId=1&partNumber=1"} {
		for _, m := range []string{"GET", "HEAD", "PUT", "POST", "DELETE"} {
			for kind, spoil := range map[string]func(*http.Request){
				"unsigned":  func(r *http.Request) { r.Header.Del("Authorization") },
				"wrong key": func(r *http.Request) { s := h.signer; s.SecretKey = "no"; s.Sign(r) },
				"query only": func(r *http.Request) {
					r.Header.Del("Authorization")
					sep := "?"
					if r.URL.RawQuery != "" {
						sep = "&"
					}
					r.URL.RawQuery += strings.TrimPrefix(sep, "?") + "X-Amz-Credential=AKIDEXAMPLE%2F20200101%2Fus-east-1%2Fs3%2Faws4_request"
				},
				"streaming, unsigned": func(r *http.Request) {
					r.Header.Del("Authorization")
					r.Header.Set("X-Amz-Content-Sha256", "STREAMING-UNSIGNED-PAYLOAD-TRAILER")
				},
			} {
				r := h.request(m, target, "")
				h.signer.Sign(r)
				spoil(r)
				// A POST to a bucket is a form, which bears its signature inside.
				if a := h.send(r); a.StatusCode != 403 && a.StatusCode != 400 && !(a.StatusCode == 412 && m == "POST" && target == "/auth") {
					t.Errorf("%s %s %s: %d", kind, m, target, a.StatusCode)
				}
			}
		}
	}
}
