package s3api_test

import (
	"crypto/md5"
	"encoding/base64"
	"strings"
	"testing"
)

const (
	keyA = "0123456789abcdef0123456789abcdef"
	keyB = "fedcba9876543210fedcba9876543210"
)

// sse are the headers of a client's key; prefix is "" or "Copy-Source-".
func sse(prefix, key string) []string {
	sum := md5.Sum([]byte(key))
	p := "X-Amz-" + prefix + "Server-Side-Encryption-Customer-"
	return []string{p + "Algorithm: AES256", p + "Key: " + base64.StdEncoding.EncodeToString([]byte(key)), p + "Key-Md5: " + base64.StdEncoding.EncodeToString(sum[:])}
}

func TestSSERegionKey(t *testing.T) {
	h := open(t)
	h.bucket("sse")
	const name = "X-Amz-Server-Side-Encryption"
	is := func(a answer, want string) {
		t.Helper()
		if a.StatusCode/100 != 2 || a.Header.Get(name) != want {
			t.Errorf("%s %s: %d, encryption %q, want %q", a.Request.Method, a.Request.URL, a.StatusCode, a.Header.Get(name), want)
		}
	}
	plain := h.do("PUT", "/sse/plain", "data")
	is(plain, "")
	a := h.do("PUT", "/sse/x", "data", name+": AES256")
	is(a, "AES256")
	if a.Header.Get("ETag") != plain.Header.Get("ETag") {
		t.Error("the ETag is not the MD5")
	}
	is(h.do("GET", "/sse/x", ""), "AES256")
	is(h.do("HEAD", "/sse/x", ""), "AES256")
	is(h.do("HEAD", "/sse/plain", ""), "")
	is(h.do("PUT", "/sse/copy", "", "X-Amz-Copy-Source: sse/plain", name+": AES256"), "AES256")
	is(h.do("PUT", "/sse/copy2", "", "X-Amz-Copy-Source: sse/x"), "") // the copy's own request decides
	is(h.do("PUT", "/sse/plain", "", "X-Amz-Copy-Source: sse/plain", name+": AES256"), "AES256")
	u := h.do("POST", "/sse/mp?uploads", "", name+": AES256")
	is(u, "AES256")
	p := h.do("PUT", "/sse/mp?partNumber=1&uploadId="+u.element("UploadId"), "part")
	is(p, "AES256")
	is(h.do("POST", "/sse/mp?uploadId="+u.element("UploadId"), "<CompleteMultipartUpload><Part><PartNumber>1</PartNumber><ETag>"+
		p.Header.Get("ETag")+"</ETag></Part></CompleteMultipartUpload>"), "AES256")

	h.want(h.do("GET", "/sse?encryption", ""), 404, "ServerSideEncryptionConfigurationNotFoundError")
	doc := func(rule string) string {
		return "<ServerSideEncryptionConfiguration><Rule>" + rule + "</Rule></ServerSideEncryptionConfiguration>"
	}
	by := func(inner string) string {
		return doc("<ApplyServerSideEncryptionByDefault>" + inner + "</ApplyServerSideEncryptionByDefault>")
	}
	h.want(h.do("PUT", "/sse?encryption", by("<SSEAlgorithm>AES256</SSEAlgorithm>")), 200, "")
	if a := h.do("GET", "/sse?encryption", ""); a.element("SSEAlgorithm") != "AES256" {
		t.Error(a.body)
	}
	is(h.do("PUT", "/sse/default", "data"), "AES256")
	is(h.do("POST", "/sse/default?uploads", ""), "AES256")
	h.want(h.do("PUT", "/sse/own", "data", sse("", keyA)...), 200, "")
	is(h.do("HEAD", "/sse/own", "", sse("", keyA)...), "")
	for body, code := range map[string]string{
		by("<SSEAlgorithm>aws:kms</SSEAlgorithm>"):                                   "NotImplemented",
		by("<SSEAlgorithm>AES256</SSEAlgorithm><KMSMasterKeyID>k</KMSMasterKeyID>"):  "InvalidArgument",
		by("<SSEAlgorithm>ROT13</SSEAlgorithm>"):                                     "MalformedXML",
		by("<SSEAlgorithm>AES256</SSEAlgorithm><SSEAlgorithm>AES256</SSEAlgorithm>"): "MalformedXML",
		doc(""):                                "MalformedXML",
		"":                                     "MissingRequestBodyError",
		"<ServerSideEncryptionConfiguration/>": "MalformedXML",
	} {
		if a := h.do("PUT", "/sse?encryption", body); a.code() != code {
			t.Errorf("%s: %s, want %s", body, a.code(), code)
		}
	}
	h.want(h.do("DELETE", "/sse?encryption", ""), 204, "")
	is(h.do("PUT", "/sse/default", "data"), "")
	h.want(h.do("PUT", "/absent?encryption", by("<SSEAlgorithm>AES256</SSEAlgorithm>")), 404, "NoSuchBucket")
}

