package sigv4

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"
)

func verifier() *Verifier {
	return &Verifier{Region: "us-east-1", Now: func() time.Time { return time.Date(2013, 5, 24, 0, 0, 0, 0, time.UTC) },
		Secret: func(_ context.Context, k string) (string, error) {
			if k != "AKIAIOSFODNN7EXAMPLE" {
				return "", ErrUnknownAccessKey
			}
			return "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY", nil
		}}
}

// The worked examples of "Signature Calculations for the Authorization Header"
// and "Authenticating Requests: Using Query Parameters" in the Amazon S3 API reference.
func TestPublishedExamples(t *testing.T) {
	v := verifier()
	r := httptest.NewRequest("GET", "http://examplebucket.s3.amazonaws.com/test.txt", nil)
	r.Header.Set("Range", "bytes=0-9")
	r.Header.Set("X-Amz-Content-Sha256", EmptyHash)
	r.Header.Set("X-Amz-Date", "20130524T000000Z")
	r.Header.Set("Authorization", "AWS4-HMAC-SHA256 Credential=AKIAIOSFODNN7EXAMPLE/20130524/us-east-1/s3/aws4_request,SignedHeaders=host;range;x-amz-content-sha256;x-amz-date,Signature=f0e8bdb87c964420e857bd35b5d6ed310bd44f0170aba48dd91039c6036bdb41")
	a, err := v.Verify(r, nil)
	if err != nil || a.AccessKey != "AKIAIOSFODNN7EXAMPLE" || a.Payload.Mode != ModeHash {
		t.Errorf("header: %+v, %v", a, err)
	}
	r = httptest.NewRequest("GET", "https://examplebucket.s3.amazonaws.com/test.txt?X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential=AKIAIOSFODNN7EXAMPLE%2F20130524%2Fus-east-1%2Fs3%2Faws4_request&X-Amz-Date=20130524T000000Z&X-Amz-Expires=86400&X-Amz-SignedHeaders=host&X-Amz-Signature=aeeed9bbccd4d02ee5c0109b86d86835f995330da4c265957d157751f604d404", nil)
	if a, err = v.Verify(r, r.URL.Query()); err != nil || !a.Presigned {
		t.Errorf("query: %+v, %v", a, err)
	}
}

// The worked example of "Signature Calculations for the Authorization Header:
// Transferring Payload in Multiple Chunks".
func TestPublishedFrames(t *testing.T) {
	v := verifier()
	r := httptest.NewRequest("PUT", "http://s3.amazonaws.com/examplebucket/chunkObject.txt", nil)
	for n, val := range map[string]string{"X-Amz-Date": "20130524T000000Z", "X-Amz-Storage-Class": "REDUCED_REDUNDANCY",
		"X-Amz-Content-Sha256": StreamingSigned, "Content-Encoding": "aws-chunked", "X-Amz-Decoded-Content-Length": "66560", "Content-Length": "66824",
		"Authorization": "AWS4-HMAC-SHA256 Credential=AKIAIOSFODNN7EXAMPLE/20130524/us-east-1/s3/aws4_request,SignedHeaders=content-encoding;content-length;host;x-amz-content-sha256;x-amz-date;x-amz-decoded-content-length;x-amz-storage-class,Signature=4f232c4386841ef735655705268965c44a0e4690baa4adea153f7db9fa80a0a9"} {
		r.Header.Set(n, val)
	}
	r.ContentLength = 66824
	a, err := v.Verify(r, nil)
	if err != nil {
		t.Fatal(err)
	}
	as := strings.Repeat("a", 66560)
	body := "10000;chunk-signature=ad80c730a21e5b8d04586a2213dd63b9a0e99e0e2307b0ade35a65485a288648\r\n" + as[:65536] +
		"\r\n400;chunk-signature=0055627c9e194cb4542bae2aa5492e3c1575bbb81b612b7d234b86a503ef5497\r\n" + as[:1024] +
		"\r\n0;chunk-signature=b6c6ea8a5354eaf15b3cb7646744f4275b71ea724fed81ceb9323e279d449df9\r\n\r\n"
	if len(body) != 66824 {
		t.Fatal(len(body))
	}
	f := NewFrames(strings.NewReader(body), a, 66560, nil)
	defer f.Close()
	if got, err := io.ReadAll(f); err != nil || string(got) != as {
		t.Errorf("%d bytes, %v", len(got), err)
	}
}

