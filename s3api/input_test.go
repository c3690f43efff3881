package s3api_test

import (
	"bytes"
	"encoding/base64"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"strings"
	"sync"
	"testing"

	"github.com/prometheus/client_golang/prometheus"

	"bivalve/metadata"
	"bivalve/s3api"
)

func TestKeys(t *testing.T) {
	h := open(t)
	h.bucket("keys")
	for _, k := range []string{"a%2F..%2Fb", "a/../b", "a//b", "/a", "a/", "...", "a/...", "%252e", "%5C..%5Cx", ".sys", ".uploads/x", "obj", "obj/x",
		"%C3%A9", "e%CC%81", "%F0%9F%98%80", "%01%1F", "a%0Ab", "a%2Bb%20c", "%EF%BF%BE", strings.Repeat("k", 1024)} {
		content := "content of " + k
		h.want(h.do("PUT", "/keys/"+k, content), 200, "")
		if a := h.do("GET", "/keys/"+k, ""); a.body != content {
			t.Errorf("%s: %d %q", k, a.StatusCode, a.body)
		}
		h.want(h.do("DELETE", "/keys/"+k, ""), 204, "")
	}
	for k, code := range map[string]string{".": "BadRequest", "..": "BadRequest", "../x": "BadRequest", "a/../../b": "BadRequest", "/..": "BadRequest", "a/..": "BadRequest",
		"%2e%2e%2fx": "BadRequest", "%2e": "BadRequest", "a%00b": "InvalidArgument", "%ff": "InvalidURI", "..%c0%af": "InvalidURI", strings.Repeat("k", 1025): "KeyTooLongError"} {
		for _, m := range []string{"GET", "PUT", "DELETE", "POST"} {
			if a := h.do(m, "/keys/"+k, ""); a.code() != code {
				t.Errorf("%s %s: %q, want %q", m, k, a.code(), code)
			}
		}
	}
}

func TestBucketNames(t *testing.T) {
	h := open(t)
	for _, n := range []string{"ab", strings.Repeat("a", 64), "Upper", "a_b", "a..b", "a-.b", "a.-b", "192.168.1.1", "xn--a", "a-s3alias", "-ab", "ab-", ".ab", "a%20b"} {
		h.want(h.do("PUT", "/"+n, ""), 400, "InvalidBucketName")
	}
	for _, n := range []string{"abc", strings.Repeat("a", 63), "a.b.c", "1-2", "192.168.1"} {
		h.want(h.do("PUT", "/"+n, ""), 200, "")
	}
}

func TestVirtualHost(t *testing.T) {
	h := open(t)
	h.bucket("house.of.keys")
	for _, host := range []string{"house.of.keys.localhost:9000", "house.of.keys.s3.example.com"} {
		r := h.request("PUT", "/dir/x", "hosted")
		r.Host = host
		h.signer.Sign(r)
		h.want(h.send(r), 200, "")
		r = h.request("GET", "/?prefix=dir", "")
		r.Host = host
		h.signer.Sign(r)
		if a := h.send(r); a.element("Key") != "dir/x" {
			t.Error(a.body)
		}
	}
	if a := h.do("GET", "/house.of.keys/dir/x", ""); a.body != "hosted" {
		t.Error(a.body)
	}
	r := h.request("GET", "/", "")
	r.Host = "s3.example.com"
	h.signer.Sign(r)
	if a := h.send(r); a.element("Name") != "house.of.keys" {
		t.Error(a.body)
	}
}