func TestSSEClientKey(t *testing.T) {
	h := open(t)
	h.bucket("ssec")
	a := h.do("PUT", "/ssec/x", "0123456789", sse("", keyA)...)
	h.want(a, 200, "")
	sum := md5.Sum([]byte(keyA))
	told := func(a answer) {
		t.Helper()
		if a.Header.Get("X-Amz-Server-Side-Encryption-Customer-Algorithm") != "AES256" || a.Header.Get("X-Amz-Server-Side-Encryption-Customer-Key-Md5") != base64.StdEncoding.EncodeToString(sum[:]) {
			t.Errorf("%s %s: %v", a.Request.Method, a.Request.URL, a.Header)
		}
	}
	told(a)
	if plain := h.do("PUT", "/ssec/plain", "0123456789"); plain.Header.Get("ETag") == a.Header.Get("ETag") {
		t.Error("the ETag is the MD5 of the plain text")
	}
	for _, m := range []string{"GET", "HEAD"} {
		a := h.do(m, "/ssec/x", "", sse("", keyA)...)
		told(a)
		if m == "GET" && a.body != "0123456789" {
			t.Errorf("%q", a.body)
		}
		if a := h.do(m, "/ssec/x", ""); a.StatusCode != 400 {
			t.Errorf("%s without the key: %d", m, a.StatusCode)
		}
		if a := h.do(m, "/ssec/x", "", sse("", keyB)...); a.StatusCode != 403 {
			t.Errorf("%s with another key: %d", m, a.StatusCode)
		}
		if a := h.do(m, "/ssec/plain", "", sse("", keyA)...); a.StatusCode != 400 {
			t.Errorf("%s of a plain object with a key: %d", m, a.StatusCode)
		}
	}
	if a := h.do("GET", "/ssec/x", "", append(sse("", keyA), "Range: bytes=2-4")...); a.StatusCode != 206 || a.body != "234" {
		t.Errorf("%d %q", a.StatusCode, a.body)
	}
	h.want(h.do("GET", "/ssec/x?attributes", "", "X-Amz-Object-Attributes: ETag"), 400, "InvalidRequest")
	h.want(h.do("GET", "/ssec/x?attributes", "", append(sse("", keyA), "X-Amz-Object-Attributes: ETag")...), 200, "")
	h.want(h.do("GET", "/ssec/x", "", "X-Amz-Server-Side-Encryption: AES256"), 400, "InvalidArgument")

	// Copies: the source's key opens, the target's seals.
	from := "X-Amz-Copy-Source: ssec/x"
	h.want(h.do("PUT", "/ssec/y", "", from), 400, "InvalidRequest")
	h.want(h.do("PUT", "/ssec/y", "", append(sse("Copy-Source-", keyB), from)...), 403, "AccessDenied")
	h.want(h.do("PUT", "/ssec/y", "", append(append(sse("Copy-Source-", keyA), sse("", keyB)...), from)...), 200, "")
	if a := h.do("GET", "/ssec/y", "", sse("", keyB)...); a.body != "0123456789" {
		t.Error(a.body)
	}
	h.want(h.do("PUT", "/ssec/y", "", append(sse("Copy-Source-", keyA), from)...), 200, "")
	if a := h.do("GET", "/ssec/y", ""); a.body != "0123456789" {
		t.Error(a.body)
	}

	// Uploads: each part comes with the key that the upload began with.
	u := h.do("POST", "/ssec/mp?uploads", "", sse("", keyA)...)
	told(u)
	part := "/ssec/mp?partNumber=1&uploadId=" + u.element("UploadId")
	h.want(h.do("PUT", part, "part"), 400, "InvalidRequest")
	h.want(h.do("PUT", part, "part", sse("", keyB)...), 400, "InvalidRequest")
	h.want(h.do("PUT", part, "", append(append(sse("Copy-Source-", keyA), sse("", keyA)...), from)...), 200, "")
	p := h.do("PUT", part, "part", sse("", keyA)...)
	told(p)
	complete := "<CompleteMultipartUpload><Part><PartNumber>1</PartNumber><ETag>" + p.Header.Get("ETag") + "</ETag></Part></CompleteMultipartUpload>"
	h.want(h.do("POST", "/ssec/mp?uploadId="+u.element("UploadId"), complete, sse("", keyB)...), 400, "InvalidRequest")
	h.want(h.do("POST", "/ssec/mp?uploadId="+u.element("UploadId"), complete), 200, "")
	if a := h.do("GET", "/ssec/mp", "", sse("", keyA)...); a.body != "part" {
		t.Errorf("%d %s", a.StatusCode, a.body)
	}
	u = h.do("POST", "/ssec/mp2?uploads", "")
	h.want(h.do("PUT", "/ssec/mp2?partNumber=1&uploadId="+u.element("UploadId"), "part", sse("", keyA)...), 400, "InvalidRequest")

	// With a checksum the last request needs the key too.
	u = h.do("POST", "/ssec/mp3?uploads", "", append(sse("", keyA), "X-Amz-Checksum-Algorithm: CRC64NVME")...)
	p = h.do("PUT", "/ssec/mp3?partNumber=1&uploadId="+u.element("UploadId"), "part", sse("", keyA)...)
	complete = "<CompleteMultipartUpload><Part><PartNumber>1</PartNumber><ETag>" + p.Header.Get("ETag") + "</ETag></Part></CompleteMultipartUpload>"
	h.want(h.do("POST", "/ssec/mp3?uploadId="+u.element("UploadId"), complete), 400, "InvalidRequest")
	h.want(h.do("POST", "/ssec/mp3?uploadId="+u.element("UploadId"), complete, sse("", keyA)...), 200, "")
}

