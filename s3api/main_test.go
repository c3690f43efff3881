package s3api_test

import (
	"bytes"
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"go.uber.org/goleak"

	"bivalve/s3api"
	"bivalve/s3api/s3test"
)

func TestMain(m *testing.M) {
	if os.Getenv(runningRegion) != "" {
		os.Exit(m.Run()) // connections that a test leaves open end with the server, which goes on
	}
	goleak.VerifyTestMain(m)
}

// house is a door before a memory store, served over a real socket; or that of a region
// that runs, and then it has neither memory nor server.
type house struct {
	*testing.T
	memory *s3test.Memory
	signer s3test.Signer
	server *httptest.Server
	url    string // of the door
	addr   string // host:port of it
}

func open(t *testing.T, change ...func(*s3api.Config)) *house {
	t.Helper()
	h := &house{T: t, signer: s3test.Signer{AccessKey: "AKIDEXAMPLE", SecretKey: "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY",
		Region: "us-east-1", Time: time.Now()}}
	if h.openRunning() {
		if len(change) > 0 {
			t.Skip("wants a door of its own making")
		}
		t.Cleanup(http.DefaultClient.CloseIdleConnections)
		return h
	}
	h.memory = s3test.NewMemory()
	cfg := s3api.Config{Buckets: h.memory, Settings: h.memory, Objects: h.memory, Lister: h.memory, Uploads: h.memory, Copier: h.memory, Sealed: h.memory, Credentials: h.signer, Domains: []string{"s3.example.com"}}
	for _, f := range change {
		f(&cfg)
	}
	handler, err := s3api.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	h.server = httptest.NewUnstartedServer(handler)
	h.server.Config = s3api.NewServer("", handler, nil)
	h.server.Start()
	h.url, h.addr = h.server.URL, h.server.Listener.Addr().String()
	t.Cleanup(func() {
		h.server.Close()
		http.DefaultClient.CloseIdleConnections()
	})
	return h
}

// answer is a whole response.
type answer struct {
	*http.Response
	body string
}

// request makes a request; target is path and query as they go over the wire,
// headers are "Name: value".
func (h *house) request(method, target, body string, headers ...string) *http.Request {
	h.Helper()
	r, err := http.NewRequest(method, h.url+target, strings.NewReader(body))
	if err != nil {
		h.Fatal(err)
	}
	for _, l := range headers {
		name, value, _ := strings.Cut(l, ": ")
		r.Header.Add(name, value)
	}
	return r
}

func (h *house) send(r *http.Request) answer {
	h.Helper()
	resp, err := http.DefaultTransport.RoundTrip(r)
	if err != nil {
		h.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		h.Fatal(err)
	}
	return answer{resp, string(b)}
}

// do signs and sends.
func (h *house) do(method, target, body string, headers ...string) answer {
	h.Helper()
	r := h.request(method, target, body, headers...)
	h.signer.Sign(r)
	return h.send(r)
}

// code is the S3 error code in the body.
func (a answer) code() string { return a.element("Code") }

func (a answer) element(name string) string {
	_, rest, ok := strings.Cut(a.body, "<"+name+">")
	if !ok {
		return ""
	}
	v, _, _ := strings.Cut(rest, "</"+name+">")
	return v
}

func (h *house) want(a answer, status int, code string) {
	h.Helper()
	if a.StatusCode != status || a.code() != code {
		h.Errorf("%s %s: %d %q, want %d %q\n%s", a.Request.Method, a.Request.URL, a.StatusCode, a.code(), status, code, a.body)
	}
	if code != "" && a.Request.Method != "HEAD" && a.element("RequestId") == "" {
		h.Errorf("error without RequestId: %s", a.body)
	}
	if a.Header.Get("X-Amz-Request-Id") == "" {
		h.Error("answer without x-amz-request-id")
	}
}

func (h *house) bucket(name string) {
	h.Helper()
	h.want(h.do("PUT", "/"+name, ""), 200, "")
}

// sdk is a client with default settings.
func (h *house) sdk() *s3.Client {
	return s3.New(s3.Options{BaseEndpoint: aws.String(h.url), Region: "us-east-1", UsePathStyle: true,
		RequestChecksumCalculation: aws.RequestChecksumCalculationWhenSupported, ResponseChecksumValidation: aws.ResponseChecksumValidationWhenSupported,
		Credentials: credentials.NewStaticCredentialsProvider(h.signer.AccessKey, h.signer.SecretKey, "")})
}

func must[T any](t *testing.T) func(v T, err error) T {
	return func(v T, err error) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

var ctx = context.Background()

func blob(n int) []byte { return bytes.Repeat([]byte("0123456789abcdef"), n/16+1)[:n] }