func FuzzAuthorization(f *testing.F) {
	f.Add("AWS4-HMAC-SHA256 Credential=A/20130524/us-east-1/s3/aws4_request, SignedHeaders=host;x-amz-date, Signature=00", "20130524T000000Z", "a=b&c")
	v := verifier()
	f.Fuzz(func(t *testing.T, auth, date, query string) {
		r := httptest.NewRequest("GET", "http://host/", nil)
		r.Header["Authorization"] = []string{auth}
		r.Header["X-Amz-Date"] = []string{date}
		r.Header["X-Amz-Content-Sha256"] = []string{UnsignedPayload}
		r.URL.RawQuery = query
		q, err := url.ParseQuery(query)
		if err != nil {
			return
		}
		if a, err := v.Verify(r, q); err == nil {
			t.Errorf("forged: %+v", a)
		}
	})
}

// FuzzFrames: whatever comes, at most the declared bytes come out, and io.EOF
// only with exactly all of them.
func FuzzFrames(f *testing.F) {
	f.Add([]byte("5\r\nhello\r\n0\r\nx-amz-checksum-crc32:NhCmhg==\r\n\r\n"), int64(5))
	f.Add([]byte("0\r\n\r\n"), int64(0))
	f.Fuzz(func(t *testing.T, body []byte, total int64) {
		if total < 0 || total > 1<<20 {
			return
		}
		fr := NewFrames(bytes.NewReader(body), &Auth{Payload: Payload{Mode: ModeUnsignedTrailer}}, total, []string{"x-amz-checksum-crc32"})
		defer fr.Close()
		n, err := io.Copy(io.Discard, fr)
		if n > total || err == nil && (n != total || fr.Trailer() == nil) {
			t.Errorf("%d of %d bytes, %v", n, total, err)
		}
		if errors.Is(err, io.ErrUnexpectedEOF) {
			t.Error(err)
		}
	})
}

func BenchmarkVerify(b *testing.B) {
	v := verifier()
	r := httptest.NewRequest("GET", "http://examplebucket.s3.amazonaws.com/test.txt", nil)
	r.Header.Set("Range", "bytes=0-9")
	r.Header.Set("X-Amz-Content-Sha256", EmptyHash)
	r.Header.Set("X-Amz-Date", "20130524T000000Z")
	r.Header.Set("Authorization", "AWS4-HMAC-SHA256 Credential=AKIAIOSFODNN7EXAMPLE/20130524/us-east-1/s3/aws4_request,SignedHeaders=host;range;x-amz-content-sha256;x-amz-date,Signature=f0e8bdb87c964420e857bd35b5d6ed310bd44f0170aba48dd91039c6036bdb41")
	b.ReportAllocs()
	for b.Loop() {
		if _, err := v.Verify(r, nil); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkFrames(b *testing.B) {
	body := append([]byte("100000\r\n"), make([]byte, 1<<20)...)
	body = append(body, "\r\n0\r\n\r\n"...)
	auth := &Auth{Payload: Payload{Mode: ModeUnsignedTrailer}}
	buf := make([]byte, 256<<10)
	b.SetBytes(1 << 20)
	b.ReportAllocs()
	for b.Loop() {
		f := NewFrames(bytes.NewReader(body), auth, 1<<20, nil)
		for {
			if _, err := f.Read(buf); err == io.EOF {
				break
			} else if err != nil {
				b.Fatal(err)
			}
		}
		f.Close()
	}
}