func TestUnsupported(t *testing.T) {
	h := open(t)
	h.bucket("uns")
	h.want(h.do("PUT", "/uns/x", "data"), 200, "")
	for _, c := range [][2]string{
		{"GET", "/uns?policy"}, {"GET", "/uns?website"}, {"PUT", "/uns?acl"}, {"GET", "/uns?foo"}, {"DELETE", "/uns?policy"},
		{"GET", "/uns/x?torrent"}, {"POST", "/uns/x?select&select-type=2"}, {"POST", "/uns/x?restore"},
		{"PUT", "/uns/x?acl"}, {"PUT", "/uns/x?partNumber=1"}, {"GET", "/?foo"},
	} {
		h.want(h.do(c[0], c[1], ""), 501, "NotImplemented")
	}
	for _, header := range []string{"X-Amz-Server-Side-Encryption: aws:kms", "X-Amz-Server-Side-Encryption-Aws-Kms-Key-Id: k", "X-Amz-Website-Redirect-Location: /x",
		"X-Amz-Something: new", "If-None-Match: \"etag\"", "X-Amz-Write-Offset-Bytes: 1"} {
		h.want(h.do("PUT", "/uns/x", "changed", header), 501, "NotImplemented")
	}
	h.want(h.do("PUT", "/uns/x", "changed", "If-Match: a", "If-None-Match: *"), 501, "NotImplemented")
	for _, class := range []string{"COLD", "GLACIER", "STANDARD_IA", "DEEP_ARCHIVE", "standard"} {
		h.want(h.do("PUT", "/uns/x", "changed", "X-Amz-Storage-Class: "+class), 400, "InvalidStorageClass")
	}
	h.want(h.do("PUT", "/uns/x", "changed", "X-Amz-Expected-Bucket-Owner: 111122223333"), 403, "AccessDenied")
	h.want(h.do("PUT", "/uns/x", "changed", "X-Amz-Meta-A: \xff"), 400, "InvalidArgument")
	h.want(h.do("DELETE", "/", ""), 405, "MethodNotAllowed")
	h.want(h.do("POST", "/uns/x", ""), 405, "MethodNotAllowed")
	if a := h.do("GET", "/uns/x?versionId=null", ""); a.body != "data" {
		t.Errorf("a refused PUT changed the object: %q", a.body)
	}
	h.want(h.do("GET", "/uns/x?versionId=abc", ""), 400, "InvalidArgument")
	h.want(h.do("GET", "/uns/x?versionId=..%2F..%2Fx", ""), 400, "InvalidArgument")
	h.want(h.do("DELETE", "/uns/x?versionId=", ""), 400, "InvalidArgument")
}

// TestDeclinedOffer: clients of the Java SDK before 2.30 offer to take an MD5 behind the bytes
// of every object, and read the object without one if the answer has none.
func TestDeclinedOffer(t *testing.T) {
	h := open(t)
	h.bucket("offers")
	h.want(h.do("PUT", "/offers/x", "data"), 200, "")
	a := h.do("GET", "/offers/x", "", "X-Amz-Te: append-md5")
	h.want(a, 200, "")
	if a.body != "data" || a.ContentLength != 4 || a.Header.Get("X-Amz-Transfer-Encoding") != "" {
		t.Errorf("%q %v", a.body, a.Header)
	}
	h.want(h.do("PUT", "/offers/x", "new", "X-Amz-Te: append-md5"), 501, "NotImplemented")
}

func TestConditionalWrites(t *testing.T) {
	h := open(t)
	h.bucket("cas")
	h.want(h.do("PUT", "/cas/x", "1", "If-Match: \"a\""), 404, "NoSuchKey")
	a := h.do("PUT", "/cas/x", "1", "If-None-Match: *")
	h.want(a, 200, "")
	h.want(h.do("PUT", "/cas/x", "2", "If-None-Match: *"), 412, "PreconditionFailed")
	h.want(h.do("PUT", "/cas/x", "2", "If-Match: *"), 501, "NotImplemented") // for deletes only
	h.want(h.do("PUT", "/cas/x", "2", "If-Match: \"other\""), 412, "PreconditionFailed")
	h.want(h.do("DELETE", "/cas/x", "", "If-Match: \"other\""), 412, "PreconditionFailed")
	h.want(h.do("PUT", "/cas/x", "2", "If-Match: "+a.Header.Get("ETag")), 200, "")
	h.want(h.do("DELETE", "/cas/x", "", "If-Match: *"), 204, "")
}

