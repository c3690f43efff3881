package s3api_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"hash/crc32"
	"net/http"
	"strings"
	"testing"
)

func crc(b []byte) string {
	n := crc32.ChecksumIEEE(b)
	return base64.StdEncoding.EncodeToString([]byte{byte(n >> 24), byte(n >> 16), byte(n >> 8), byte(n)})
}

const (
	modeSigned   = "STREAMING-AWS4-HMAC-SHA256-PAYLOAD"
	modeTrailer  = modeSigned + "-TRAILER"
	modeUnsigned = "STREAMING-UNSIGNED-PAYLOAD-TRAILER"
)

// framed sends data in frames; edit spoils the encoded body.
func (h *house) framed(mode string, data []byte, size int, trailers []string, edit func([]byte) []byte, headers ...string) answer {
	h.Helper()
	r := h.request("PUT", "/frames/x", "", append(headers, "X-Amz-Content-Sha256: "+mode, "Content-Encoding: aws-chunked")...)
	if r.Header.Get("X-Amz-Decoded-Content-Length") == "" {
		r.Header.Set("X-Amz-Decoded-Content-Length", fmt.Sprint(len(data)))
	}
	if len(trailers) > 0 && r.Header.Get("X-Amz-Trailer") == "" {
		name, _, _ := strings.Cut(trailers[0], ":")
		r.Header.Set("X-Amz-Trailer", name)
	}
	seed := h.signer.Sign(r)
	if mode == modeUnsigned {
		seed = ""
	}
	if mode == modeSigned {
		trailers = nil
	} else if trailers == nil {
		trailers = []string{}
	}
	body := h.signer.Frames(data, size, seed, trailers)
	if edit != nil {
		body = edit(body)
	}
	r2, _ := http.NewRequest("PUT", r.URL.String(), bytes.NewReader(body))
	r2.Header = r.Header
	return h.send(r2)
}

func TestFramesGood(t *testing.T) {
	h := open(t)
	h.bucket("frames")
	for _, n := range []int{0, 1, 8191, 8192, 100_000, 1 << 20} {
		data := blob(n)
		sum := "x-amz-checksum-crc32:" + crc(data)
		for mode, trailers := range map[string][]string{modeSigned: nil, modeTrailer: {sum}, modeUnsigned: {sum}} {
			a := h.framed(mode, data, 64<<10, trailers, nil)
			h.want(a, 200, "")
			if trailers != nil && a.Header.Get("X-Amz-Checksum-Crc32") != crc(data) {
				t.Error(a.Header)
			}
			if a = h.do("GET", "/frames/x", ""); a.body != string(data) {
				t.Errorf("%s: %d bytes of %d", mode, len(a.body), n)
			}
		}
	}
}

// TestLearned17BareTrailer: a line feed and an empty line end the trailer.
func TestLearned17BareTrailer(t *testing.T) {
	h := open(t)
	h.bucket("frames")
	data := blob(10)
	bare := func(b []byte) []byte {
		return bytes.Replace(b, []byte(crc(data)+"\r\n"), []byte(crc(data)+"\n\r\n"), 1)
	}
	for _, mode := range []string{modeTrailer, modeUnsigned} {
		h.want(h.framed(mode, data, 64<<10, []string{"x-amz-checksum-crc32:" + crc(data)}, bare), 200, "")
	}
}

