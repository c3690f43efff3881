package s3api_test

import (
	"io"
	"net"
	"net/http/httptest"
	"strings"
	"testing"
	"time"
)

func TestBadInputHTTP(t *testing.T) {
	p := openWatched(t)
	put := func(headers ...string) string {
		return strings.TrimSuffix(wire(p.signed("PUT", "/bad/x", headers...), ""), "\r\n")
	}
	unsignedFrames := put("X-Amz-Content-Sha256: STREAMING-UNSIGNED-PAYLOAD-TRAILER", "X-Amz-Decoded-Content-Length: 1") + "Transfer-Encoding: chunked\r\n\r\n"
	for _, c := range []struct{ row, in, status, code string }{
		{"2 abc", put() + "Content-Length: abc\r\n\r\n", "400", ""},
		{"2 empty", put() + "Content-Length: \r\n\r\n", "400", ""},
		{"4 xchunked", put() + "Transfer-Encoding: xchunked\r\n\r\n", "501", ""},
		{"5 bare line feed", unsignedFrames + "1\na\n0\n\n", "400", "IncompleteBody"},
		{"5 overflow", unsignedFrames + "ffffffffffffffffff\r\na\r\n0\r\n\r\n", "400", "IncompleteBody"},
		{"5 signed without x-amz", put() + "Transfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\n\r\n", "501", "NotImplemented"},
		{"6 control in a header", "GET / HTTP/1.1\r\nHost: a\r\nX: b\x01\r\n\r\n", "400", ""},
		{"12 control in metadata", "PUT /bad/x HTTP/1.1\r\nHost: a\r\nX-Amz-Meta-A: b\x07\r\n\r\n", "400", ""},
		{"13 internal", put("X-Bivalve-Internal-Sse-Key: a") + "Content-Length: 1\r\n\r\na", "400", "InvalidRequest"},
		{"13 replication", put("X-Amz-Replication-Status: REPLICA") + "Content-Length: 1\r\n\r\na", "501", "NotImplemented"},
		{"34 grant", put("X-Amz-Grant-Read: id=1") + "Content-Length: 1\r\n\r\na", "400", "AccessControlListNotSupported"},
		{"101 header of another route", put("X-Amz-Copy-Source-Range: bytes=0-1") + "Content-Length: 1\r\n\r\na", "501", "NotImplemented"},
		{"G6 two content types", put() + "Content-Type: a\r\nContent-Type: b\r\nContent-Length: 1\r\n\r\na", "400", "InvalidRequest"},
		{"G6 two ranges", strings.TrimSuffix(wire(p.signed("GET", "/bad/x"), ""), "\r\n") + "Range: bytes=0-1\r\nRange: bytes=1-2\r\n\r\n", "400", "InvalidRequest"},
		{"G6 folded date", strings.Replace(put(), "X-Amz-Date: ", "X-Amz-Date: 20200101T000000Z\r\n ", 1) + "Content-Length: 1\r\n\r\na", "403", "AccessDenied"},
		{"20 preface of HTTP/2", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "405", "MethodNotAllowed"},
	} {
		p.refusedRaw(c.row, p.raw(c.in), c.status, c.code)
	}
}

// Row 17: a header that trickles is cut off.
func TestBadInputSlowHeader(t *testing.T) {
	p := openWatched(t)
	if p.server.Config.ReadHeaderTimeout > 10*time.Second || p.server.Config.ReadHeaderTimeout <= 0 {
		t.Errorf("a header may take %s", p.server.Config.ReadHeaderTimeout)
	}
	hasty := httptest.NewUnstartedServer(p.server.Config.Handler)
	hasty.Config.ReadHeaderTimeout = 50 * time.Millisecond
	hasty.Start()
	defer hasty.Close()
	c, err := net.Dial("tcp", hasty.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if _, err := io.WriteString(c, "GET / HTTP/1.1\r\nHost: a\r\nX: "); err != nil {
		t.Fatal(err)
	}
	_ = c.SetReadDeadline(time.Now().Add(10 * time.Second))
	if out, err := io.ReadAll(c); err != nil {
		t.Errorf("the connection stays open: %v, %q", err, out)
	}
}

func TestBadInputQuery(t *testing.T) {
	p := openWatched(t)
	for _, c := range []struct {
		row, method, target string
		status              int
		code                string
	}{
		{"114 twice", "GET", "/bad?prefix=a&prefix=b", 400, "InvalidArgument"},
		{"114 acl twice", "GET", "/bad?acl&acl", 400, "InvalidArgument"},
		{"114 semicolon", "GET", "/bad?acl;x", 400, "InvalidURI"},
		{"114 bad escape", "GET", "/bad/x?versionId=%zz", 400, "InvalidURI"},
		{"101 select", "POST", "/bad/x?select&select-type=2", 501, "NotImplemented"},
		{"101 torrent", "GET", "/bad/x?torrent", 501, "NotImplemented"},
		{"101 unknown, PUT", "PUT", "/bad/x?foo", 501, "NotImplemented"},
		{"101 unknown, DELETE", "DELETE", "/bad/x?foo=1", 501, "NotImplemented"},
		{"101 other case", "PUT", "/bad?ACL", 501, "NotImplemented"},
		{"112 negative", "GET", "/bad?max-keys=-1", 400, "InvalidArgument"},
		{"112 letters", "GET", "/bad?list-type=2&max-keys=abc", 400, "InvalidArgument"},
		{"112 uploads", "GET", "/bad?uploads&max-uploads=x", 400, "InvalidArgument"},
		{"113 forged", "GET", "/bad?list-type=2&continuation-token=1AAAAAAAAAAAAAAAA", 400, "InvalidArgument"},
		{"113 empty", "GET", "/bad?list-type=2&continuation-token=", 400, "InvalidArgument"},
		{"113 junk", "GET", "/bad?list-type=2&continuation-token=%2F..%2F", 400, "InvalidArgument"},
		{"113 encoding-type", "GET", "/bad?encoding-type=xml", 400, "InvalidArgument"},
		{"113 list-type", "GET", "/bad?list-type=3", 400, "InvalidArgument"},
		{"113 delimiter", "GET", "/bad?delimiter=" + strings.Repeat("d", 1024), 400, "InvalidArgument"},
		{"113 fetch-owner", "GET", "/bad?list-type=2&fetch-owner=maybe", 400, "InvalidArgument"},
		{"12 response override", "GET", "/bad/x?response-content-type=a%0D%0AX%3Ab", 400, "InvalidArgument"},
	} {
		p.refused(c.row, p.do(c.method, c.target, ""), c.status, c.code)
	}
}

// Row 113: a token of one bucket opens nothing in another.
func TestBadInputForeignToken(t *testing.T) {
	p := openWatched(t)
	p.bucket("other")
	for _, k := range []string{"a", "b"} {
		p.want(p.do("PUT", "/other/"+k, ""), 200, "")
	}
	token := p.do("GET", "/other?list-type=2&max-keys=1", "").element("NextContinuationToken")
	if token == "" {
		t.Fatal("no token")
	}
	p.before = p.fingerprint()
	p.refused("113 other bucket", p.do("GET", "/bad?list-type=2&continuation-token="+token, ""), 400, "InvalidArgument")
}