func TestMultipartInput(t *testing.T) {
	h := open(t)
	h.bucket("mps")
	id := h.do("POST", "/mps/x?uploads", "").element("UploadId")
	for _, n := range []string{"0", "-1", "10001", "abc", "1e3", "%2B1", "01", ""} {
		h.want(h.do("PUT", "/mps/x?uploadId="+id+"&partNumber="+n, "d"), 400, "InvalidArgument")
	}
	for _, u := range []string{"", "abc", "..%2F", strings.Repeat("0", 32), strings.ToUpper(id) + "0"} {
		h.want(h.do("PUT", "/mps/x?partNumber=1&uploadId="+u, "d"), 404, "NoSuchUpload")
	}
	h.want(h.do("PUT", "/mps/y?partNumber=1&uploadId="+id, "d"), 404, "NoSuchUpload")
	e1 := h.do("PUT", "/mps/x?partNumber=1&uploadId="+id, "one").Header.Get("ETag")
	e2 := h.do("PUT", "/mps/x?partNumber=2&uploadId="+id, "two").Header.Get("ETag")
	part := func(n, etag string) string {
		return "<Part><PartNumber>" + n + "</PartNumber><ETag>" + etag + "</ETag></Part>"
	}
	for name, c := range map[string]struct{ inner, code string }{
		"none": {"", "MalformedXML"}, "order": {part("2", e2) + part("1", e1), "InvalidPartOrder"}, "twice": {part("1", e1) + part("1", e1), "InvalidPartOrder"},
		"etag": {part("1", e2), "InvalidPart"}, "absent": {part("3", e1), "InvalidPart"}, "small": {part("1", e1) + part("2", e2), "EntityTooSmall"},
		"number": {part("x", e1), "MalformedXML"}, "element": {"<Partt/>", "MalformedXML"}, "double": {"<Part><ETag>a</ETag><ETag>b</ETag></Part>", "MalformedXML"},
		"doctype": {"<!DOCTYPE x>", "MalformedXML"}, "many": {strings.Repeat(part("1", e1), 10_001), "MalformedXML"},
	} {
		if a := h.do("POST", "/mps/x?uploadId="+id, "<CompleteMultipartUpload>"+c.inner+"</CompleteMultipartUpload>"); a.code() != c.code {
			t.Errorf("%s: %q, want %q", name, a.code(), c.code)
		}
	}
	doc := "<CompleteMultipartUpload>" + part("1", e1) + "</CompleteMultipartUpload>"
	h.want(h.do("POST", "/mps/x?uploadId="+id, ""), 400, "MalformedXML")
	h.want(h.do("POST", "/mps/x?uploadId="+id, doc, "X-Amz-Mp-Object-Size: 4"), 400, "InvalidRequest")
	gone := h.do("POST", "/mps/y?uploadId="+id, doc)
	if h.want(gone, 404, "NoSuchUpload"); gone.element("UploadId") != id {
		t.Error(gone.body)
	}
	// The upload named no checksum, so S3 knows none of its parts.
	seven := h.do("PUT", "/mps/x?partNumber=7&uploadId="+id, "data", "X-Amz-Checksum-Crc32: "+crc([]byte("data")))
	if h.want(seven, 200, ""); seven.Header.Get("X-Amz-Checksum-Crc32") == "" {
		t.Error(seven.Header)
	}
	h.want(h.do("POST", "/mps/x?uploadId="+id, "<CompleteMultipartUpload><Part><PartNumber>7</PartNumber><ETag>"+seven.Header.Get("ETag")+
		"</ETag><ChecksumCRC32>"+crc([]byte("data"))+"</ChecksumCRC32></Part></CompleteMultipartUpload>"), 400, "InvalidPart")
	seven = h.do("PUT", "/mps/x?partNumber=7&uploadId="+id, "data")
	if h.want(seven, 200, ""); seven.Header.Get("X-Amz-Checksum-Crc64nvme") != "" {
		t.Error(seven.Header)
	}
	h.want(h.do("POST", "/mps/x?uploadId="+id, doc, "X-Amz-Checksum-Type: COMPOSITE"), 400, "InvalidRequest")
	h.want(h.do("POST", "/mps/x?uploadId="+id, doc, "X-Amz-Checksum-Crc64nvme: AAAAAAAAAAA="), 400, "BadDigest")
	h.want(h.do("POST", "/mps/x?uploads", "", "X-Amz-Checksum-Algorithm: SHA1", "X-Amz-Checksum-Type: FULL_OBJECT"), 400, "InvalidRequest")
	for r, code := range map[string]string{"bytes=0-1": "", "bytes=1": "InvalidArgument", "bytes=-1": "InvalidArgument", "bytes=2-1": "InvalidArgument", "bytes=0-4": "InvalidArgument", "bytes=4-4": "InvalidRequest", "0-1": "InvalidArgument"} {
		h.do("PUT", "/mps/src", "data")
		if a := h.do("PUT", "/mps/x?partNumber=5&uploadId="+id, "", "X-Amz-Copy-Source: mps/src", "X-Amz-Copy-Source-Range: "+r); a.code() != code {
			t.Errorf("%s: %q, want %q", r, a.code(), code)
		}
	}
	a := h.do("GET", "/mps/x?max-parts=1&uploadId="+id, "")
	if a.element("IsTruncated") != "true" || a.element("NextPartNumberMarker") != "1" {
		t.Error(a.body)
	}
	h.do("POST", "/mps/dir%2Fy?uploads", "")
	if a = h.do("GET", "/mps?uploads", ""); a.element("IsTruncated") != "false" || a.element("NextKeyMarker") != "x" || a.element("NextUploadIdMarker") != id {
		t.Errorf("S3 names the last upload of the last page too: %s", a.body)
	}
	if a = h.do("GET", "/mps?uploads&prefix=z", ""); !strings.Contains(a.body, "<NextKeyMarker></NextKeyMarker><NextUploadIdMarker></NextUploadIdMarker>") {
		t.Error(a.body)
	}
	if a = h.do("GET", "/mps?uploads&delimiter=%2F", ""); strings.Count(a.body, "<Upload>") != 1 || !strings.Contains(a.body, "<CommonPrefixes><Prefix>dir/</Prefix>") {
		t.Error(a.body)
	}
	h.want(h.do("POST", "/mps/x?uploadId="+id, doc, "X-Amz-Mp-Object-Size: 3"), 200, "")
	h.want(h.do("DELETE", "/mps/x?uploadId="+id, ""), 404, "NoSuchUpload")
}

