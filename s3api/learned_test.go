package s3api_test

import (
	"crypto/md5"
	"encoding/base64"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"bivalve/metadata"
	"bivalve/s3api"
)

func md5of(s string) string {
	sum := md5.Sum([]byte(s))
	return base64.StdEncoding.EncodeToString(sum[:])
}

func TestLearned01CreateOwned(t *testing.T) {
	h := open(t)
	h.bucket("twice")
	h.bucket("twice")
	h.want(h.do("PUT", "/third", "<CreateBucketConfiguration><LocationConstraint>mars-1</LocationConstraint></CreateBucketConfiguration>"), 400, "InvalidLocationConstraint")
	h = open(t, func(c *s3api.Config) { c.Region = "eu-west-7" })
	h.signer.Region = "eu-west-7"
	h.bucket("twice")
	h.want(h.do("PUT", "/twice", ""), 409, "BucketAlreadyOwnedByYou")
	cfg := `<CreateBucketConfiguration xmlns="http://s3.amazonaws.com/doc/2006-03-01/"><LocationConstraint>%s</LocationConstraint></CreateBucketConfiguration>`
	h.want(h.do("PUT", "/other", fmt.Sprintf(cfg, "eu-west-7")), 200, "")
	h.want(h.do("PUT", "/third", fmt.Sprintf(cfg, "mars-1")), 400, "IllegalLocationConstraintException")
	h.want(h.do("PUT", "/third", "<Create/>"), 400, "MalformedXML")
	if a := h.do("GET", "/twice?location", ""); a.element("LocationConstraint") != "" || !strings.Contains(a.body, ">eu-west-7<") {
		t.Error(a.body)
	}
}

func TestLearned02And03EmptyDocuments(t *testing.T) {
	h := open(t)
	h.bucket("fresh")
	a := h.do("GET", "/fresh?location", "")
	h.want(a, 200, "")
	if !strings.HasSuffix(a.body, `<LocationConstraint xmlns="http://s3.amazonaws.com/doc/2006-03-01/"></LocationConstraint>`) {
		t.Error(a.body)
	}
	a = h.do("GET", "/fresh?versioning", "")
	h.want(a, 200, "")
	if !strings.HasSuffix(a.body, `<VersioningConfiguration xmlns="http://s3.amazonaws.com/doc/2006-03-01/"></VersioningConfiguration>`) {
		t.Error(a.body)
	}
	h.want(h.do("GET", "/absent?versioning", ""), 404, "NoSuchBucket")
}

func TestLearned04ContentEncoding(t *testing.T) {
	h := open(t)
	h.bucket("encoded")
	for given, kept := range map[string]string{"aws-chunked": "", "gzip,aws-chunked": "gzip", "aws-chunked, gzip": "gzip", "br": "br"} {
		h.want(h.do("PUT", "/encoded/x", "data", "Content-Encoding: "+given), 200, "")
		if a := h.do("HEAD", "/encoded/x", ""); a.Header.Get("Content-Encoding") != kept {
			t.Errorf("%q became %q", given, a.Header.Get("Content-Encoding"))
		}
	}
}

