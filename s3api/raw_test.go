package s3api_test

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"bivalve/metadata"
	"bivalve/s3api"
)

// wire writes a request as it goes over the socket, with other bytes as body.
func wire(r *http.Request, body string, extra ...string) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s %s HTTP/1.1\r\nHost: %s\r\n", r.Method, r.URL.RequestURI(), r.Host)
	for n, vs := range r.Header {
		for _, v := range vs {
			fmt.Fprintf(&b, "%s: %s\r\n", n, v)
		}
	}
	for _, e := range extra {
		b.WriteString(e + "\r\n")
	}
	return b.String() + "\r\n" + body
}

// raw sends bytes, half-closes and answers all that comes back.
func (h *house) raw(request string) string {
	h.Helper()
	return exchange(h.T, h.addr, request)
}

func (h *house) signed(method, target string, headers ...string) *http.Request {
	r := h.request(method, target, "", headers...)
	h.signer.Sign(r)
	return r
}

func TestRawInput(t *testing.T) {
	h := open(t)
	h.bucket("raw")
	put := func(headers ...string) *http.Request { return h.signed("PUT", "/raw/x", headers...) }
	host := h.addr
	part := "/raw/x?partNumber=1&uploadId=" + h.do("POST", "/raw/x?uploads", "").element("UploadId")
	for name, c := range map[string]struct{ in, status, code string }{
		"two lengths":                 {wire(put(), "ab", "Content-Length: 1", "Content-Length: 2"), "400", ""},
		"plus length":                 {wire(put(), "a", "Content-Length: +1"), "400", ""},
		"negative length":             {wire(put(), "a", "Content-Length: -1"), "400", ""},
		"huge length":                 {wire(put(), "a", "Content-Length: 9223372036854775808"), "400", ""},
		"no length":                   {wire(put(), ""), "411", "MissingContentLength"},
		"over 5 GiB":                  {wire(put(), "", "Content-Length: 5368709121"), "400", "EntityTooLarge"},
		"part over 5 GiB":             {wire(h.signed("PUT", part), "", "Content-Length: 5368709121"), "400", "EntityTooLarge"},
		"framed part over 5 GiB":      {wire(h.signed("PUT", part, "X-Amz-Content-Sha256: STREAMING-UNSIGNED-PAYLOAD-TRAILER", "X-Amz-Decoded-Content-Length: 5368709121"), "", "Content-Length: 5368800000"), "400", "EntityTooLarge"},
		"gzip, chunked":               {wire(put(), "0\r\n\r\n", "Transfer-Encoding: gzip, chunked"), "501", ""},
		"chunked":                     {wire(put(), "1\r\na\r\n0\r\n\r\n", "Transfer-Encoding: chunked"), "501", "NotImplemented"},
		"length and chunked":          {wire(put(), "1\r\na\r\n0\r\n\r\nGET / HTTP/1.1\r\n\r\n", "Content-Length: 4", "Transfer-Encoding: chunked"), "501", "NotImplemented"},
		"short body":                  {wire(put(), "abc", "Content-Length: 10"), "400", "IncompleteBody"},
		"no host":                     {"GET / HTTP/1.1\r\n\r\n", "400", ""},
		"two hosts":                   {"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", "400", ""},
		"space before colon":          {"GET / HTTP/1.1\r\nHost: a\r\nX : b\r\n\r\n", "400", ""},
		"nul in header":               {"GET / HTTP/1.1\r\nHost: a\r\nX: b\x00\r\n\r\n", "400", ""},
		"header over 64 KiB":          {"GET / HTTP/1.1\r\nHost: a\r\nX: " + strings.Repeat("x", 80<<10) + "\r\n\r\n", "431", ""},
		"header over 8 KiB":           {"GET / HTTP/1.1\r\nHost: a\r\nX: " + strings.Repeat("x", 9<<10) + "\r\n\r\n", "400", "RequestHeaderSectionTooLarge"},
		"TRACE":                       {"TRACE / HTTP/1.1\r\nHost: a\r\n\r\n", "405", "MethodNotAllowed"},
		"unknown method":              {"BREW /x HTTP/1.1\r\nHost: a\r\n\r\n", "405", "MethodNotAllowed"},
		"CONNECT":                     {"CONNECT a:1 HTTP/1.1\r\nHost: a:1\r\n\r\n", "405", "MethodNotAllowed"},
		"no auth":                     {"GET / HTTP/1.1\r\nHost: a\r\n\r\n", "403", "AccessDenied"},
		"absolute form, foreign host": {strings.Replace(wire(h.signed("GET", "/raw"), ""), "GET /raw", "GET http://raw.localhost/raw", 1), "403", "SignatureDoesNotMatch"},
		"absolute form, same host":    {strings.Replace(wire(h.signed("GET", "/raw"), ""), "GET /raw", "GET http://"+host+"/raw", 1), "200", ""},
		"two dates":                   {wire(put(), "a", "X-Amz-Date: 20200101T000000Z", "Content-Length: 1"), "400", "InvalidRequest"},
		"two authorizations":          {wire(put(), "a", "Authorization: AWS4-HMAC-SHA256 x", "Content-Length: 1"), "400", "InvalidRequest"},
		"bad chunk":                   {wire(put("X-Amz-Content-Sha256: STREAMING-UNSIGNED-PAYLOAD-TRAILER", "X-Amz-Decoded-Content-Length: 1"), "-1\r\na\r\n0\r\n\r\n", "Transfer-Encoding: chunked"), "400", "IncompleteBody"},
	} {
		out := h.raw(c.in)
		if !strings.HasPrefix(out, "HTTP/1.1 "+c.status+" ") || (answer{body: out}).code() != c.code {
			t.Errorf("%s: want %s %s, got\n%s", name, c.status, c.code, out)
		}
		if strings.Count(out, "HTTP/1.1 ") != 1 {
			t.Errorf("%s: more than one answer:\n%s", name, out)
		}
	}
	h.want(h.do("GET", "/raw/x", ""), 404, "NoSuchKey")
}