func TestXMLInput(t *testing.T) {
	h := open(t)
	h.bucket("xml")
	for name, doc := range map[string]string{
		"doctype": `<!DOCTYPE d [<!ENTITY x "y">]><Delete><Object><Key>&x;</Key></Object></Delete>`, "trailing": `<Delete><Object><Key>a</Key></Object></Delete>x`,
		"utf-16": "\xff\xfe<\x00", "root": `<Deleted/>`, "namespace": `<Delete xmlns="urn:x"><Object><Key>a</Key></Object></Delete>`, "none": "<Delete></Delete>",
		"deep": strings.Repeat("<Delete>", 200_000), "many": "<Delete>" + strings.Repeat("<Object><Key>a</Key></Object>", 1001) + "</Delete>",
		"quiet": "<Delete><Quiet>x</Quiet><Object><Key>a</Key></Object></Delete>",
	} {
		if a := h.do("POST", "/xml?delete", doc, "Content-MD5: "+md5of(doc)); a.StatusCode != 400 || a.code() != "MalformedXML" {
			t.Errorf("%s: %d %s", name, a.StatusCode, a.code())
		}
	}
	h.want(h.do("POST", "/xml?delete", "", "Content-MD5: "+md5of("")), 400, "MissingRequestBodyError")
	big := strings.Repeat(" ", 5<<20)
	h.want(h.do("POST", "/xml?delete", big, "Content-MD5: "+md5of(big)), 400, "MaxMessageLengthExceeded")
}

func TestHouseErrors(t *testing.T) {
	h := open(t)
	h.bucket("errs")
	for _, c := range []struct {
		err    error
		status int
		code   string
	}{
		{s3api.ErrSlowDown, 503, "SlowDown"}, {s3api.ErrServiceUnavailable, 503, "ServiceUnavailable"}, {fmt.Errorf("put: %w", metadata.ErrUnavailable), 503, "ServiceUnavailable"},
		{metadata.ErrUnknownOutcome, 500, "InternalError"}, {errors.New("other"), 500, "InternalError"}, {metadata.ErrConditionConflict, 409, "ConditionalRequestConflict"},
	} {
		h.memory.Hook = func(string, string, string) error { return c.err }
		a := h.do("PUT", "/errs/x", "data")
		h.want(a, c.status, c.code)
		if c.status == 503 && a.Header.Get("Retry-After") == "" {
			t.Error("no Retry-After")
		}
	}
	h.memory.Hook = func(string, string, string) error { panic("boom") }
	h.want(h.do("GET", "/errs/x", ""), 500, "InternalError")
}

