package s3api_test

import (
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"bivalve/s3api"
	"bivalve/s3api/s3test"
)

// sink is an http.ResponseWriter that keeps nothing.
type sink struct {
	h      http.Header
	status int
}

func (s *sink) Header() http.Header              { return s.h }
func (s *sink) Write(p []byte) (int, error)      { return len(p), nil }
func (s *sink) WriteHeader(status int)           { s.status = status }
func (s *sink) SetReadDeadline(time.Time) error  { return nil }
func (s *sink) SetWriteDeadline(time.Time) error { return nil }

// BenchmarkHandler is the cost of the door alone, without the socket.
func BenchmarkHandler(b *testing.B) {
	m := s3test.NewMemory()
	signer := s3test.Signer{AccessKey: "AK", SecretKey: "SK", Region: "us-east-1", Time: time.Now()}
	h, err := s3api.New(s3api.Config{Buckets: m, Settings: m, Objects: m, Lister: m, Uploads: m, Copier: m, Sealed: m, Credentials: signer})
	if err != nil {
		b.Fatal(err)
	}
	if _, err := m.CreateBucket(ctx, "bench"); err != nil {
		b.Fatal(err)
	}
	for _, size := range []int{4 << 10, 1 << 20} {
		body := string(blob(size))
		for _, method := range []string{"PUT", "GET"} {
			b.Run(method+"/"+map[int]string{4 << 10: "4KiB", 1 << 20: "1MiB"}[size], func(b *testing.B) {
				r, _ := http.NewRequest(method, "http://host/bench/x", nil)
				signer.Sign(r)
				r.RequestURI = "/bench/x"
				if method == "PUT" {
					r.ContentLength = int64(size)
				}
				w := &sink{h: http.Header{}}
				b.SetBytes(int64(size))
				b.ReportAllocs()
				for b.Loop() {
					r.Body = io.NopCloser(strings.NewReader(body[:r.ContentLength]))
					clear(w.h)
					h.ServeHTTP(w, r)
					if w.status != 200 {
						b.Fatal(w.status)
					}
				}
			})
		}
	}
}

// BenchmarkSmallObjects is 16 clients over sockets with 4 KiB each.
func BenchmarkSmallObjects(b *testing.B) {
	h := open(&testing.T{})
	defer h.server.Close()
	if _, err := h.memory.CreateBucket(ctx, "bench"); err != nil {
		b.Fatal(err)
	}
	tr := &http.Transport{MaxIdleConnsPerHost: 16}
	defer tr.CloseIdleConnections()
	body := string(blob(4 << 10))
	var wg sync.WaitGroup
	work := make(chan int)
	for range 16 {
		wg.Go(func() {
			for i := range work {
				m := "PUT"
				if i%2 == 1 {
					m = "GET"
				}
				r, _ := http.NewRequest(m, h.server.URL+"/bench/x", strings.NewReader(body))
				if m == "GET" {
					r, _ = http.NewRequest(m, h.server.URL+"/bench/x", nil)
				}
				h.signer.Sign(r)
				resp, err := tr.RoundTrip(r)
				if err != nil {
					b.Error(err)
					return
				}
				_, _ = io.Copy(io.Discard, resp.Body)
				resp.Body.Close()
			}
		})
	}
	n := 0
	for b.Loop() {
		work <- n
		n++
	}
	close(work)
	wg.Wait()
	b.ReportMetric(float64(n)/b.Elapsed().Seconds(), "ops/s")
}