func TestFramesBad(t *testing.T) {
	h := open(t)
	h.bucket("frames")
	data := blob(40_000)
	good := "x-amz-checksum-crc32:" + crc(data)
	replace := func(old, new string) func([]byte) []byte {
		return func(b []byte) []byte {
			if !bytes.Contains(b, []byte(old)) {
				t.Fatalf("%q is not there", old)
			}
			return bytes.Replace(b, []byte(old), []byte(new), 1)
		}
	}
	flip := func(n int) func([]byte) []byte { // one digit of the n-th signature
		return func(b []byte) []byte {
			at := 0
			for range n {
				at += bytes.Index(b[at:], []byte("signature=")) + 10
			}
			b[at] ^= 1
			return b
		}
	}
	last := func(b []byte) int { return bytes.LastIndex(b, []byte("\r\n0")) + 2 }
	for name, c := range map[string]struct {
		mode     string
		size     int
		trailers []string
		edit     func([]byte) []byte
		headers  []string
		status   int
		code     string
	}{
		"first signature":    {modeSigned, 10_000, nil, flip(1), nil, 403, "SignatureDoesNotMatch"},
		"middle signature":   {modeSigned, 10_000, nil, flip(3), nil, 403, "SignatureDoesNotMatch"},
		"last signature":     {modeSigned, 10_000, nil, flip(5), nil, 403, "SignatureDoesNotMatch"},
		"changed byte":       {modeSigned, 10_000, nil, func(b []byte) []byte { b[200] ^= 1; return b }, nil, 403, "SignatureDoesNotMatch"},
		"small frame":        {modeSigned, 8191, nil, nil, nil, 400, "InvalidChunkSizeError"},
		"small frame 2":      {modeUnsigned, 8191, []string{good}, nil, nil, 400, "InvalidChunkSizeError"},
		"no last frame":      {modeSigned, 10_000, nil, func(b []byte) []byte { return b[:last(b)] }, nil, 400, "IncompleteBody"},
		"ends in a frame":    {modeSigned, 10_000, nil, func(b []byte) []byte { return b[:25_000] }, nil, 400, "IncompleteBody"},
		"bytes behind":       {modeSigned, 10_000, nil, func(b []byte) []byte { return append(b, "GET /"...) }, nil, 400, "IncompleteBody"},
		"frames behind":      {modeUnsigned, 64 << 10, []string{good}, func(b []byte) []byte { return append(b, b...) }, nil, 400, "MalformedTrailerError"},
		"declared too small": {modeUnsigned, 64 << 10, []string{good}, nil, []string{"X-Amz-Decoded-Content-Length: 39999"}, 400, "IncompleteBody"},
		"declared too large": {modeUnsigned, 64 << 10, []string{good}, nil, []string{"X-Amz-Decoded-Content-Length: 40001"}, 400, "IncompleteBody"},
		"length missing":     {modeUnsigned, 64 << 10, []string{good}, nil, []string{"X-Amz-Decoded-Content-Length: x"}, 411, "MissingContentLength"},
		"trailer missing":    {modeUnsigned, 64 << 10, nil, nil, []string{"X-Amz-Trailer: x-amz-checksum-crc32"}, 400, "MalformedTrailerError"},
		"trailer undeclared": {modeUnsigned, 64 << 10, []string{good}, nil, []string{"X-Amz-Trailer: x-amz-checksum-sha1"}, 400, "MalformedTrailerError"},
		"trailer twice":      {modeUnsigned, 64 << 10, []string{good, good}, nil, nil, 400, "MalformedTrailerError"},
		"trailer other":      {modeUnsigned, 64 << 10, []string{good, "x-other:1"}, nil, nil, 400, "MalformedTrailerError"},
		"trailer unknown":    {modeUnsigned, 64 << 10, []string{"x-other:1"}, nil, nil, 400, "InvalidRequest"},
		"trailer signature":  {modeTrailer, 64 << 10, []string{good}, replace("trailer-signature:", "trailer-signature:0"), nil, 403, "SignatureDoesNotMatch"},
		"trailer unsigned":   {modeTrailer, 64 << 10, []string{good}, func(b []byte) []byte { return append(b[:bytes.Index(b, []byte("x-amz-trailer-s"))], "\r\n"...) }, nil, 400, "MalformedTrailerError"},
		"trailer changed":    {modeTrailer, 64 << 10, []string{good}, replace(crc(data), "AAAAAA=="), nil, 403, "SignatureDoesNotMatch"},
		"checksum wrong":     {modeUnsigned, 64 << 10, []string{"x-amz-checksum-crc32:AAAAAA=="}, nil, nil, 400, "BadDigest"},
		"checksum junk":      {modeUnsigned, 64 << 10, []string{"x-amz-checksum-crc32:AAAA"}, nil, nil, 400, "InvalidRequest"},
		"bare line feed":     {modeUnsigned, 64 << 10, []string{good}, replace("9c40\r\n", "9c40\n"), nil, 400, "IncompleteBody"},
		"negative size":      {modeUnsigned, 64 << 10, []string{good}, replace("9c40\r\n", "-9c40\r\n"), nil, 400, "IncompleteBody"},
		"huge size":          {modeUnsigned, 64 << 10, []string{good}, replace("9c40\r\n", "ffffffffffffffffff\r\n"), nil, 400, "IncompleteBody"},
		"signed as unsigned": {modeUnsigned, 64 << 10, []string{good}, replace("9c40\r\n", "9c40;chunk-signature=00\r\n"), nil, 400, "IncompleteBody"},
	} {
		a := h.framed(c.mode, data, c.size, c.trailers, c.edit, c.headers...)
		if a.StatusCode != c.status || a.code() != c.code {
			t.Errorf("%s: %d %s, want %d %s\n%s", name, a.StatusCode, a.code(), c.status, c.code, a.body)
		}
		h.want(h.do("GET", "/frames/x", ""), 404, "NoSuchKey")
	}
}