func TestLearned05Ranges(t *testing.T) {
	h := open(t)
	h.bucket("ranges")
	h.want(h.do("PUT", "/ranges/x", "0123456789"), 200, "")
	h.want(h.do("PUT", "/ranges/empty", ""), 200, "")
	for _, c := range []struct{ header, body, content string }{
		{"bytes=0-0", "0", "bytes 0-0/10"}, {"bytes=2-5", "2345", "bytes 2-5/10"}, {"bytes=-3", "789", "bytes 7-9/10"},
		{"bytes=8-", "89", "bytes 8-9/10"}, {"bytes=5-99999999999999999999", "56789", "bytes 5-9/10"}, {"bytes=-100", "0123456789", "bytes 0-9/10"},
	} {
		a := h.do("GET", "/ranges/x", "", "Range: "+c.header)
		if a.StatusCode != 206 || a.body != c.body || a.Header.Get("Content-Range") != c.content {
			t.Errorf("%s: %d %q %q", c.header, a.StatusCode, a.body, a.Header.Get("Content-Range"))
		}
	}
	for header, whole := range map[string]bool{"bytes=0-9": true, "bytes=0-": true, "bytes=-10": true, "bytes=0-100": true, "bytes=0-8": false, "bytes=1-": false} {
		a := h.do("GET", "/ranges/x", "", "Range: "+header, "X-Amz-Checksum-Mode: ENABLED")
		if a.StatusCode != 206 || (a.Header.Get("X-Amz-Checksum-Crc64nvme") != "") != whole {
			t.Errorf("%s: %d %v", header, a.StatusCode, a.Header)
		}
	}
	for _, r := range []string{"bytes=0-1,3-4", "bytes=5-2", "bytes=a-b", "bytes=-", "lines=1-2", "bytes=--1"} {
		if a := h.do("GET", "/ranges/x", "", "Range: "+r); a.StatusCode != 200 || a.body != "0123456789" {
			t.Errorf("%s: %d %q", r, a.StatusCode, a.body)
		}
	}
	for _, r := range []string{"bytes=10-", "bytes=-0", "bytes=9223372036854775808-", "bytes=99999999999999999999999-"} {
		a := h.do("GET", "/ranges/x", "", "Range: "+r)
		h.want(a, 416, "InvalidRange")
		if a.Header.Get("Content-Range") != "bytes */10" {
			t.Errorf("%s: %q", r, a.Header.Get("Content-Range"))
		}
	}
	h.want(h.do("GET", "/ranges/empty", "", "Range: bytes=0-"), 416, "InvalidRange")
	if a := h.do("GET", "/ranges/x", "", "Range: bytes=0-0", `If-Range: "other"`); a.StatusCode != 200 {
		t.Errorf("If-Range: %d", a.StatusCode)
	}
}

func TestLearned06PartNumber(t *testing.T) {
	h := open(t)
	h.bucket("numbers")
	h.want(h.do("PUT", "/numbers/x", "0123456789"), 200, "")
	a := h.do("GET", "/numbers/x?partNumber=1", "")
	if a.StatusCode != 206 || a.body != "0123456789" || a.Header.Get("X-Amz-Mp-Parts-Count") != "" {
		t.Errorf("%d %q %v", a.StatusCode, a.body, a.Header)
	}
	h.want(h.do("GET", "/numbers/x?partNumber=2", ""), 416, "InvalidPartNumber")
	h.want(h.do("GET", "/numbers/x?partNumber=0", ""), 400, "InvalidArgument")
	h.want(h.do("GET", "/numbers/x?partNumber=1", "", "Range: bytes=0-1"), 400, "InvalidRequest")
}