func TestExpectContinueWithBadAuth(t *testing.T) {
	h := open(t)
	h.bucket("raw")
	r := h.signed("PUT", "/raw/x", "Expect: 100-continue")
	r.Header.Set("Authorization", r.Header.Get("Authorization")[:200]+"0000")
	out := h.raw(wire(r, "", "Content-Length: 1000000"))
	if !strings.HasPrefix(out, "HTTP/1.1 403 ") {
		t.Error(out)
	}
}

func TestExpectContinueWithEmptyBody(t *testing.T) {
	h := open(t)
	h.bucket("raw")
	out := h.raw(wire(h.signed("PUT", "/raw/empty", "Expect: 100-continue"), "", "Content-Length: 0"))
	if !strings.HasPrefix(out, "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 ") {
		t.Error(out)
	}
}

func TestIdleBody(t *testing.T) {
	h := open(t, func(c *s3api.Config) { c.BodyIdle = 50 * time.Millisecond })
	h.bucket("idle")
	c, err := net.Dial("tcp", h.addr)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	_, _ = io.WriteString(c, wire(h.signed("PUT", "/idle/x"), "abc", "Content-Length: 100"))
	_ = c.SetReadDeadline(time.Now().Add(10 * time.Second))
	out, _ := io.ReadAll(bufio.NewReader(c))
	if !strings.HasPrefix(string(out), "HTTP/1.1 400 ") || (answer{body: string(out)}).code() != "RequestTimeout" {
		t.Errorf("%s", out)
	}
}

// A body that comes, but too slowly, is ended like one that does not; one that comes
// at the least pace is not.
func TestTricklingBody(t *testing.T) {
	for _, c := range []struct {
		rate int64
		want string
	}{{1 << 20, "HTTP/1.1 400 "}, {1, "HTTP/1.1 200 "}} {
		h := open(t, func(c2 *s3api.Config) { c2.BodyIdle, c2.BodyRate = 300*time.Millisecond, c.rate })
		h.bucket("slow")
		conn, err := net.Dial("tcp", h.addr)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		_, _ = io.WriteString(conn, wire(h.signed("PUT", "/slow/x"), "", "Content-Length: 30"))
		for range 30 {
			time.Sleep(20 * time.Millisecond) // the client really is this slow
			if _, err := io.WriteString(conn, "x"); err != nil {
				break // the server has hung up, and has said why
			}
		}
		_ = conn.SetReadDeadline(time.Now().Add(10 * time.Second))
		line, err := bufio.NewReader(conn).ReadString('\n')
		if !strings.HasPrefix(line, c.want) {
			t.Errorf("%d bytes a second: %q, %v", c.rate, line, err)
		}
	}
}