func TestBodyClaims(t *testing.T) {
	h := open(t)
	h.bucket("claims")
	sum := sha256.Sum256([]byte("data"))
	hexSum, b64 := hex.EncodeToString(sum[:]), base64.StdEncoding.EncodeToString(sum[:])
	other := strings.Repeat("0", 64)
	for _, c := range []struct {
		headers string
		code    string
	}{
		{"X-Amz-Content-Sha256: " + hexSum, ""},
		{"X-Amz-Content-Sha256: " + other, "XAmzContentSHA256Mismatch"},
		{"X-Amz-Content-Sha256: " + strings.ToUpper(hexSum), "InvalidArgument"},
		{"X-Amz-Content-Sha256: " + hexSum + "\nX-Amz-Checksum-Sha256: " + b64, ""},
		{"Content-MD5: " + md5of("data"), ""},
		{"Content-MD5: " + md5of("other"), "BadDigest"},
		{"Content-MD5: abc", "InvalidDigest"},
		{"X-Amz-Checksum-Crc32: " + crc([]byte("data")), ""},
		{"X-Amz-Checksum-Crc32: AAAAAA==", "BadDigest"},
		{"X-Amz-Checksum-Crc32: AAAA", "InvalidRequest"},
		{"X-Amz-Checksum-Crc32: " + crc([]byte("data")) + "\nX-Amz-Checksum-Sha256: " + b64, "InvalidRequest"},
		{"X-Amz-Checksum-Md5: AAAA", "NotImplemented"},
		{"X-Amz-Sdk-Checksum-Algorithm: CRC32", "InvalidRequest"},
		{"X-Amz-Sdk-Checksum-Algorithm: SHA1\nX-Amz-Checksum-Crc32: " + crc([]byte("data")), "InvalidRequest"},
		{"X-Amz-Trailer: x-amz-checksum-crc32", "InvalidRequest"},
	} {
		a := h.do("PUT", "/claims/x", "data", strings.Split(c.headers, "\n")...)
		if a.code() != c.code {
			t.Errorf("%q: %q, want %q", c.headers, a.code(), c.code)
		}
		if c.code != "" {
			h.want(h.do("GET", "/claims/x", ""), 404, "NoSuchKey")
		}
		h.do("DELETE", "/claims/x", "")
	}
	h.want(h.do("PUT", "/claims/x", "", "X-Amz-Content-Sha256: "+other), 400, "XAmzContentSHA256Mismatch")
}