func TestLearned07Preconditions(t *testing.T) {
	h := open(t)
	h.bucket("conditions")
	put := h.do("PUT", "/conditions/x", "data")
	etag, past, future := put.Header.Get("ETag"), "Mon, 01 Jan 2001 00:00:00 GMT", time.Now().Add(48*time.Hour).UTC().Format(http.TimeFormat)
	modified := h.do("HEAD", "/conditions/x", "").Header.Get("Last-Modified")
	for header, want := range map[string]string{`If-Match: "no"`: "If-Match", "If-Unmodified-Since: " + past: "If-Unmodified-Since"} {
		if a := h.do("GET", "/conditions/x", "", header); a.element("Condition") != want {
			t.Errorf("%s: %s", header, a.body)
		}
		if a := h.do("PUT", "/conditions/y", "", "X-Amz-Copy-Source: conditions/x", "X-Amz-Copy-Source-"+header); a.element("Condition") != "x-amz-copy-source-"+want {
			t.Errorf("copy, %s: %s", header, a.body)
		}
	}
	for header, want := range map[string]string{`If-Match: "no"`: "If-Match", "If-None-Match: *": "If-None-Match"} {
		a := h.do("PUT", "/conditions/x", "new", header)
		if h.want(a, 412, "PreconditionFailed"); a.element("Condition") != want {
			t.Error(a.body)
		}
	}
	if a := h.do("DELETE", "/conditions", ""); a.element("BucketName") != "conditions" {
		t.Error(a.body)
	}
	for _, c := range []struct {
		headers []string
		status  int
	}{
		{[]string{"If-Match: " + etag}, 200}, {[]string{"If-Match: *"}, 200}, {[]string{`If-Match: "no"`}, 412},
		{[]string{"If-None-Match: " + etag}, 304}, {[]string{`If-None-Match: "no"`}, 200}, {[]string{"If-None-Match: *"}, 304},
		{[]string{"If-Modified-Since: " + past}, 200}, {[]string{"If-Modified-Since: " + future}, 200}, {[]string{"If-Modified-Since: " + modified}, 304},
		{[]string{"If-Unmodified-Since: " + past}, 412}, {[]string{"If-Unmodified-Since: " + future}, 200},
		{[]string{"If-Match: " + etag, "If-Unmodified-Since: " + past}, 200},
		{[]string{`If-None-Match: "no"`, "If-Modified-Since: " + modified}, 200},
		{[]string{"If-None-Match: " + etag, "If-Modified-Since: " + past}, 304},
		{[]string{"If-Modified-Since: junk"}, 200},
	} {
		for _, m := range []string{"GET", "HEAD"} {
			a := h.do(m, "/conditions/x", "", c.headers...)
			if a.StatusCode != c.status || a.StatusCode == 304 && (a.Header.Get("ETag") != etag || a.body != "") {
				t.Errorf("%s %v: %d, want %d", m, c.headers, a.StatusCode, c.status)
			}
		}
	}
}

func TestLearned08CopyOntoItself(t *testing.T) {
	h := open(t)
	h.bucket("itself")
	self := func(headers ...string) answer {
		return h.do("PUT", "/itself/a", "", append(headers, "X-Amz-Copy-Source: /itself/a")...)
	}
	h.want(h.do("PUT", "/itself/a", "data", "X-Amz-Storage-Class: REDUCED_REDUNDANCY"), 200, "")
	h.want(self(), 400, "InvalidRequest") // though it would become another class
	for range 2 {
		h.want(self("X-Amz-Storage-Class: STANDARD"), 200, "")
	}
	h.want(self("X-Amz-Metadata-Directive: COPY"), 400, "InvalidRequest")
	h.want(self("X-Amz-Tagging-Directive: REPLACE", "X-Amz-Tagging: a=b"), 400, "InvalidRequest")
	h.want(self(sse("", keyA)...), 200, "")
	h.want(self(sse("Copy-Source-", keyA)...), 200, "") // plain again
	h.want(self(), 400, "InvalidRequest")
	h.want(h.do("PUT", "/itself?encryption", "<ServerSideEncryptionConfiguration><Rule><ApplyServerSideEncryptionByDefault><SSEAlgorithm>AES256</SSEAlgorithm></ApplyServerSideEncryptionByDefault></Rule></ServerSideEncryptionConfiguration>"), 200, "")
	for range 2 {
		h.want(self(), 200, "")
	}
	if a := h.do("GET", "/itself/a", ""); a.body != "data" {
		t.Errorf("%d %s", a.StatusCode, a.body)
	}

	ids := func(a answer, made, copied string) {
		t.Helper()
		h.want(a, 200, "")
		if a.Header.Get("X-Amz-Version-Id") != made || a.Header.Get("X-Amz-Copy-Source-Version-Id") != copied {
			t.Errorf("made %q of %q, want %q of %q", a.Header.Get("X-Amz-Version-Id"), a.Header.Get("X-Amz-Copy-Source-Version-Id"), made, copied)
		}
	}
	ids(self(), "", "")
	for _, state := range []string{"Suspended", "Enabled", "Suspended"} {
		h.want(h.do("PUT", "/itself?versioning", "<VersioningConfiguration><Status>"+state+"</Status></VersioningConfiguration>"), 200, "")
		was := h.do("HEAD", "/itself/a", "").Header.Get("X-Amz-Version-Id")
		a := self()
		if was == "null" {
			was = ""
		}
		ids(a, h.do("HEAD", "/itself/a", "").Header.Get("X-Amz-Version-Id"), was)
	}
}

