package s3api_test

import (
	"bytes"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// TestSmuggling: section 4b, rows 1 to 6, as one stream: bytes that one reader of a
// request takes for its body and another for the next request are never answered as a
// request of their own, directly and behind a proxy that keeps its connections.
func TestSmuggling(t *testing.T) {
	h := open(t)
	h.bucket("smuggle")
	h.want(h.do("PUT", "/smuggle/secret", "hidden"), 200, "")
	to, err := url.Parse(h.url)
	if err != nil {
		t.Fatal(err)
	}
	var sent, seen atomic.Int64
	forward := httputil.NewSingleHostReverseProxy(to)
	forward.ErrorLog = log.New(io.Discard, "", 0)
	forward.Transport = counted{&sent}
	proxy := httptest.NewServer(forward)
	t.Cleanup(proxy.Close)
	door := h.server.Config.Handler
	h.server.Config.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		seen.Add(1)
		door.ServeHTTP(w, r)
	})
	inner := wire(h.signed("GET", "/smuggle/secret"), "")
	head := wire(h.signed("PUT", "/smuggle/x"), "")
	head = strings.TrimSuffix(head, "\r\n")
	for name, request := range map[string]string{
		"length and chunked": head + fmt.Sprintf("Content-Length: %d\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 5+len(inner)) + inner,
		"two lengths":        head + fmt.Sprintf("Content-Length: 0\r\nContent-Length: %d\r\n\r\n", len(inner)) + inner,
		"chunked twice":      head + "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n\r\n0\r\n\r\n" + inner,
		"space before colon": head + "Content-Length : 0\r\n\r\n" + inner,
		"chunked, HTTP/1.0":  strings.Replace(head, "HTTP/1.1", "HTTP/1.0", 1) + "Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n" + inner,
		"bare line feed":     head + "Transfer-Encoding: chunked\r\n\r\n0\n\n" + inner,
	} {
		got := exchange(t, h.addr, request)
		if n := strings.Count(got, "HTTP/1."); n != 1 || strings.Contains(got, "hidden") {
			t.Errorf("%s: %d answers: %.300s", name, n, got)
		}
		sent.Store(0)
		seen.Store(0)
		exchange(t, proxy.Listener.Addr().String(), request)
		if seen.Load() > sent.Load() {
			t.Errorf("%s: the proxy sent %d requests, %d came", name, sent.Load(), seen.Load())
		}
	}
	if a := h.do("GET", "/smuggle/secret", ""); a.body != "hidden" {
		t.Errorf("%d %s", a.StatusCode, a.body)
	}
}

// TestSmugglingPreflight: a preflight is answered before anything is verified, and has no
// body that a proxy could have measured in another way.
func TestSmugglingPreflight(t *testing.T) {
	h := open(t)
	h.bucket("smuggle")
	h.want(h.do("PUT", "/smuggle/secret", "hidden"), 200, "")
	h.want(h.do("PUT", "/smuggle?cors", "<CORSConfiguration><CORSRule><AllowedOrigin>*</AllowedOrigin><AllowedMethod>GET</AllowedMethod></CORSRule></CORSConfiguration>"), 200, "")
	inner := wire(h.signed("GET", "/smuggle/secret"), "")
	got := exchange(t, h.addr, "OPTIONS /smuggle/x HTTP/1.1\r\nHost: "+h.addr+"\r\nOrigin: http://a\r\nAccess-Control-Request-Method: GET\r\n"+
		fmt.Sprintf("Content-Length: %d\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 5+len(inner))+inner)
	if n := strings.Count(got, "HTTP/1."); n != 1 || strings.Contains(got, "hidden") {
		t.Errorf("%d answers: %.300s", n, got)
	}
}

// counted counts the requests that go on their way.
type counted struct{ n *atomic.Int64 }

func (c counted) RoundTrip(r *http.Request) (*http.Response, error) {
	c.n.Add(1)
	return http.DefaultTransport.RoundTrip(r)
}

// exchange sends bytes, half-closes once there is an answer or none will come without it,
// and answers all that comes back. To a server a client that closes early is one that has
// gone, and what it asked for may be given up.
func exchange(t *testing.T, address, request string) string {
	t.Helper()
	c, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(10 * time.Second))
	_, _ = io.WriteString(c, request) // the server may close before the end
	answered, done := make(chan struct{}), make(chan struct{})
	var out bytes.Buffer
	go func() {
		defer close(done)
		first := make([]byte, 1)
		n, err := c.Read(first)
		close(answered)
		out.Write(first[:n])
		if err == nil {
			_, _ = io.Copy(&out, c)
		}
	}()
	early := 20 * time.Millisecond
	if os.Getenv(runningRegion) != "" {
		early = time.Second
	}
	select {
	case <-answered:
	case <-time.After(early):
	}
	_ = c.(*net.TCPConn).CloseWrite()
	<-done
	return out.String()
}