// The log and the metrics never hold a signature.
func TestLogHoldsNoSecrets(t *testing.T) {
	var mu sync.Mutex
	var log bytes.Buffer
	reg := prometheus.NewRegistry()
	h := open(t, func(c *s3api.Config) {
		c.Logger = slog.New(slog.NewTextHandler(locked{&mu, &log}, &slog.HandlerOptions{Level: slog.LevelDebug}))
		c.Registry = reg
	})
	h.bucket("logs")
	r := h.request("GET", "/logs/x", "")
	h.signer.Presign(r, 1e10)
	sig := r.URL.Query().Get("X-Amz-Signature")
	h.send(r)
	r = h.request("GET", "/logs/x", "")
	sig2 := h.signer.Sign(r)
	h.send(r)
	// Keys of clients, and what signs a form, are no better in a log.
	h.want(h.do("PUT", "/logs/sealed", "data", sse("", keyA)...), 200, "")
	h.do("GET", "/logs/sealed", "", sse("", keyB)...)
	form := h.form("logs", upload{file: []byte("data")})
	h.want(h.send(form), 204, "")
	mu.Lock()
	out := log.String()
	mu.Unlock()
	if !strings.Contains(out, "op=GetObject") || strings.Contains(out, sig) || strings.Contains(out, sig2) || strings.Contains(out, h.signer.SecretKey) {
		t.Error(out)
	}
	for _, key := range []string{keyA, keyB} {
		if encoded := base64.StdEncoding.EncodeToString([]byte(key)); strings.Contains(out, key) || strings.Contains(out, encoded) {
			t.Errorf("the key of a client stands in the log:\n%s", out)
		}
	}
	if strings.Contains(out, "x-amz-signature") || strings.Contains(out, "aws4_request") {
		t.Errorf("the fields of a form stand in the log:\n%s", out)
	}
	families, err := reg.Gather()
	if err != nil || len(families) < 5 {
		t.Errorf("%d families, %v", len(families), err)
	}
}

type locked struct {
	mu *sync.Mutex
	b  *bytes.Buffer
}

func (l locked) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func TestTooManyRequests(t *testing.T) {
	h := open(t, func(c *s3api.Config) { c.MaxRequests = 1 })
	entered, leave := make(chan struct{}), make(chan struct{})
	h.bucket("busy")
	h.memory.Hook = func(string, string, string) error { close(entered); <-leave; return nil }
	r := h.signed("GET", "/busy")
	done := make(chan struct{})
	go func() {
		defer close(done)
		if resp, err := http.DefaultTransport.RoundTrip(r); err == nil {
			resp.Body.Close()
		}
	}()
	<-entered
	h.want(h.do("GET", "/busy", ""), 503, "SlowDown")
	close(leave)
	<-done
}

func TestConfigReportsEveryFault(t *testing.T) {
	_, err := s3api.New(s3api.Config{MaxRequests: -1})
	for _, want := range []string{"Buckets", "Objects", "Lister", "Uploads", "Sealed", "Credentials", "MaxRequests"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s is not in %v", want, err)
		}
	}
}

// TestErrorsSayWhat: some errors name what they are about, a copy's its source.
func TestErrorsSayWhat(t *testing.T) {
	h := open(t)
	h.bucket("what")
	for _, c := range []struct{ method, target, header, code, element, value string }{
		{"GET", "/nowhere/k", "", "NoSuchBucket", "BucketName", "nowhere"},
		{"GET", "/what/a%20key", "", "NoSuchKey", "Key", "a key"},
		{"GET", "/what/k?versionId=null", "", "NoSuchVersion", "VersionId", "null"},
		{"PUT", "/what/k", "X-Amz-Copy-Source: what/source", "NoSuchKey", "Key", "source"},
		{"PUT", "/what/k", "X-Amz-Copy-Source: elsewhere/source", "NoSuchBucket", "BucketName", "elsewhere"},
		{"PUT", "/what/k", "X-Amz-Copy-Source: what/source?versionId=null", "NoSuchVersion", "Key", "source"},
		{"PUT", "/what/k", "X-Amz-Tagging: key1=val1,key2=val2", "InvalidArgument", "ArgumentName", "x-amz-tagging"},
		{"PUT", "/what/k", "X-Amz-Tagging: key1=val1,", "InvalidTag", "TagKey", "key1"},
	} {
		var headers []string
		if c.header != "" {
			headers = []string{c.header}
		}
		if a := h.do(c.method, c.target, "", headers...); a.code() != c.code || a.element(c.element) != c.value {
			t.Errorf("%s %s %s: %s", c.method, c.target, c.header, a.body)
		}
	}
}