func TestLearned08CopyRules(t *testing.T) {
	h := open(t)
	h.bucket("copies")
	put := h.do("PUT", "/copies/a", "data", "X-Amz-Meta-Old: 1", "Content-Type: text/a")
	etag := put.Header.Get("ETag")
	const src = "X-Amz-Copy-Source: /copies/a"
	h.want(h.do("PUT", "/copies/a", "", src), 400, "InvalidRequest")
	a := h.do("PUT", "/copies/b", "", src)
	h.want(a, 200, "")
	if a.element("ETag") != strings.ReplaceAll(etag, `"`, "&quot;") {
		t.Error(a.body)
	}
	if a := h.do("HEAD", "/copies/b", ""); a.Header["X-Amz-Meta-Old"][0] != "1" || a.Header.Get("Content-Type") != "text/a" {
		t.Error(a.Header)
	}
	h.want(h.do("PUT", "/copies/a", "", src, "X-Amz-Metadata-Directive: REPLACE", "X-Amz-Meta-New: 2"), 200, "")
	if a := h.do("HEAD", "/copies/a", ""); a.Header.Get("X-Amz-Meta-Old") != "" || a.Header.Get("X-Amz-Meta-New") != "2" {
		t.Error(a.Header)
	}
	for headers, want := range map[string]string{
		"X-Amz-Copy-Source: /copies/absent":                                            "NoSuchKey",
		"X-Amz-Copy-Source: /absent/a":                                                 "NoSuchBucket",
		"X-Amz-Copy-Source: copies":                                                    "InvalidArgument",
		"X-Amz-Copy-Source: copies/":                                                   "InvalidArgument",
		"X-Amz-Copy-Source: copies/%zz":                                                "InvalidArgument",
		"X-Amz-Copy-Source: copies/..":                                                 "BadRequest",
		"X-Amz-Copy-Source: copies/a?versionId=../../x":                                "InvalidArgument",
		"X-Amz-Copy-Source: copies/a?versionId=abcdef":                                 "InvalidArgument",
		"X-Amz-Copy-Source: copies/a?versionId=null":                                   "",
		src + "\nX-Amz-Copy-Source-If-Match: \"no\"":                                   "PreconditionFailed",
		src + "\nX-Amz-Copy-Source-If-None-Match: " + etag:                             "PreconditionFailed",
		src + "\nX-Amz-Copy-Source-If-Match: " + etag:                                  "",
		src + "\nX-Amz-Copy-Source-If-Unmodified-Since: Mon, 01 Jan 2001 00:00:00 GMT": "PreconditionFailed",
		src + "\nX-Amz-Metadata-Directive: MOVE":                                       "InvalidArgument",
		src + "\nX-Amz-Checksum-Algorithm: SHA256":                                     "",
		src + "\nX-Amz-Checksum-Algorithm: MD4":                                        "InvalidRequest",
		src + "\nIf-None-Match: *":                                                     "PreconditionFailed",
	} {
		a := h.do("PUT", "/copies/b", "", strings.Split(headers, "\n")...)
		if a.code() != want {
			t.Errorf("%q: %q, want %q", headers, a.code(), want)
		}
		if want == "" {
			h.want(a, 200, "")
		}
	}
}