// Row 100: what is wrong with the headers of a key, and nothing is stored.
func TestSSEBadInput(t *testing.T) {
	p := openWatched(t)
	good := sse("", keyA)
	with := func(i int, value string) []string {
		out := append([]string{}, good...)
		name, _, _ := strings.Cut(out[i], ": ")
		out[i] = name + ": " + value
		return out
	}
	for row, c := range map[string]struct {
		headers []string
		status  int
		code    string
	}{
		"algorithm":         {with(0, "AES128"), 400, "InvalidEncryptionAlgorithmError"},
		"no algorithm":      {good[1:], 400, "InvalidArgument"},
		"no key":            {[]string{good[0], good[2]}, 400, "InvalidArgument"},
		"no digest":         {good[:2], 400, "InvalidArgument"},
		"short key":         {with(1, "YWJj"), 400, "InvalidArgument"},
		"key not base64":    {with(1, "!!!!"), 400, "InvalidArgument"},
		"digest of another": {with(2, sse("", keyB)[2][len("X-Amz-Server-Side-Encryption-Customer-Key-Md5: "):]), 400, "InvalidArgument"},
		"both kinds":        {append(good, "X-Amz-Server-Side-Encryption: AES256"), 400, "InvalidArgument"},
		"unknown kind":      {[]string{"X-Amz-Server-Side-Encryption: rot13"}, 400, "InvalidArgument"},
		"kms":               {[]string{"X-Amz-Server-Side-Encryption: aws:kms"}, 501, "NotImplemented"},
		"kms key":           {[]string{"X-Amz-Server-Side-Encryption-Aws-Kms-Key-Id: k"}, 501, "NotImplemented"},
	} {
		p.refused("100 "+row, p.do("PUT", "/bad/x", "new", c.headers...), c.status, c.code)
		p.refused("100 "+row, p.do("POST", "/bad/x?uploads", "", c.headers...), c.status, c.code)
	}
}
