package s3api_test

import (
	"bytes"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"
)

func TestBadInputAuth(t *testing.T) {
	p := openWatched(t)
	// 42: what is signed are the bytes of the path and of the query.
	r := p.request("GET", "/bad?prefix=a%20b", "")
	p.signer.Sign(r)
	r.URL.RawQuery = "prefix=a+b"
	p.refused("42 plus for a space", p.send(r), 403, "SignatureDoesNotMatch")
	r = p.request("GET", "/bad/x%2541", "")
	p.signer.Sign(r)
	r.URL.Path, r.URL.RawPath = "/bad/xA", "/bad/x%41"
	p.refused("42 encoded once more", p.send(r), 403, "SignatureDoesNotMatch")

	// 45, 46, 48: the frames are not signed, the request must be.
	for row, spoil := range map[string]func(*http.Request){
		"45 wrong signature": func(r *http.Request) {
			a := r.Header.Get("Authorization")
			r.Header.Set("Authorization", a[:len(a)-64]+strings.Repeat("0", 64))
		},
		"48 anonymous": func(r *http.Request) { r.Header.Del("Authorization") },
	} {
		body := p.signer.Frames([]byte("new"), 64<<10, "", []string{"x-amz-checksum-crc32:" + crc([]byte("new"))})
		r, err := http.NewRequest("PUT", p.url+"/bad/x", bytes.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("X-Amz-Content-Sha256", modeUnsigned)
		r.Header.Set("X-Amz-Decoded-Content-Length", "3")
		r.Header.Set("X-Amz-Trailer", "x-amz-checksum-crc32")
		p.signer.Sign(r)
		spoil(r)
		code := "SignatureDoesNotMatch"
		if strings.HasPrefix(row, "48") {
			code = "AccessDenied"
		}
		p.refused(row, p.send(r), 403, code)
	}
	r = p.request("PUT", "/bad/x?X-Amz-Credential="+p.signer.AccessKey+"%2F20200101%2Fus-east-1%2Fs3%2Faws4_request", "new",
		"X-Amz-Content-Sha256: "+modeUnsigned, "X-Amz-Decoded-Content-Length: 3")
	p.refused("46 credential without signature", p.send(r), 400, "AuthorizationQueryParametersError")

	// 66: a URL presigned for one method is none for another.
	for _, m := range []string{"HEAD", "PUT", "DELETE", "POST"} {
		r := p.request("GET", "/bad/x", "")
		p.signer.Presign(r, time.Minute)
		r.Method = m
		a := p.send(r)
		if m == "HEAD" {
			if a.StatusCode != 403 {
				t.Errorf("row 66: HEAD of a URL presigned for GET: %d", a.StatusCode)
			}
			continue
		}
		p.refused("66 "+m, a, 403, "SignatureDoesNotMatch")
	}
}

// Row 49: whole frames in another order.
func TestBadInputSwappedFrames(t *testing.T) {
	h := open(t)
	h.bucket("frames")
	h.want(h.do("PUT", "/frames/x", "old"), 200, "")
	data := append(bytes.Repeat([]byte("a"), 10_000), bytes.Repeat([]byte("b"), 10_000)...)
	swap := func(b []byte) []byte {
		n := len(fmt.Sprintf("%x;chunk-signature=", 10_000)) + 64 + 4 + 10_000
		return append(append(append([]byte{}, b[n:2*n]...), b[:n]...), b[2*n:]...)
	}
	h.want(h.framed(modeSigned, data, 10_000, nil, swap), 403, "SignatureDoesNotMatch")
	if a := h.do("GET", "/frames/x", ""); a.body != "old" {
		t.Errorf("the object is %q now", a.body)
	}
}

// Row 33: a request that is sent again within its life does the same again.
func TestBadInputReplay(t *testing.T) {
	h := open(t)
	h.bucket("again")
	put := h.request("PUT", "/again/x", "data")
	h.signer.Sign(put)
	first := h.send(put)
	put.Body, _ = put.GetBody()
	second := h.send(put)
	if first.StatusCode != 200 || second.StatusCode != 200 || first.Header.Get("ETag") != second.Header.Get("ETag") {
		t.Errorf("%d %s, then %d %s", first.StatusCode, first.Header.Get("ETag"), second.StatusCode, second.Header.Get("ETag"))
	}
	del := h.signed("DELETE", "/again/x")
	for range 2 {
		h.want(h.send(del), 204, "")
	}
	h.want(h.do("GET", "/again/x", ""), 404, "NoSuchKey")
}