func TestLearned09DeleteNeedsDigest(t *testing.T) {
	h := open(t)
	h.bucket("deletes")
	h.want(h.do("PUT", "/deletes/a%26b", "x"), 200, "")
	doc := `<Delete><Object><Key>a&amp;b</Key></Object><Object><Key>..</Key></Object><Object><Key>c</Key><VersionId>zz/</VersionId></Object></Delete>`
	h.want(h.do("POST", "/deletes?delete", doc), 400, "InvalidRequest")
	h.want(h.do("POST", "/deletes?delete", doc, "Content-MD5: "+md5of("other")), 400, "BadDigest")
	a := h.do("POST", "/deletes?delete", doc, "Content-MD5: "+md5of(doc))
	if a.StatusCode != 200 || strings.Count(a.body, "<Deleted>") != 1 || strings.Count(a.body, "<Error>") != 2 || !strings.Contains(a.body, "<Key>a&amp;b</Key>") ||
		!strings.Contains(a.body, "<Key>c</Key><VersionId>zz/</VersionId><Code>NoSuchVersion</Code>") {
		t.Error(a.body)
	}
	quiet := `<Delete><Quiet>true</Quiet><Object><Key>q</Key></Object></Delete>`
	if a := h.do("POST", "/deletes?delete", quiet, "Content-MD5: "+md5of(quiet)); a.StatusCode != 200 || strings.Contains(a.body, "<Deleted>") {
		t.Error(a.body)
	}
	h.memory.Hook = func(op, _, key string) error {
		if op == "DeleteObject" && key == "locked" {
			return s3api.ErrAccessDenied
		}
		return nil
	}
	one := `<Delete><Object><Key>free</Key></Object><Object><Key>locked</Key></Object></Delete>`
	a = h.do("POST", "/deletes?delete", one, "Content-MD5: "+md5of(one))
	if a.StatusCode != 200 || a.code() != "AccessDenied" || strings.Count(a.body, "<Deleted>") != 1 {
		t.Error(a.body)
	}
}

// TestDeleteObjectsCondition: an ETag that says nothing must not delete as if there
// were no condition.
func TestDeleteObjectsCondition(t *testing.T) {
	h := open(t)
	h.bucket("conditions")
	for _, etag := range []string{"<ETag></ETag>", "<ETag/>", `<ETag>""</ETag>`, `<ETag>"a", "b"</ETag>`, "<ETag>other</ETag>"} {
		h.want(h.do("PUT", "/conditions/k", "x"), 200, "")
		doc := "<Delete><Object><Key>k</Key>" + etag + "</Object></Delete>"
		if a := h.do("POST", "/conditions?delete", doc, "Content-MD5: "+md5of(doc)); strings.Contains(a.body, "<Deleted>") || !strings.Contains(a.body, "<Error>") {
			t.Errorf("%s: %s", etag, a.body)
		}
		h.want(h.do("GET", "/conditions/k", ""), 200, "")
	}
	doc := "<Delete><Object><Key>k</Key><ETag>9dd4e461268c8034f5c8564e155c67a6</ETag></Object></Delete>"
	if a := h.do("POST", "/conditions?delete", doc, "Content-MD5: "+md5of(doc)); !strings.Contains(a.body, "<Deleted>") {
		t.Error(a.body)
	}
}