// interrupting is a store that ends the bodies that it reads, because it has no room for
// their pace if it says so.
type interrupting struct {
	s3api.Objects
	noRoom bool
}

func (o interrupting) PutObject(ctx context.Context, r s3api.PutRequest) (metadata.Version, error) {
	go r.Body.(interface{ Interrupt() }).Interrupt() // beside the read
	v, err := o.Objects.PutObject(ctx, r)
	if o.noRoom {
		err = fmt.Errorf("%w: %v", s3api.ErrSlowDown, err)
	}
	return v, err
}

// A body that its reader interrupts ends as one that is idle, or with what its reader says
// if that was not the body's fault.
func TestInterruptedBody(t *testing.T) {
	for _, c := range []struct {
		noRoom       bool
		status, code string
	}{{false, "400", "RequestTimeout"}, {true, "503", "SlowDown"}} {
		for _, mode := range []string{"UNSIGNED-PAYLOAD", "STREAMING-UNSIGNED-PAYLOAD-TRAILER"} {
			h := open(t, func(cfg *s3api.Config) { cfg.Objects = interrupting{cfg.Objects, c.noRoom} })
			h.bucket("slow")
			conn, err := net.Dial("tcp", h.addr)
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			r := h.signed("PUT", "/slow/x", "X-Amz-Content-Sha256: "+mode, "X-Amz-Decoded-Content-Length: 50")
			_, _ = io.WriteString(conn, wire(r, "abc", "Content-Length: 100"))
			_ = conn.SetReadDeadline(time.Now().Add(10 * time.Second))
			out, _ := io.ReadAll(conn)
			if !strings.HasPrefix(string(out), "HTTP/1.1 "+c.status+" ") || (answer{body: string(out)}).code() != c.code {
				t.Errorf("%v, %s: %s", c.noRoom, mode, out)
			}
		}
	}
}

// A commit that takes longer than the body's idle time is not cut off.
func TestSlowHouseIsNotIdle(t *testing.T) {
	h := open(t, func(c *s3api.Config) { c.BodyIdle = 30 * time.Millisecond })
	h.bucket("slow")
	h.memory.Hook = func(op, _, _ string) error {
		if op == "PutObject" {
			time.Sleep(150 * time.Millisecond) // the house really works this long
		}
		return nil
	}
	h.want(h.do("PUT", "/slow/x", "data"), 200, "")
}

// breaking fails after some bytes.
type breaking struct {
	io.ReadCloser
	after int
}

func (b *breaking) Read(p []byte) (int, error) {
	if b.after <= 0 {
		return 0, io.ErrUnexpectedEOF
	}
	n, err := b.ReadCloser.Read(p[:min(len(p), b.after)])
	b.after -= n
	return n, err
}

func TestGetThatFails(t *testing.T) {
	h := open(t)
	h.bucket("broken")
	h.want(h.do("PUT", "/broken/x", string(blob(1<<20))), 200, "")
	h.memory.BreakRead = func(r io.ReadCloser) io.ReadCloser { return &breaking{r, 300_000} }
	r := h.signed("GET", "/broken/x")
	resp, err := http.DefaultTransport.RoundTrip(r)
	if err != nil {
		t.Fatal(err)
	}
	b, err := io.ReadAll(resp.Body)
	resp.Body.Close()
	if err == nil || len(b) > 300_000 {
		t.Errorf("a broken stream ended well after %d bytes", len(b))
	}
	h.memory.BreakRead = func(r io.ReadCloser) io.ReadCloser { return &breaking{r, 0} }
	h.want(h.do("GET", "/broken/x", ""), 500, "InternalError")
	h.memory.BreakRead = func(r io.ReadCloser) io.ReadCloser { return io.NopCloser(io.LimitReader(r, 10)) }
	if resp, err = http.DefaultTransport.RoundTrip(h.signed("GET", "/broken/x")); err == nil {
		_, err = io.ReadAll(resp.Body)
		resp.Body.Close()
	}
	if err == nil {
		t.Error("a short stream ended well")
	}
}