func TestLearned10And18Listing(t *testing.T) {
	h := open(t)
	h.bucket("list")
	for _, k := range []string{"a", "b/1", "b/2", "c", "d%20e"} {
		h.want(h.do("PUT", "/list/"+k, k), 200, "")
	}
	a := h.do("GET", "/list?max-keys=2", "")
	if a.element("IsTruncated") != "true" || a.element("NextMarker") != "" || a.element("MaxKeys") != "2" {
		t.Error(a.body)
	}
	a = h.do("GET", "/list?max-keys=2&delimiter=%2F", "")
	if a.element("NextMarker") != "b/" {
		t.Error(a.body)
	}
	if a = h.do("GET", "/list?max-keys=2&delimiter=%2F&marker=b%2F", ""); a.element("Key") != "c" || a.element("IsTruncated") != "false" {
		t.Error(a.body)
	}
	if a = h.do("GET", "/list?max-keys=5000", ""); a.element("MaxKeys") != "1000" {
		t.Error(a.body)
	}
	if a = h.do("GET", "/list?max-keys=0&list-type=2", ""); a.element("IsTruncated") != "false" || a.element("KeyCount") != "0" {
		t.Error(a.body)
	}
	if a = h.do("GET", "/list?encoding-type=url&prefix=d", ""); a.element("Key") != "d%20e" {
		t.Error(a.body)
	}
	a = h.do("GET", "/list?list-type=2&max-keys=1", "")
	token := a.element("NextContinuationToken")
	if a = h.do("GET", "/list?list-type=2&continuation-token="+token, ""); a.element("KeyCount") != "4" || a.element("ContinuationToken") != token {
		t.Error(a.body)
	}
	h.bucket("other")
	for target, code := range map[string]string{
		"/other?list-type=2&continuation-token=" + token: "InvalidArgument", "/list?list-type=2&continuation-token=x": "InvalidArgument",
		"/list?list-type=2&continuation-token=": "InvalidArgument", "/list?list-type=3": "InvalidArgument", "/list?max-keys=-1": "InvalidArgument",
		"/list?max-keys=abc": "InvalidArgument", "/list?encoding-type=xml": "InvalidArgument", "/list?prefix=%ff": "InvalidArgument",
		"/list?delimiter=" + strings.Repeat("x", 1025): "InvalidArgument", "/list?versions&version-id-marker=null": "InvalidArgument", "/list?versions&key-marker=a&version-id-marker=x": "InvalidArgument", "/list?foo": "NotImplemented",
		"/list?prefix=a&prefix=b": "InvalidArgument", "/list?prefix=a;b": "InvalidURI", "/list?prefix=%zz": "InvalidURI", "/absent": "NoSuchBucket",
	} {
		if a := h.do("GET", target, ""); a.code() != code {
			t.Errorf("%s: %q, want %q", target, a.code(), code)
		}
	}
	for i := range 3 {
		h.bucket(fmt.Sprintf("page-%d", i))
	}
	a = h.do("GET", "/?max-buckets=2&prefix=page-", "")
	if strings.Count(a.body, "<Bucket>") != 2 {
		t.Error(a.body)
	}
	if a = h.do("GET", "/?prefix=page-&continuation-token="+a.element("ContinuationToken"), ""); strings.Count(a.body, "<Bucket>") != 1 {
		t.Error(a.body)
	}
}

func TestLearned11UserMetadata(t *testing.T) {
	h := open(t)
	h.bucket("meta")
	h.want(h.do("PUT", "/meta/x", "1", "X-Amz-Meta-CamelCase: Value"), 200, "")
	// Go's client folds the names of headers, so look at the wire.
	r := h.request("HEAD", "/meta/x", "")
	h.signer.Sign(r)
	if raw := h.raw(wire(r, "")); !strings.Contains(raw, "\r\nx-amz-meta-camelcase: Value\r\n") {
		t.Error(raw)
	}
	h.want(h.do("PUT", "/meta/x", "1", "X-Amz-Meta-A: "+strings.Repeat("v", 2048)), 400, "MetadataTooLarge")
}

func TestLearned12DefaultChecksum(t *testing.T) {
	h := open(t)
	h.bucket("sums")
	a := h.do("PUT", "/sums/x", "123456789")
	if a.Header.Get("X-Amz-Checksum-Crc64nvme") != "rosUhgp5mIg=" || a.Header.Get("X-Amz-Checksum-Type") != "FULL_OBJECT" {
		t.Error(a.Header)
	}
	a = h.do("GET", "/sums/x", "", "X-Amz-Checksum-Mode: ENABLED")
	if a.Header.Get("X-Amz-Checksum-Crc64nvme") != "rosUhgp5mIg=" {
		t.Error(a.Header)
	}
	if a = h.do("GET", "/sums/x", ""); a.Header.Get("X-Amz-Checksum-Crc64nvme") != "" {
		t.Error(a.Header)
	}
}

func TestLearned13And20And22(t *testing.T) {
	h := open(t)
	h.bucket("misc")
	h.want(h.do("DELETE", "/misc/absent", ""), 204, "")
	a := h.do("HEAD", "/misc/absent", "")
	if a.StatusCode != 404 || a.body != "" {
		t.Errorf("%d %q", a.StatusCode, a.body)
	}
	h.want(h.do("PUT", "/misc/x", "1", "X-Amz-Acl: private"), 200, "")
	h.want(h.do("PUT", "/misc/x", "1", "X-Amz-Acl: bucket-owner-full-control"), 200, "")
	h.want(h.do("PUT", "/misc/x", "1", "X-Amz-Acl: public-read"), 400, "AccessControlListNotSupported")
	h.want(h.do("PUT", "/misc/x", "1", "X-Amz-Acl: mine"), 400, "InvalidArgument")
	h.want(h.do("PUT", "/misc/x", "1", "X-Amz-Grant-Read: id=1"), 400, "AccessControlListNotSupported")
	if a := h.do("HEAD", "/misc", ""); a.StatusCode != 200 || a.Header.Get("X-Amz-Bucket-Region") != "us-east-1" {
		t.Error(a.Header)
	}
	h.want(h.do("DELETE", "/misc", ""), 409, "BucketNotEmpty")
}

func TestLearned15LongComplete(t *testing.T) {
	for _, fails := range []bool{false, true} {
		h := open(t, func(c *s3api.Config) { c.KeepAlive = 5 * time.Millisecond })
		h.bucket("long")
		id := h.do("POST", "/long/x?uploads", "").element("UploadId")
		etag := h.do("PUT", "/long/x?partNumber=1&uploadId="+id, "data").Header.Get("ETag")
		beats := make(chan struct{})
		h.memory.Hook = func(op, _, _ string) error {
			if op == "CompleteUpload" {
				<-beats
				if fails {
					return metadata.ErrUnknownOutcome
				}
			}
			return nil
		}
		doc := "<CompleteMultipartUpload><Part><PartNumber>1</PartNumber><ETag>" + etag + "</ETag></Part></CompleteMultipartUpload>"
		r := h.request("POST", "/long/x?uploadId="+id, doc)
		h.signer.Sign(r)
		resp, err := http.DefaultTransport.RoundTrip(r)
		if err != nil {
			t.Fatal(err)
		}
		close(beats) // the header came while the house was still at work
		b, err := io.ReadAll(resp.Body)
		resp.Body.Close()
		if err != nil || resp.StatusCode != 200 || !strings.HasPrefix(string(b), "<?xml") {
			t.Errorf("%v: %d %v %q", fails, resp.StatusCode, err, b)
		}
		if fails != strings.Contains(string(b), "<Code>InternalError</Code>") || fails == strings.Contains(string(b), "<CompleteMultipartUploadResult") {
			t.Errorf("%v: %s", fails, b)
		}
	}
}

func TestLearned16ContentType(t *testing.T) {
	h := open(t)
	h.bucket("types")
	h.want(h.do("PUT", "/types/x", "1"), 200, "")
	if a := h.do("HEAD", "/types/x", ""); a.Header.Get("Content-Type") != "binary/octet-stream" {
		t.Error(a.Header)
	}
}

func TestLearned19DefaultOfUploads(t *testing.T) {
	h := open(t)
	h.bucket("uploads")
	id := h.do("POST", "/uploads/x?uploads", "").element("UploadId")
	a := h.do("PUT", "/uploads/x?partNumber=1&uploadId="+id, "123456789", "X-Amz-Checksum-Crc32: "+crc([]byte("123456789")))
	if a.Header.Get("X-Amz-Checksum-Crc32") != crc([]byte("123456789")) {
		t.Error(a.Header)
	}
	doc := "<CompleteMultipartUpload><Part><PartNumber>1</PartNumber><ETag>" + a.Header.Get("ETag") + "</ETag></Part></CompleteMultipartUpload>"
	a = h.do("POST", "/uploads/x?uploadId="+id, doc)
	if a.element("ChecksumCRC64NVME") != "rosUhgp5mIg=" || a.element("ChecksumType") != "FULL_OBJECT" {
		t.Error(a.body)
	}
}
